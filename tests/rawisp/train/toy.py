"""A detector that wants one brightness, and even photographs to learn it on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rawisp.data.augment import AugmentSettings
from rawisp.data.prepared import PreparedImage
from rawisp.detect import Guide, freeze
from rawisp.detect.base import Target
from rawisp.detect.categories import CategoryMap
from rawisp.isp.adaptive.adaptive_isp import AdaptiveIsp
from rawisp.train import TrainConfig
from rawisp.train.distributed import Team
from rawisp.train.events import TrainEvent
from rawisp.train.gradient import StepLoss
from rawisp.train.loader import Batch, Loader
from rawisp.train.pooled import PoolStrategy
from rawisp.train.reinforce import ReinforceStrategy
from rawisp.train.terminal import TerminalStrategy

NOTHING = AugmentSettings(flip=0, crop=0, exposure_stops=0, illuminant=0)
MAP = CategoryMap(("thing",), np.array([0]))


class Brightness(Guide):
    """Loss: `weight` times the mean squared difference to `level`, over the picture."""

    categories = ("thing",)

    def __init__(self, level: float = 0.5, weight: float = 1.0) -> None:
        super().__init__()
        self.level = level
        self.weight = nn.Parameter(torch.tensor(weight))

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        each = torch.stack([((image - self.level) ** 2).mean() for image in images])
        return {"brightness": self.weight * each}


def photographs(folder: Path, levels: Sequence[float], size: int = 24) -> list[PreparedImage]:
    """Grey (size, size) photographs of these levels, without boxes."""
    found = []
    for n, level in enumerate(levels):
        path = folder / f"{n}.npy"
        np.save(path, np.full((size, size, 3), level, np.float16))
        none = np.zeros((0, 4), np.float32)
        label, ignore = np.zeros(0, np.int64), np.zeros(0, bool)
        found.append(
            PreparedImage(str(n), f"{n}.ARW", str(path), (size, size), none, label, ignore)
        )
    return found


class Lesson:
    """A strategy with its optimizer, without the rest of a run."""

    def __init__(
        self,
        images: list[PreparedImage],
        guide: Guide | None = None,
        on_event: Callable[[TrainEvent], None] = lambda _: None,
        isp_config: dict[str, Any] | None = None,
        device: str = "cpu",
        **settings: Any,
    ) -> None:
        torch.manual_seed(0)
        isp_config = {"steps": 2, "repeat": False, **(isp_config or {})}
        common = {
            "isp": "adaptive-isp",
            "batch_size": 4,
            "replay": 8,
            "lr": 1e-4,
            "augment": NOTHING,
        }
        self.config = TrainConfig(**{**common, "isp_config": isp_config, **settings})
        self.device = torch.device(device)
        self.isp = AdaptiveIsp(AdaptiveIsp.Config(**isp_config)).to(self.device)
        self.guide = (guide or Brightness()).to(self.device)
        freeze(self.guide)
        loader = Loader(images, MAP, NOTHING, self.config.batch_size, self.config.seed)
        kind = TerminalStrategy if self.config.reinforce == "terminal" else PoolStrategy
        self.strategy: ReinforceStrategy = kind(
            self.config, self.isp, self.guide, loader, Team(device=self.device), on_event
        )
        groups = [{"params": list(module.parameters())} for module in self.strategy.trained]
        self.optimizer = torch.optim.Adam(groups, self.config.lr)
        self.images = images

    def gradient(self, epoch: int = 0, step: int = 0) -> StepLoss:
        """One step, its gradient taken and clipped."""
        batch = next(iter(self.strategy.batches(epoch, step)))
        return self._backward(batch, epoch, step)

    def learn(self, epochs: int) -> list[StepLoss]:
        """What every step told."""
        found = []
        for epoch in range(epochs):
            for step, batch in enumerate(self.strategy.batches(epoch, 0)):
                found.append(self._backward(batch, epoch, step))
                self.optimizer.step()
        return found

    def judged(self) -> tuple[float, list[list[int]]]:
        """(mean loss of the deterministic ISP on all photographs, its operators)."""
        x = torch.stack([torch.from_numpy(image.load()) for image in self.images]).to(self.device)
        self.isp.eval()
        with torch.no_grad():
            chosen = self.isp.predict(x)
            terms = self.guide.losses(list(self.isp.apply(x, chosen)), [])
        return float(terms["brightness"].mean()), chosen["operators"].tolist()

    def _backward(self, batch: Batch, epoch: int, step: int) -> StepLoss:
        found = self.strategy.loss(batch, epoch, step)
        self.optimizer.zero_grad()
        found.total.backward()
        self.strategy.after_backward()
        for module in self.strategy.trained:
            nn.utils.clip_grad_norm_(module.parameters(), self.config.clip_norm)
        return StepLoss(found.total.detach(), found.sums, found.images)


def choose_always(
    isp: AdaptiveIsp, operator: int, raw: Sequence[float] = (), sure: float = 50.0
) -> None:
    """Makes the policy sure of one operator, and of its raw parameters where they are given."""
    last = isp.policy.choice[-1]
    with torch.no_grad():
        last.bias.fill_(-sure)
        last.bias[operator] = sure
        if raw:
            isp.policy.heads[operator].fc_filter.weight.zero_()
            isp.policy.heads[operator].fc_filter.bias.copy_(torch.tensor(raw))
