"""The learning rate as a function of the step alone, so that a continued run cannot differ."""

from __future__ import annotations

import math

from rawisp.train.config import TrainConfig


def lr_at(config: TrainConfig, epoch: int, step: int, steps: int) -> float:
    """The ISP's learning rate in step `step` of `steps` of an epoch of the first phase.

    Linear warm-up over `warm_up_steps`, then half a cosine down to 1 %, or tenths at the milestones
    and an exponential down to `final_lr` times the first.
    """
    lr = config.lr
    done = epoch * steps + step
    progress = min(1.0, done / max(1, config.epochs * steps))
    if config.cosine:
        lr *= 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress))
    else:
        lr *= config.final_lr**progress
        lr *= 0.1 ** sum(epoch >= milestone for milestone in config.milestones)
    if done < config.warm_up_steps:
        lr *= (done + 1) / config.warm_up_steps
    return lr
