"""The packing kernels against a twin that is written out one sample at a time in float64."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rawisp.kernels import bayer

Array = npt.NDArray[Any]


def twin(mosaic: Array, black: Array, weights: Array) -> Array:
    """(H // 2, W // 2, 3) float64, each number from its formula."""
    rows, columns = mosaic.shape[0] // 2, mosaic.shape[1] // 2
    out = np.zeros((rows, columns, 3))
    for y in range(rows):
        for x in range(columns):
            for k in range(3):
                for position, (dy, dx) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
                    sample = float(mosaic[2 * y + dy, 2 * x + dx])
                    out[y, x, k] += float(weights[k, position]) * (sample - float(black[position]))
    return out


def inputs(height: int, width: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """(mosaic, black, weights), all different, the samples over the whole of uint16."""
    rng = np.random.default_rng(seed)
    mosaic = rng.integers(0, 65536, (height, width)).astype(np.uint16)
    black = np.array([800.0, 810.5, 790.25, 777.0], np.float32)
    weights = (rng.normal(size=(3, 4)) / 15000).astype(np.float32)
    return mosaic, black, weights


LAYOUTS = {
    "planar": (bayer.pack_planar, lambda out: np.moveaxis(out, 0, -1), lambda h, w: (3, h, w)),
    "interleaved": (bayer.pack_interleaved, lambda out: out, lambda h, w: (h, w, 3)),
}


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS.keys())
def layout(request: pytest.FixtureRequest) -> tuple[Callable[..., None], Callable[..., Any], Any]:
    """(kernel, its output as (H, W, 3), its output's shape)."""
    result: tuple[Callable[..., None], Callable[..., Any], Any] = request.param
    return result


@pytest.mark.parametrize("width", [2, 3, 4, 6, 8, 15, 16, 17, 30, 33, 62, 64, 66])
def test_every_width_around_the_vector_length_equals_the_twin(layout: Any, width: int) -> None:
    kernel, as_hwc, shape = layout
    mosaic, black, weights = inputs(7, width, seed=width)
    out = np.full(shape(3, width // 2), np.nan, np.float32)
    kernel(mosaic, black, weights, out, 0, 3)
    np.testing.assert_allclose(as_hwc(out), twin(mosaic, black, weights), atol=3e-6)


@hypothesis_settings(max_examples=40)
@given(
    height=st.integers(2, 12),
    width=st.integers(2, 24),
    seed=st.integers(0, 10**6),
    edges=st.tuples(st.integers(0, 6), st.integers(0, 6)),
)
def test_only_the_asked_rows_are_written(
    layout: Any, height: int, width: int, seed: int, edges: tuple[int, int]
) -> None:
    kernel, as_hwc, shape = layout
    rows = height // 2
    first, last = sorted(min(edge, rows) for edge in edges)
    mosaic, black, weights = inputs(height, width, seed)
    out = np.full(shape(rows, width // 2), -77.0, np.float32)
    kernel(mosaic, black, weights, out, first, last)
    expected = np.full((rows, width // 2, 3), -77.0)
    expected[first:last] = twin(mosaic, black, weights)[first:last]
    np.testing.assert_allclose(as_hwc(out), expected, atol=3e-6)


def test_row_ranges_put_together_equal_one_run_bit_for_bit(layout: Any) -> None:
    kernel, _, shape = layout
    mosaic, black, weights = inputs(21, 37)
    whole, parts = (np.empty(shape(10, 18), np.float32) for _ in range(2))
    kernel(mosaic, black, weights, whole, 0, 10)
    for first, last in [(7, 10), (0, 1), (1, 7), (4, 4)]:
        kernel(mosaic, black, weights, parts, first, last)
    assert np.array_equal(whole, parts)


def test_both_layouts_are_bit_for_bit_equal() -> None:
    mosaic, black, weights = inputs(40, 62)
    planar, interleaved = np.empty((3, 20, 31), np.float32), np.empty((20, 31, 3), np.float32)
    bayer.pack_planar(mosaic, black, weights, planar, 0, 20)
    bayer.pack_interleaved(mosaic, black, weights, interleaved, 0, 20)
    assert np.array_equal(np.moveaxis(planar, 0, -1), interleaved)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [(0, -512.0), (511, -1.0), (512, 0.0), (513, 1.0), (65535, 65023.0)],
    ids=["zero", "one below black", "black", "one above black", "largest uint16"],
)
def test_samples_below_black_do_not_wrap(layout: Any, sample: int, expected: float) -> None:
    kernel, as_hwc, shape = layout
    mosaic = np.full((2, 2), sample, np.uint16)
    weights = np.zeros((3, 4), np.float32)
    weights[0, 0] = weights[1, 1] = weights[2, 3] = 1.0
    out = np.empty(shape(1, 1), np.float32)
    kernel(mosaic, np.full(4, 512.0, np.float32), weights, out, 0, 1)
    assert as_hwc(out).ravel().tolist() == [expected] * 3


def test_each_weight_belongs_to_one_output_and_one_position(layout: Any) -> None:
    kernel, as_hwc, shape = layout
    mosaic = np.array([[1, 10], [100, 1000]], np.uint16)
    for k in range(3):
        for position, sample in enumerate([1, 10, 100, 1000]):
            weights = np.zeros((3, 4), np.float32)
            weights[k, position] = 1.0
            out = np.empty(shape(1, 1), np.float32)
            kernel(mosaic, np.zeros(4, np.float32), weights, out, 0, 1)
            expected = [0.0, 0.0, 0.0]
            expected[k] = float(sample)
            assert as_hwc(out).ravel().tolist() == expected


def test_the_folder_cannot_be_imported_under_its_bare_name(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import kernels.bayer"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "import rawisp.kernels, not kernels" in done.stderr
