"""Batches depend on seed, epoch and step alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rawisp.data.augment import WHOLE, AugmentSettings, Window
from rawisp.data.prepared import PreparedImage
from rawisp.detect.categories import CategoryMap
from rawisp.train.loader import Loader

MAP = CategoryMap(("car", "dog"), np.array([3, -1]))


@pytest.fixture
def images(tmp_path: Path) -> list[PreparedImage]:
    found = []
    for n in range(7):
        path = tmp_path / f"{n}.npy"
        np.save(path, np.full((20, 30, 3), n / 100, np.float16))
        boxes = np.array([[1, 2, 11, 12], [5, 5, 20, 18], [0, 0, 9, 9]], np.float32)
        classes, ignore = np.array([0, 1, 0]), np.array([False, False, True])
        found.append(PreparedImage(str(n), f"{n}.ARW", str(path), (30, 20), boxes, classes, ignore))
    return found


def batches(images: list[PreparedImage], epoch: int = 0, first: int = 0, **settings: int) -> list:
    loader = Loader(images, MAP, AugmentSettings(noise=0.01), 3, seed=1, **settings)
    return list(loader.epoch(epoch, first))


def same(a: list, b: list) -> bool:
    return len(a) == len(b) and all(
        x.names == y.names
        and all(torch.equal(p, q) for p, q in zip(x.images, y.images, strict=True))
        for x, y in zip(a, b, strict=True)
    )


def test_every_image_comes_once_in_an_order_of_its_own(images: list[PreparedImage]) -> None:
    first, second = batches(images), batches(images, epoch=1)
    assert [len(b.images) for b in first] == [3, 3, 1]
    for one in (first, second):
        assert sorted(n for b in one for n in b.names) == sorted(i.source for i in images)
    assert [b.names for b in first] != [b.names for b in second]


def test_threads_and_interruptions_change_nothing(images: list[PreparedImage]) -> None:
    whole = batches(images)
    assert same(whole, batches(images, workers=5))
    assert same(whole[1:], batches(images, first=1))


def test_processes_share_a_batch(images: list[PreparedImage]) -> None:
    whole = batches(images)
    parts = [batches(images, rank=rank, world=2) for rank in range(2)]
    for n, batch in enumerate(whole):
        assert sorted(batch.names) == sorted(parts[0][n].names + parts[1][n].names)
    assert parts[1][2].images == []  # one image left for two processes


def test_only_boxes_that_the_detector_knows_are_targets(images: list[PreparedImage]) -> None:
    for batch in batches(images):
        for target in batch.targets:
            assert set(target.labels.tolist()) <= {3}
            assert len(target.boxes) == len(target.labels) <= 1


class Planted:
    """A photograph with a bright left half; its night is a tenth of it."""

    def by_day(self, window: Window = WHOLE) -> np.ndarray:
        picture = np.zeros((3, 20, 30), np.float32)
        picture[:, :, :15] = 1.0
        return np.ascontiguousarray(window.of(picture))

    def __call__(self, rng: np.random.Generator, window: Window = WHOLE) -> np.ndarray:
        return self.by_day(window) / 10


def test_the_photograph_by_day_moves_as_its_night_does(images: list[PreparedImage]) -> None:
    nights = [replace(image, darken=Planted()) for image in images]
    loader = Loader(nights, MAP, AugmentSettings(exposure_stops=0, illuminant=0), 3, 1, by_day=True)
    flipped = set()
    for epoch in range(3):
        for batch in loader.epoch(epoch):
            for night, day in zip(batch.images, batch.by_day, strict=True):
                assert day is not None
                torch.testing.assert_close(night * 10, day, atol=1e-5, rtol=0)
                flipped.add(bool(day[0, 10, 0] < day[0, 10, -1]))
    assert flipped == {True, False}


def test_real_nights_have_no_photograph_by_day(images: list[PreparedImage]) -> None:
    loader = Loader(images, MAP, AugmentSettings(), 3, 1, by_day=True)
    assert all(day is None for batch in loader.epoch(0) for day in batch.by_day)
