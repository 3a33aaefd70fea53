"""What a run is going to do, said before it does it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from rawisp.geometry import Fit
from rawisp.train.config import TrainConfig
from rawisp.train.schedule import lr_at, stretch_of


@dataclass(frozen=True)
class PlannedPhase:
    """Epochs in a row that learn in one way.

    phase: 1, the ISP alone, or 2, joint: the detector learns along. first_epoch, last_epoch:
    counted from 1, both included. learns, frozen: names. lr, last_lr: of the ISP in the first step
    after any warm-up and in the last. schedule: how the rate goes between, as a sentence's part.
    detector_lr: None where the detector is frozen.
    """

    phase: int
    first_epoch: int
    last_epoch: int
    learns: tuple[str, ...]
    frozen: tuple[str, ...]
    lr: float
    last_lr: float
    schedule: str
    detector_lr: float | None = None

    @property
    def joint(self) -> bool:
        """Whether the detector learns along."""
        return self.phase == 2


@dataclass(frozen=True)
class TrainPlan:
    """One run, as `plan_training` foresees it; `record` gives it as JSON.

    recipe: what was asked for, None for none. isp, parameters: its name and how many numbers it
    learns. detector, detector_weights: as given, None for those that belong to the name. phases:
    what is still to be done. epochs: of the whole run; done: those that a continued run has behind
    it. batch: photographs in an optimiser step, taken `batch_size` at a time. training, held_out:
    photographs with annotations, before any is decoded. fit: (long, short) limits, None for full
    size. device: "cpu", "cuda". folder, cache: where the run and the packed images go.
    """

    recipe: str | None
    isp: str
    parameters: int
    input_color: str
    detector: str
    detector_weights: str | None
    phases: tuple[PlannedPhase, ...]
    epochs: int
    done: int
    optimizer: str
    batch: int
    batch_size: int
    training: int
    held_out: int
    fit: Fit | None
    device: str
    folder: str
    cache: str

    def record(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def phases_of(config: TrainConfig, photographs: int, done: int = 0) -> tuple[PlannedPhase, ...]:
    """The phases of a run on so many photographs, without those that are done.

    A run that was made longer has a phase for each schedule. done: epochs.
    """
    steps = max(1, -(-photographs // config.batch_size))
    found = []
    first = 0
    while first < config.epochs:
        _, end = stretch_of(config, first)
        found.append(_alone(config, first, end, steps))
        first = end
    if config.phase2_epochs:
        found.append(_joint(config))
    return tuple(_rest(one, done) for one in found if one.last_epoch > done)


def _alone(config: TrainConfig, first: int, end: int, steps: int) -> PlannedPhase:
    held = first > 0 and config.extended_lr == "constant"
    warm_up = 0 if held else min(config.warm_up_steps, (end - first) * steps - 1)
    epoch, step = divmod(warm_up, steps)
    rates = lr_at(config, first + epoch, step, steps), lr_at(config, end - 1, steps - 1, steps)
    schedule = "constant, as it ended" if held else _schedule(config, end - first)
    if first > 0 and not held:
        schedule += ", begun anew"
    return PlannedPhase(
        1, first + 1, end, (config.isp,), (config.detector,), rates[0], rates[1], schedule
    )


def _schedule(config: TrainConfig, epochs: int) -> str:
    parts = []
    if config.warm_up_steps:
        parts.append(f"{config.warm_up_steps} steps of warm-up")
    milestones = [m for m in config.milestones if m < epochs]
    if config.cosine:
        parts.append("half a cosine")
    else:
        if milestones:
            listed = " and ".join(str(m) for m in milestones)
            parts.append(f"divided by ten after epoch {listed}")
        if config.final_lr != 1.0:
            parts.append("an exponential")
    return ", ".join(parts) or "constant"


def _joint(config: TrainConfig) -> PlannedPhase:
    return PlannedPhase(
        2,
        config.epochs + 1,
        config.total_epochs,
        (config.isp, config.detector),
        (),
        config.joint_lr,
        config.joint_lr,
        "constant",
        config.phase2_detector_lr,
    )


def _rest(phase: PlannedPhase, done: int) -> PlannedPhase:
    return replace(phase, first_epoch=max(phase.first_epoch, done + 1))
