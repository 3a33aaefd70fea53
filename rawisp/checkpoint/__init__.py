"""Loading a trained ISP: `load_isp("night" | path)` gives a `LoadedIsp` to call on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rawisp.checkpoint.load import SHIPPED, describe_checkpoint, load_isp
from rawisp.checkpoint.metadata import CheckpointMetadata

if TYPE_CHECKING:
    from rawisp.checkpoint.loaded import LoadedIsp
    from rawisp.checkpoint.native import save_native

__all__ = [
    "SHIPPED",
    "CheckpointMetadata",
    "LoadedIsp",
    "describe_checkpoint",
    "load_isp",
    "save_native",
]


def __getattr__(name: str) -> Any:
    # These import torch, which describing a checkpoint must not.
    if name == "LoadedIsp":
        from rawisp.checkpoint.loaded import LoadedIsp

        return LoadedIsp
    if name == "save_native":
        from rawisp.checkpoint.native import save_native

        return save_native
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
