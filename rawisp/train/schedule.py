"""The learning rate as a function of the step alone, so that a continued run cannot differ."""

from __future__ import annotations

import math

from rawisp.train.config import TrainConfig


def lr_at(config: TrainConfig, epoch: int, step: int, steps: int) -> float:
    """The ISP's learning rate in step `step` of `steps` of an epoch of the first phase.

    Linear warm-up over `warm_up_steps`, then half a cosine down to 1 %, or tenths at the milestones
    and an exponential down to `final_lr` times the first. Epochs by which the run was extended
    begin with the first again, or stay at the last rate.
    """
    first, last = stretch_of(config, epoch)
    if first and config.extended_lr == "constant":
        return lr_at(config, stretch_of(config, 0)[1] - 1, steps - 1, steps)
    done = (epoch - first) * steps + step
    lr = _falling(config, epoch - first, min(1.0, done / max(1, (last - first) * steps)))
    if done < config.warm_up_steps:
        lr *= (done + 1) / config.warm_up_steps
    return lr


def stretch_of(config: TrainConfig, epoch: int) -> tuple[int, int]:
    """(first, end) epoch of phase 1 that share one schedule with `epoch`: the whole, unless the
    run was extended."""
    ends = (*config.extended, config.epochs)
    first = max((end for end in config.extended if end <= epoch), default=0)
    return first, next((end for end in ends if end > epoch), config.epochs)


def _falling(config: TrainConfig, epoch: int, progress: float) -> float:
    """The rate without warm-up, `progress` (0 to 1) through a schedule, in its epoch `epoch`."""
    if config.cosine:
        return config.lr * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress)))
    passed = sum(epoch >= milestone for milestone in config.milestones)
    return config.lr * float(config.final_lr**progress) * 0.1**passed
