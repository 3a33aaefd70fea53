"""How the gradient of a batch is taken: in pieces, on a CPU one image each and several at a time.

A thread per image is faster than several threads within one: detectors and ISPs are made of many
small operations, after each of which threads would wait for each other, and what a larger batch
writes falls out of the caches before it is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rawisp.detect import Guide
from rawisp.train.loader import Batch


@dataclass(frozen=True)
class StepLoss:
    """total: what is differentiated. sums: over the images, loss terms by name, and facts whose
    names begin with FACT. images: how many the sums are of."""

    total: Tensor
    sums: dict[str, float]
    images: int


class Gradients:
    """Adds the gradients of a batch's pieces to the parameters'; see `gradients`."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self._pool = pool

    def add(
        self,
        losses: Sequence[Callable[[], StepLoss]],
        parameters: Sequence[Tensor],
        factor: float,
    ) -> list[StepLoss]:
        """Adds `factor` times the gradient of each piece's loss; returns the losses, detached.

        Sums are taken in the order of the pieces, whichever is done first. The first exception of
        a piece is raised.
        """
        if self._pool is None or len(losses) == 1:
            return [_backward(loss(), factor) for loss in losses]

        learned = [p for p in parameters if p.requires_grad]

        def one(loss: Callable[[], StepLoss]) -> tuple[StepLoss, tuple[Tensor | None, ...]]:
            found = loss()
            parts = torch.autograd.grad(found.total * factor, learned, allow_unused=True)
            return replace(found, total=found.total.detach()), parts

        told = []
        for found, parts in self._pool.map(one, losses):
            told.append(found)
            for parameter, part in zip(learned, parts, strict=True):
                if part is not None:
                    grad = parameter.grad
                    parameter.grad = part if grad is None else grad.add_(part)
        return told


def _backward(found: StepLoss, factor: float) -> StepLoss:
    (found.total * factor).backward()  # type: ignore[no-untyped-call]
    return replace(found, total=found.total.detach())


@contextmanager
def gradients(at_once: int) -> Iterator[Gradients]:
    """Gradients of `at_once` pieces at a time, which share PyTorch's threads."""
    if at_once <= 1:
        yield Gradients(None)
        return
    threads = torch.get_num_threads()
    each = max(1, threads // at_once)
    try:
        with ThreadPoolExecutor(at_once, "gradient", torch.set_num_threads, (each,)) as pool:
            yield Gradients(pool)
    finally:
        torch.set_num_threads(threads)  # threads that begin later take over what was set last


def pieces_at_once(isp: nn.Module, guide: Guide, device: torch.device, batch_size: int) -> int:
    """How many images are learned from at a time: one per thread of PyTorch's on a CPU.

    One, with all threads, when the detector does not say that it is `thread_safe`.
    """
    if not divisible(isp, device) or not guide.thread_safe:
        return 1
    return min(batch_size, torch.get_num_threads())


def pieces_of(batch: Batch, at_once: int) -> list[Batch]:
    """A batch divided for a CPU: single images for threads of their own, else few at a time."""
    return in_pieces(batch, 1 if at_once > 1 else max(1, torch.get_num_threads() // 2))


def divisible(isp: nn.Module, device: torch.device) -> bool:
    """Whether a batch is better learned from in pieces, and may be."""
    return device.type == "cpu" and not mixes_images(isp)


def mixes_images(isp: nn.Module) -> bool:
    """Whether images of a batch influence each other in training, so that it cannot be divided."""
    return any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in isp.modules())


def in_pieces(batch: Batch, count: int) -> list[Batch]:
    """The batch, `count` images at a time; an empty one as it is."""
    starts = range(0, max(1, len(batch.images)), count)
    return [
        Batch(
            batch.images[n : n + count],
            batch.targets[n : n + count],
            batch.names[n : n + count],
            by_day=batch.by_day[n : n + count],
        )
        for n in starts
    ]
