"""The one place that knows torch.export's `.pt2` files.

Like TorchScript they are not safe to open: an archive may ask to be unpickled. Their sizes are
free from MIN_SIDE to MAX_SIDE pixels.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch

from rawisp.checkpoint.archive import METADATA_MEMBER
from rawisp.checkpoint.metadata import CheckpointMetadata
from rawisp.errors import CheckpointError, display_path

MIN_SIDE, MAX_SIDE = 32, 16384


def load_program(path: str, device: torch.device) -> torch.nn.Module:
    """The module of a `.pt2` file on `device`. CheckpointError when it is damaged."""
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            # Older ones (2.11) wrap the file's bytes in tensors, and copy them before they write.
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            program = torch.export.load(io.BytesIO(file.read()))
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        return program.module()
    except Exception as error:  # torch.export raises many kinds
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{display_path(path)}: torch.export cannot load it ({type(error).__name__}: "
            f"{reason}); it is damaged or from another PyTorch"
        ) from None


def example_and_sides() -> tuple[torch.Tensor, dict[int, torch.export.Dim]]:
    """An input to trace with, and which of its dimensions are free.

    72x88, since a size that a network has inside itself (64, 256) would be taken for a constant.
    """
    example = torch.linspace(0.0, 0.05, 3 * 72 * 88).view(1, 3, 72, 88)
    sides = {
        2: torch.export.Dim("height", min=MIN_SIDE, max=MAX_SIDE),
        3: torch.export.Dim("width", min=MIN_SIDE, max=MAX_SIDE),
    }
    return example, sides


def save_program(module: torch.nn.Module, path: str, metadata: CheckpointMetadata) -> None:
    """Exports `module` (eval mode, CPU) for any height and width, and writes it with metadata.

    The file keeps its example input, so that is a small synthetic image, never a user's.
    """
    example, sides = example_and_sides()
    with torch.no_grad():
        program = torch.export.export(module.eval().cpu(), (example,), dynamic_shapes=(sides,))
    for part in program.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:  # where the source lies on the maker's machine
                node.meta.pop("stack_trace", None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA_MEMBER: metadata.to_json()})
    Path(path).write_bytes(buffer.getvalue())
