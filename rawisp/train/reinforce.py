"""What the ways of learning by reinforcement share; see terminal.py and pooled.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rawisp.detect import Guide
from rawisp.detect.base import Target
from rawisp.errors import display_path
from rawisp.isp.adaptive.adaptive_isp import AdaptiveIsp
from rawisp.isp.adaptive.operators import KEYS
from rawisp.train.config import TrainConfig
from rawisp.train.distributed import Team
from rawisp.train.events import OnTrainEvent, TrainEvent
from rawisp.train.loader import Batch, Loader
from rawisp.train.rewards import costs_ms
from rawisp.train.schedule import stretch_of
from rawisp.train.strategy import FACT

# Above, choices settle on whatever was good first, before parameters have been learned.
_HIGH_LR = 2e-4


class ReinforceStrategy:
    """The agent learns by trying: its reward is how far the frozen detector's loss falls.

    A photograph whose picture, loss or gradient is not finite is left out alone, with a note.
    """

    halves = "half the memory"
    memory_advice = ""

    def __init__(
        self,
        config: TrainConfig,
        isp: AdaptiveIsp,
        guide: Guide,
        loader: Loader,
        team: Team,
        on_event: OnTrainEvent,
    ) -> None:
        self.config, self.isp, self.guide, self.loader, self.team = config, isp, guide, loader, team
        self.on_event = on_event
        self.trained: list[nn.Module] = [isp]
        self.at_once = 1
        self._noted: set[str] = set()
        if config.lr > _HIGH_LR:
            text = f"--lr {config.lr:g} is much for adaptive-isp, whose paper takes 3e-5"
            on_event(TrainEvent("note", text))

    def rewrap(self) -> None:
        """The detector never learns along, so nothing changes."""

    def pieces(self, batch: Batch) -> list[Batch]:
        """Undivided: rewards are compared over the batch."""
        return [batch]

    def after_backward(self) -> None:
        """Nothing."""

    def entropy_weight(self, epoch: int, step: int) -> float:
        """Falls linearly to zero over the run; where it was extended, over what was before."""
        total = max(1, stretch_of(self.config, 0)[1] * self.loader.steps)
        progress = (epoch * self.loader.steps + step) / total
        return self.config.entropy_weight * (1.0 - min(1.0, progress))

    def uniforms(self, epoch: int, step: int, columns: int) -> Tensor:
        """(B, columns) in [0, 1), for this process's images; of seed, epoch and step alone."""
        rng = np.random.default_rng([self.config.seed, 3, epoch, step])
        whole = rng.random((self.loader.size_of(step), columns), dtype=np.float32)
        return torch.from_numpy(whole[self.team.rank :: self.team.world]).to(self.team.device)

    def note_bad(self, names: Sequence[str], bad: Tensor, what: str) -> None:
        """One note for each photograph of which `bad` (B,) is true, the first time."""
        for name, is_bad in zip(names, bad.tolist(), strict=True):
            if is_bad and name not in self._noted:
                self._noted.add(name)
                text = f"{display_path(name)}: left out of a step, its {what} is not finite"
                self.on_event(TrainEvent("note", text))


def detector_losses(guide: Guide, pictures: Sequence[Tensor], targets: Sequence[Target]) -> Tensor:
    """(B,): the sum of the detector's loss terms."""
    if not pictures:
        return torch.zeros(0)
    terms = guide.losses(pictures, targets)
    return torch.stack([value.float() for value in terms.values()]).sum(dim=0)


def losses_after(
    guide: Guide,
    pictures: Sequence[Tensor],
    targets: Sequence[Target],
    changed: Tensor,
    before: Tensor,
) -> Tensor:
    """(B,): losses of the pictures; where nothing was changed, those known from before."""
    rows = torch.nonzero(changed).squeeze(1)
    if rows.numel() == 0:
        return before
    some = rows.tolist()
    found = detector_losses(guide, [pictures[n] for n in some], [targets[n] for n in some])
    return before.index_copy(0, rows, found)


def facts(reward: Tensor, choices: Tensor) -> dict[str, float]:
    """Sums over the pictures, to be told beside the loss.

    choices: int64 (T, B), -1 where a picture had stopped before. usage.KEY: how often an operator
    was chosen; cost_ms: what all of them cost by the paper's table.
    """
    made = choices[choices >= 0]
    counts = torch.bincount(made, minlength=len(KEYS) + 1).tolist()
    named = dict(zip((*KEYS, "stop"), counts, strict=True))
    return {
        f"{FACT}reward": float(reward.detach().sum()),
        f"{FACT}cost_ms": float(costs_ms(made.device)[made].sum()),
        **{f"{FACT}usage.{key}": float(count) for key, count in named.items()},
    }
