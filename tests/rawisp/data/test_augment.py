"""Augmentation: boxes stay on what they enclose, light changes as physics says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawisp.data.augment import AugmentSettings, augment, enlarged

STILL = AugmentSettings(flip=0, crop=0, exposure_stops=0, illuminant=0, noise=0)


def scene(box: tuple[int, int, int, int], height: int = 60, width: int = 80) -> np.ndarray:
    """Black, with a bright rectangle x1, y1, x2, y2."""
    image = np.zeros((3, height, width), np.float32)
    x1, y1, x2, y2 = box
    image[:, y1:y2, x1:x2] = 1.0
    return image


@given(seed=st.integers(0, 10_000))
def test_a_box_stays_on_its_rectangle(seed: int) -> None:
    box = (30, 20, 52, 41)
    settings = AugmentSettings(flip=0.5, crop=1.0, exposure_stops=0, illuminant=0)
    out = augment(scene(box), np.array([box], np.float32), np.random.default_rng(seed), settings)
    if not out.kept[0]:
        return
    rows = np.flatnonzero(out.image[0].max(axis=1) > 0.5)
    columns = np.flatnonzero(out.image[0].max(axis=0) > 0.5)
    bright = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert np.abs(out.boxes[0] - bright).max() <= 1.0


def test_nothing_is_done_when_nothing_is_asked() -> None:
    image = np.random.default_rng(0).random((3, 11, 13), dtype=np.float32)
    boxes = np.array([[1, 2, 5, 6]], np.float32)
    out = augment(image, boxes, np.random.default_rng(1), STILL)
    assert np.array_equal(out.image, image)
    assert np.array_equal(out.boxes, boxes)


def test_a_box_that_is_mostly_outside_is_left_out() -> None:
    settings = AugmentSettings(flip=0, crop=1.0, crop_scale=0.5, exposure_stops=0, illuminant=0)
    boxes = np.array([[0, 0, 4, 4], [76, 56, 80, 60]], np.float32)
    kept = [
        augment(scene((0, 0, 4, 4)), boxes, np.random.default_rng(n), settings).kept
        for n in range(60)
    ]
    assert any(not both.all() for both in kept)
    assert all(out.dtype == bool for out in kept)


def test_exposure_is_one_factor_in_linear_light() -> None:
    image = np.random.default_rng(0).random((3, 8, 8), dtype=np.float32)
    settings = AugmentSettings(flip=0, crop=0, exposure_stops=1.0, illuminant=0)
    none = np.zeros((0, 4), np.float32)
    ratios = [
        (augment(image, none, np.random.default_rng(n), settings).image / image) for n in range(30)
    ]
    for ratio in ratios:
        assert ratio.max() - ratio.min() < 1e-5
        assert 0.5 <= ratio.mean() <= 2.0
    assert max(r.mean() for r in ratios) > 1.6 and min(r.mean() for r in ratios) < 0.65


def test_the_illuminant_moves_z_most_and_leaves_y() -> None:
    image = np.ones((3, 4, 4), np.float32)
    settings = AugmentSettings(flip=0, crop=0, exposure_stops=0, illuminant=1.0)
    none = np.zeros((0, 4), np.float32)
    for n in range(20):
        x, y, z = augment(image, none, np.random.default_rng(n), settings).image[:, 0, 0]
        assert y == pytest.approx(1.0)
        assert (x > 1) == (z < 1)
        assert 0.32 < z < 3.1


def test_noise_grows_with_the_signal_and_keeps_the_mean() -> None:
    settings = AugmentSettings(flip=0, crop=0, exposure_stops=0, illuminant=0, noise=0.05)
    none = np.zeros((0, 4), np.float32)
    for n in range(5):
        dark, bright = (
            augment(np.full((3, 200, 200), v, np.float32), none, np.random.default_rng(n), settings)
            for v in (0.0, 0.5)
        )
        assert bright.image.std() / dark.image.std() == pytest.approx(np.sqrt(11), rel=0.05)
        assert abs(float(bright.image.mean()) - 0.5) < 0.01


def test_enlarging_is_pytorchs_bilinear() -> None:
    import torch

    image = np.random.default_rng(0).random((3, 7, 9), dtype=np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None], (13, 20), mode="bilinear", align_corners=False
    )[0].numpy()
    np.testing.assert_allclose(enlarged(image, 13, 20), expected, atol=1e-5)
