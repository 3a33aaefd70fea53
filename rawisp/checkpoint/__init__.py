"""Loading a trained ISP: `load_isp("classic" | path)` gives a `LoadedIsp` to call on arrays."""

from rawisp.checkpoint.load import SHIPPED, load_isp
from rawisp.checkpoint.loaded import LoadedIsp
from rawisp.checkpoint.metadata import CheckpointMetadata

__all__ = ["SHIPPED", "CheckpointMetadata", "LoadedIsp", "load_isp"]
