"""Batches depend on seed, epoch and step alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rawisp.data.augment import AugmentSettings
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
