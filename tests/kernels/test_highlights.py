"""Raising clipped colours against a twin in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rawisp.kernels import highlights

Array = npt.NDArray[Any]
NEUTRAL = np.array([0.41, 1.0, 0.69])
MATRIX = np.array([[0.7, 0.1, 0.05], [-0.3, 1.1, 0.25], [0.02, 0.2, 0.6]])
START, END = 0.95, 0.99


def twin(pixel: Array) -> Array:
    c = MATRIX @ pixel
    if c.max() <= START:
        return pixel
    w = c / NEUTRAL
    for k in range(3):
        t = min(max((c[k] - START) / (END - START), 0.0), 1.0)
        w[k] = (1 - t) * (c / NEUTRAL)[k] + t * (c / NEUTRAL).max()
    mended: Array = np.linalg.inv(MATRIX) @ (w * NEUTRAL)
    return mended


def mended(pixels: Array) -> tuple[Array, int]:
    """The kernel on (3, N)."""
    out = pixels.astype(np.float32)
    inverse = np.linalg.inv(MATRIX).astype(np.float32)
    count = highlights.raise_clipped(
        out, MATRIX.astype(np.float32), inverse, NEUTRAL.astype(np.float32), START, END
    )
    return out, count


def test_it_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    camera = rng.uniform(-0.1, 1.05, (3, 500))
    camera[:, :100] = rng.uniform(0.93, 1.0, (3, 100))
    pixels = np.linalg.inv(MATRIX) @ camera
    out, count = mended(pixels)
    expected = np.stack([twin(pixel) for pixel in pixels.T], axis=1)
    np.testing.assert_allclose(out, expected, atol=5e-6)
    assert count == int((camera.max(axis=0) >= END).sum())


def test_what_is_not_clipped_keeps_its_bits() -> None:
    rng = np.random.default_rng(1)
    pixels = (np.linalg.inv(MATRIX) @ rng.uniform(-0.1, 0.949, (3, 400))).astype(np.float32)
    out, count = mended(pixels)
    assert out.tobytes() == pixels.tobytes()
    assert count == 0


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        ([1.0, 1.0, 1.0], NEUTRAL / 0.41),  # everything clipped: white, as bright as red says
        ([0.533, 1.0, 0.897], 1.3 * NEUTRAL),  # a white sky of which green alone is clipped
        ([1.0, 0.2, 0.1], [1.0, 0.2, 0.1]),  # a red lamp: red was at least this bright
        ([0.3, 1.0, 0.5], [0.3, 1.0, 0.5]),  # a green one
    ],
)
def test_the_clipped_colour_becomes_white_where_it_can_be(camera: Any, expected: Any) -> None:
    out, _ = mended((np.linalg.inv(MATRIX) @ np.array(camera))[:, None])
    np.testing.assert_allclose(MATRIX @ out[:, 0], expected, atol=2e-5)


def test_strided_pixels_are_mended_as_contiguous_ones() -> None:
    rng = np.random.default_rng(2)
    interleaved = rng.uniform(0.5, 1.5, (50, 3)).astype(np.float32)
    planar, _ = mended(interleaved.T.copy())
    inverse = np.linalg.inv(MATRIX).astype(np.float32)
    highlights.raise_clipped(
        interleaved.T, MATRIX.astype(np.float32), inverse, NEUTRAL.astype(np.float32), START, END
    )
    np.testing.assert_array_equal(interleaved.T, planar)
