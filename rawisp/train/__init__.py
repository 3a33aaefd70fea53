"""Learning an ISP: `train(data, out, config)`.

Settings and what can be checked of them come without torch, which takes seconds to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rawisp.train.config import TrainConfig, resolve_config

if TYPE_CHECKING:
    from rawisp.train.plan import TrainPlan
    from rawisp.train.run import TrainResult, plan_training, saved_config, train

_HOME = {
    "TrainPlan": "rawisp.train.plan",
    "TrainResult": "rawisp.train.run",
    "plan_training": "rawisp.train.run",
    "saved_config": "rawisp.train.run",
    "train": "rawisp.train.run",
}

__all__ = [
    "TrainConfig",
    "TrainPlan",
    "TrainResult",
    "plan_training",
    "resolve_config",
    "saved_config",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
