"""Resizing to a part of a grid, against Pillow's bilinear filter."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rawisp.data.synth.sampling import sampled


@pytest.mark.parametrize("size", [(20, 30), (40, 60), (33, 47), (7, 11), (2, 2), (2, 90)])
@pytest.mark.parametrize("phase", [(0, 0), (0, 1), (1, 0)])
def test_every_second_pixel_of_what_pillow_makes(
    size: tuple[int, int], phase: tuple[int, int]
) -> None:
    plane = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    whole = np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR))
    site = tuple(slice(p, None, 2) for p in phase)
    assert sampled(plane, *size, *site) == pytest.approx(whole[site], abs=1e-6)


def test_one_pixel_fills_any_size() -> None:
    assert (sampled(np.full((1, 1), 3, np.float32), 4, 6) == 3).all()
