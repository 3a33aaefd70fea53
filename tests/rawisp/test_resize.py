"""Shrinking against PyTorch's antialiased bilinear interpolation and a twin in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rawisp.errors import InvalidArrayError
from rawisp.resize import shrink

Array = npt.NDArray[Any]


def matrix(source: int, target: int) -> Array:
    """(target, source) float64: a triangle around each output's centre, normalised row by row."""
    scale = source / target
    out = np.zeros((target, source))
    for i in range(target):
        centre = (i + 0.5) * scale
        for j in range(source):
            out[i, j] = max(0.0, 1.0 - abs(j + 0.5 - centre) / max(1.0, scale))
        out[i] /= out[i].sum()
    return out


def twin(image: Array, height: int, width: int) -> Array:
    down, across = matrix(image.shape[1], height), matrix(image.shape[2], width)
    return np.einsum("ij,cjk,lk->cil", down, image.astype(np.float64), across)


def noise(channels: int, height: int, width: int, seed: int = 0) -> Array:
    """Night-like: mean near zero, negative values, a few bright dots."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0.01, 0.02, (channels, height, width))
    image[rng.random(image.shape) < 0.01] += 2.0
    return image.astype(np.float32)


@st.composite
def shrinkings(draw: Any) -> tuple[tuple[int, int, int], int, int]:
    """(source shape, target height, target width)."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    shape = (draw(st.integers(1, 4)), height, width)
    return shape, draw(st.integers(1, height)), draw(st.integers(1, width))


@hypothesis_settings(max_examples=80)
@given(case=shrinkings(), seed=st.integers(0, 10**6))
def test_any_shrinking_equals_the_twin(case: Any, seed: int) -> None:
    shape, height, width = case
    image = noise(*shape, seed=seed)
    small = shrink(image, height, width)
    assert small.shape == (shape[0], height, width)
    assert small.dtype == np.float32
    np.testing.assert_allclose(small, twin(image, height, width), atol=2e-6)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((182, 273), (80, 120)),
        ((131, 197), (80, 120)),
        ((100, 150), (50, 75)),
        ((101, 151), (100, 150)),
        ((64, 99), (1, 1)),
        ((64, 99), (7, 99)),
        ((64, 99), (64, 13)),
        ((3, 3), (2, 2)),
    ],
    ids=lambda size: f"{size[1]}x{size[0]}",
)
def test_pytorch_agrees(source: tuple[int, int], target: tuple[int, int]) -> None:
    import torch

    image = noise(3, *source)
    # In float64: PyTorch's float32 taps are off by 2e-5 on such an image.
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(image.astype(np.float64))[None],
        size=target,
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[0].numpy()
    np.testing.assert_allclose(shrink(image, *target), theirs, atol=1e-6)


@hypothesis_settings(max_examples=40)
@given(case=shrinkings(), value=st.floats(-1.0, 4.0, width=32))
def test_a_constant_stays_constant_up_to_the_border(case: Any, value: float) -> None:
    shape, height, width = case
    small = shrink(np.full(shape, value, np.float32), height, width)
    np.testing.assert_allclose(small, value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("target", [(20, 30), (33, 47), (59, 89), (13, 7)])
def test_a_ramp_keeps_its_place_away_from_the_border(target: tuple[int, int]) -> None:
    """Pixel centres: output x + 1/2 sits at source (x + 1/2) * scale, with no half-pixel shift."""
    y, x = np.mgrid[0:60, 0:90] + 0.5
    small = shrink(np.stack([x, y]).astype(np.float32), *target)
    sy, sx = 60 / target[0], 90 / target[1]
    rows, columns = np.arange(target[0]) + 0.5, np.arange(target[1]) + 0.5
    inside_x = (columns * sx > sx) & (columns * sx < 90 - sx)
    inside_y = (rows * sy > sy) & (rows * sy < 60 - sy)
    # A sampled triangle's own centre wobbles by a fraction of a source pixel unless scale is whole.
    error = np.abs(small[0] - columns * sx)[:, inside_x].max()
    assert error < (1e-4 if sx == int(sx) else 0.13)
    error = np.abs(small[1] - (rows * sy)[:, None])[inside_y].max()
    assert error < (1e-4 if sy == int(sy) else 0.13)


@pytest.mark.parametrize("target", [(40, 60), (50, 75), (61, 83)])
def test_the_mean_is_kept(target: tuple[int, int]) -> None:
    image = np.random.default_rng(1).normal(0.0, 0.05, (3, 100, 150)).astype(np.float32)
    small = shrink(image, *target)
    assert abs(float(small.mean()) - float(image.mean())) < 5e-4
    assert float(small.min()) < 0, "negative noise is not clipped"


@hypothesis_settings(max_examples=30)
@given(case=shrinkings(), seed=st.integers(0, 10**6))
def test_mirroring_and_shrinking_commute(case: Any, seed: int) -> None:
    shape, height, width = case
    image = noise(*shape, seed=seed)
    mirrored = shrink(np.ascontiguousarray(image[:, ::-1, ::-1]), height, width)
    np.testing.assert_allclose(mirrored[:, ::-1, ::-1], shrink(image, height, width), atol=2e-6)


@pytest.mark.parametrize(
    "view",
    [lambda a: a[:, ::-1, ::2], lambda a: np.swapaxes(a, 1, 2), lambda a: np.moveaxis(a, 2, 0)],
    ids=["mirrored", "transposed", "channels last"],
)
def test_any_memory_order_gives_the_same(view: Any) -> None:
    image = view(noise(9, 20, 30))
    height, width = image.shape[1] // 2, image.shape[2] // 3
    np.testing.assert_allclose(shrink(image, height, width), twin(image, height, width), atol=2e-6)


def test_the_right_size_is_returned_as_it_is() -> None:
    image = noise(3, 8, 9)
    assert shrink(image, 8, 9) is image


def test_the_source_is_not_changed() -> None:
    image = noise(3, 20, 30)
    before = image.copy()
    shrink(image, 7, 11)
    assert np.array_equal(image, before)


@pytest.mark.parametrize(("height", "width"), [(9, 9), (8, 10), (20, 20), (0, 5), (5, 0), (-1, 5)])
def test_growing_or_vanishing_is_refused(height: int, width: int) -> None:
    with pytest.raises(InvalidArrayError, match="cannot shrink 9x8"):
        shrink(noise(3, 8, 9), height, width)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((3, 8, 9)),
        np.zeros((8, 9), np.float32),
        np.zeros((1, 3, 8, 9), np.float32),
        np.zeros((3, 8, 9), np.uint16),
    ],
    ids=["float64", "two dimensions", "four dimensions", "uint16"],
)
def test_a_wrong_image_is_named(image: Array) -> None:
    with pytest.raises(InvalidArrayError, match="image must be float32"):
        shrink(image, 4, 4)
