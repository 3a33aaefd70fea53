"""The one place that knows TorchScript, and that silences its deprecation warnings.

A TorchScript file is a program: loading it can run code (docs/checkpoints.md). Its format is
deprecated in PyTorch but is what people have; see docs/decisions/0004-torchscript.md.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from rawisp.checkpoint.archive import METADATA_MEMBER
from rawisp.checkpoint.metadata import CheckpointMetadata
from rawisp.errors import CheckpointError, display_path


@contextmanager
def deprecation_silenced() -> Iterator[None]:
    """torch.jit warns of its deprecation on each call (2.13 and later); the user knows by now."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*", category=FutureWarning)
        yield


def load_module(path: str, device: torch.device) -> torch.nn.Module:
    """The module of a TorchScript file, in eval mode on `device`. CheckpointError when damaged."""
    try:
        with deprecation_silenced(), open(path, "rb") as file:
            module: torch.nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
                file, map_location="cpu"
            )
        module.eval()
        return module.to(device)
    except CheckpointError:
        raise
    except Exception as error:  # corrupt archives raise RuntimeError, UnicodeDecodeError, ...
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
        raise CheckpointError(
            f"{display_path(path)}: TorchScript cannot load it "
            f"({type(error).__name__}: {reason}); it is damaged or from a newer PyTorch"
        ) from None


def save_module(module: torch.nn.Module, path: str, metadata: CheckpointMetadata) -> None:
    """Scripts `module` (eval mode, CPU, unfrozen) and writes it with its metadata."""
    buffer = io.BytesIO()
    with deprecation_silenced():
        scripted = torch.jit.script(module.eval().cpu())
        torch.jit.save(scripted, buffer, _extra_files={METADATA_MEMBER: metadata.to_json()})
    Path(path).write_bytes(without_debug_members(buffer.getvalue()))


def without_debug_members(archive: bytes) -> bytes:
    """`archive` less its *.debug_pkl members, which hold source paths of the maker's machine."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as source,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target,
    ):
        for member in source.infolist():
            if not member.filename.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(member.filename), source.read(member))
    return buffer.getvalue()
