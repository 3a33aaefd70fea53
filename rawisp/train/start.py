"""The ISP that a run begins with."""

from __future__ import annotations

from rawisp.checkpoint import load_isp
from rawisp.errors import CheckpointError, display_path
from rawisp.isp.base import Isp
from rawisp.isp.registry import create_isp
from rawisp.train.config import TrainConfig


def starting_isp(config: TrainConfig) -> Isp:
    """A fresh ISP, or the one of the checkpoint `config.start`. UsageError, CheckpointError."""
    if config.start is None:
        return create_isp(config.isp, **config.isp_config)
    loaded = load_isp(config.start, device="cpu", safe=True)
    shown = display_path(config.start)
    if loaded.metadata.isp != config.isp:
        raise CheckpointError(f"{shown}: is {loaded.metadata.isp}, not {config.isp}")
    if loaded.metadata.input_color != config.input_color:
        raise CheckpointError(
            f"{shown}: was trained on {loaded.metadata.input_color}; add --input-color "
            f"{loaded.metadata.input_color}"
        )
    isp = loaded.run
    assert isinstance(isp, Isp)
    isp.requires_grad_(True)
    return isp.train()
