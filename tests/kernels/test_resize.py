"""The shrinking kernels against twins that add one tap at a time in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rawisp.kernels import resize

Array = npt.NDArray[Any]


def twin_columns(source: Array, starts: Array, weights: Array) -> Array:
    """(C, H, w) float64."""
    channels, rows, _ = source.shape
    out = np.zeros((channels, rows, len(starts)))
    for c in range(channels):
        for y in range(rows):
            for x, first in enumerate(starts):
                for t, weight in enumerate(weights[x]):
                    out[c, y, x] += float(weight) * float(source[c, y, first + t])
    return out


def twin_rows(source: Array, starts: Array, weights: Array) -> Array:
    """(C, h, W) float64."""
    return np.swapaxes(twin_columns(np.swapaxes(source, 1, 2), starts, weights), 1, 2)


def filter_of(rng: np.random.Generator, source: int, target: int, taps: int) -> tuple[Any, Any]:
    """Any starts and weights, some of them zero: kernels must not assume a triangle."""
    starts = rng.integers(0, source - taps + 1, target).astype(np.int64)
    weights = rng.normal(size=(target, taps)).astype(np.float32)
    weights[rng.random((target, taps)) < 0.3] = 0.0
    return starts, weights


sizes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))


@hypothesis_settings(max_examples=50)
@given(size=sizes, target=st.integers(1, 9), taps=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_rows_equal_the_twin(size: tuple[int, int, int], target: int, taps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = rng.normal(size=size).astype(np.float32)
    starts, weights = filter_of(rng, size[1], target, min(taps, size[1]))
    out = np.full((size[0], target, size[2]), np.nan, np.float32)
    resize.shrink_rows(source, starts, weights, out)
    np.testing.assert_allclose(out, twin_rows(source, starts, weights), atol=1e-5)


@hypothesis_settings(max_examples=50)
@given(size=sizes, target=st.integers(1, 9), taps=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_columns_equal_the_twin(
    size: tuple[int, int, int], target: int, taps: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    source = rng.normal(size=size).astype(np.float32)
    starts, weights = filter_of(rng, size[2], target, min(taps, size[2]))
    out = np.full((size[0], size[1], target), np.nan, np.float32)
    resize.shrink_columns(source, starts, weights, out)
    np.testing.assert_allclose(out, twin_columns(source, starts, weights), atol=1e-5)


def test_rows_and_columns_are_the_same_operation_on_the_transposed_image() -> None:
    rng = np.random.default_rng(3)
    source = rng.normal(size=(3, 12, 19)).astype(np.float32)
    starts, weights = filter_of(rng, 12, 5, 4)
    rows = np.empty((3, 5, 19), np.float32)
    columns = np.empty((3, 19, 5), np.float32)
    resize.shrink_rows(source, starts, weights, rows)
    turned = np.ascontiguousarray(np.swapaxes(source, 1, 2))
    resize.shrink_columns(turned, starts, weights, columns)
    np.testing.assert_allclose(rows, np.swapaxes(columns, 1, 2), atol=2e-6)


def test_one_tap_of_weight_one_copies_exactly() -> None:
    source = np.random.default_rng(1).normal(size=(2, 6, 7)).astype(np.float32)
    order = np.array([5, 0, 3], np.int64)
    ones = np.ones((3, 1), np.float32)
    rows, columns = np.empty((2, 3, 7), np.float32), np.empty((2, 6, 3), np.float32)
    resize.shrink_rows(source, order, ones, rows)
    resize.shrink_columns(source, order, ones, columns)
    assert np.array_equal(rows, source[:, order])
    assert np.array_equal(columns, source[:, :, order])
