"""Batches of augmented images and targets, loaded by threads ahead of the optimiser.

What is in step k of epoch e depends on the seed, e and k alone: not on threads, not on where a run
was interrupted, not on how many processes share a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from rawisp.data.augment import AugmentSettings, draw_window, relight
from rawisp.data.prepared import PreparedImage
from rawisp.detect.base import Target
from rawisp.detect.categories import CategoryMap

Sampled = tuple[torch.Tensor, Target, str]
# Batches that are loaded ahead.
_AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """images: float32 (3, H, W), linear, sizes may differ. names: the RAW files, for messages.

    by_day: the same scenes as the well-lit photographs that the nights were made from, where they
    are wanted and there are any.
    """

    images: list[torch.Tensor]
    targets: list[Target]
    names: list[str]
    by_day: list[torch.Tensor | None] = field(default_factory=list, kw_only=True)


@dataclass(frozen=True)
class Loader:
    """One process's share of every batch: images rank, rank + world, ... of it."""

    images: Sequence[PreparedImage]
    categories: CategoryMap
    augment: AugmentSettings
    batch_size: int
    seed: int
    input_color: str = "xyz"
    workers: int = 2
    rank: int = 0
    world: int = 1
    by_day: bool = False

    @property
    def steps(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return -(-len(self.images) // self.batch_size)

    def epoch(self, number: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `first_step` on."""
        order = np.random.default_rng([self.seed, number]).permutation(len(self.images))
        with ThreadPoolExecutor(self.workers) as pool:
            waiting: deque[list[Future[tuple[Sampled, torch.Tensor | None]]]] = deque()
            for step in range(first_step, self.steps):
                chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
                mine = chosen[self.rank :: self.world]
                waiting.append([pool.submit(self._both, number, int(n)) for n in mine])
                if len(waiting) > _AHEAD:
                    yield _together(waiting.popleft())
            while waiting:
                yield _together(waiting.popleft())

    def size_of(self, step: int) -> int:
        """How many images the batch has over all processes."""
        return min(self.batch_size, len(self.images) - step * self.batch_size)

    def drawn(self, number: int) -> tuple[int, int]:
        """(epoch, index) for `sample` of the photograph drawn as `number`-th from an endless stream
        of all, shuffled anew each time they have all come."""
        turn, place = divmod(number, len(self.images))
        order = np.random.default_rng([self.seed, turn]).permutation(len(self.images))
        return turn, int(order[place])

    def _both(self, epoch: int, index: int) -> tuple[Sampled, torch.Tensor | None]:
        darken = self.images[index].darken
        picture = None
        if self.by_day and darken is not None:
            window = draw_window(np.random.default_rng([self.seed, epoch, index]), self.augment)
            picture = torch.from_numpy(darken.by_day(window))
        return self.sample(epoch, index), picture

    def sample(self, epoch: int, index: int) -> Sampled:
        """(image, target, RAW file's name) of one photograph as varied in that epoch."""
        image = self.images[index]
        rng = np.random.default_rng([self.seed, epoch, index])
        window = draw_window(rng, self.augment)
        # A stream of its own for the night, so that the variation does not depend on it.
        linear = image.load_night(np.random.default_rng([self.seed, epoch, index, 1]), window)
        usable = ~image.ignore & (self.categories.labels[image.classes] >= 0)
        boxes, classes = image.boxes[usable], image.classes[usable]
        varied = relight(linear, boxes, window, rng, self.augment, self.input_color)
        labels = self.categories.labels[classes[varied.kept]]
        target = Target(torch.from_numpy(varied.boxes), torch.from_numpy(labels))
        return torch.from_numpy(varied.image), target, image.source


def _together(futures: list[Future[tuple[Sampled, torch.Tensor | None]]]) -> Batch:
    loaded = [future.result() for future in futures]
    samples = [sample for sample, _ in loaded]
    return Batch(
        [s[0] for s in samples],
        [s[1] for s in samples],
        [s[2] for s in samples],
        by_day=[picture for _, picture in loaded],
    )
