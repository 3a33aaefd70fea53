"""What a training run reports while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class TrainEvent:
    """kind "plan": `TrainPlan.record()`, before anything is downloaded or decoded; "start": the
    photographs that can be used; "step": losses and pace; "epoch": the line of metrics.jsonl, first
    that of epoch 0, before learning; "validating": how many of how many; "note": `text`; "failure":
    `text` on what failed and is left out."""

    kind: Literal["plan", "start", "step", "epoch", "validating", "note", "failure"]
    text: str = ""
    values: dict[str, Any] = field(default_factory=dict)


OnTrainEvent = Callable[[TrainEvent], None]


def ignore_train_event(_: TrainEvent) -> None:
    """For those who do not want to know."""
