"""What one optimisation step is: which batches, what is minimised on them, what a run must keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rawisp.detect import Guide
from rawisp.detect.base import Target
from rawisp.isp.base import Isp
from rawisp.train.config import TrainConfig
from rawisp.train.distributed import Team
from rawisp.train.gradient import StepLoss, divisible, pieces_at_once, pieces_of
from rawisp.train.loader import Batch, Loader
from rawisp.train.step import Step

# Sums under names that begin so are told, but are no part of the loss.
FACT = "agent."


class NotFiniteError(Exception):
    """The loss of these photographs is NaN or infinite, and nothing can be learned from the batch.

    Private to training: the loop says where in the run it was.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class Strategy(Protocol):
    """One way of learning; the loop does all the rest.

    trained: parameters of one optimiser group each, which all follow the learning rate's schedule.
    at_once: how many pieces of a batch may be computed at a time, in threads.
    halves: what accumulated smaller batches give. memory_advice: what helps when memory ends,
    besides those and --fit.
    """

    trained: list[nn.Module]
    at_once: int
    halves: str
    memory_advice: str

    def batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        """The batches of an epoch from `first_step` on."""

    def pieces(self, batch: Batch) -> list[Batch]:
        """Parts whose gradients may be taken one after the other; their sum is the batch's."""

    def loss(self, batch: Batch, epoch: int, step: int) -> StepLoss:
        """This process's part of the mean over the whole batch. NotFiniteError."""

    def modules(self) -> dict[str, Any]:
        """What a continued run needs besides ISP and optimizer; each has `state_dict`."""

    def rewrap(self) -> None:
        """Called when other parameters than before want gradients."""

    def after_backward(self) -> None:
        """Called when the gradient of `loss` has been taken."""


class SupervisedStrategy:
    """The detector's loss on the rendered images, by gradient."""

    halves = "the same result, half the memory"
    memory_advice = ", or --amp"

    def __init__(
        self, config: TrainConfig, isp: Isp, guide: Guide, loader: Loader, team: Team
    ) -> None:
        self.config, self.isp, self.guide, self.loader, self.team = config, isp, guide, loader, team
        self.trained: list[nn.Module] = [isp]
        self.divides = team.world == 1 and divisible(isp, team.device)
        self.at_once = 1
        if self.divides:
            self.at_once = pieces_at_once(isp, guide, team.device, config.batch_size)
        self.rewrap()

    def rewrap(self) -> None:
        """Data-parallel training looks up once which parameters want gradients."""
        config = self.config
        weights = (config.day_weight, config.day_response)
        step = Step(self.isp, self.guide, config.color_weight, config.amp, *weights)
        self.step = self.team.wrap(step)

    def batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        """Every image once."""
        return self.loader.epoch(epoch, first_step)

    def modules(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def after_backward(self) -> None:
        """Nothing."""

    def pieces(self, batch: Batch) -> list[Batch]:
        """On the CPU few images each; processes that share a batch do not divide theirs."""
        return pieces_of(batch, self.at_once) if self.divides else [batch]

    def loss(self, batch: Batch, epoch: int, step: int) -> StepLoss:
        """The detector's loss terms, the grey-world term and that of the well-lit photographs."""
        if not batch.images:
            return StepLoss(no_loss(self.isp), {}, 0)
        images, targets = on_device(batch, self.team.device)
        by_day = [None if p is None else p.to(self.team.device) for p in batch.by_day]
        terms: dict[str, Tensor] = self.step(images, targets, by_day)
        each = torch.stack(list(terms.values())).sum(dim=0)
        finite = torch.isfinite(each)
        if not bool(finite.all()):
            bad = torch.nonzero(~finite).squeeze(1).tolist()
            raise NotFiniteError([batch.names[n] for n in bad])
        sums = {name: float(values.detach().sum()) for name, values in terms.items()}
        return StepLoss(each.sum() / self.loader.size_of(step), sums, len(images))


def no_loss(module: nn.Module) -> Tensor:
    """Zero, with a gradient for every parameter: for a process without images in the last batch."""
    return sum((p.sum() * 0.0 for p in module.parameters() if p.requires_grad), torch.zeros(()))


def on_device(batch: Batch, device: torch.device) -> tuple[list[Tensor], list[Target]]:
    """(images, targets) there."""
    images = [image.to(device) for image in batch.images]
    return images, [Target(t.boxes.to(device), t.labels.to(device)) for t in batch.targets]
