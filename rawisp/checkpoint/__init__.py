"""Loading a trained ISP: `load_isp("classic" | path)` gives a `LoadedIsp` to call on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rawisp.checkpoint.load import SHIPPED, load_isp
from rawisp.checkpoint.metadata import CheckpointMetadata

if TYPE_CHECKING:
    from rawisp.checkpoint.loaded import LoadedIsp

__all__ = ["SHIPPED", "CheckpointMetadata", "LoadedIsp", "load_isp"]


def __getattr__(name: str) -> Any:
    if name == "LoadedIsp":  # it imports torch, which describing a checkpoint must not
        from rawisp.checkpoint.loaded import LoadedIsp

        return LoadedIsp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
