"""From a name or path to a checkpoint that is ready to run."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from rawisp.checkpoint.archive import Archive, inspect_checkpoint
from rawisp.checkpoint.metadata import DEFAULT_FIT, CheckpointMetadata
from rawisp.color import COLORS, InputColor
from rawisp.errors import CheckpointError, UsageError, display_path

if TYPE_CHECKING:
    import torch

    from rawisp.checkpoint.loaded import LoadedIsp

# Checkpoints that come with the package, by name.
SHIPPED = ("night", "classic", "rawpy-default")
DEFAULT_CHECKPOINT = "night"


def shipped_checkpoints() -> list[dict[str, str]]:
    """{"name", "what", "isp", "input_color"} of each checkpoint that comes with the package."""
    rows = []
    for name in SHIPPED:
        _, m = describe_checkpoint(name)
        what = str(m.provenance.get("what", ""))
        rows.append({"name": name, "what": what, "isp": m.isp, "input_color": m.input_color})
    return rows


def checkpoint_path(name_or_path: str | os.PathLike[str]) -> str:
    """The file that `name_or_path` stands for: a shipped name, a run's folder, else the path."""
    text = os.fspath(name_or_path)
    if text in SHIPPED:
        return str(resources.files("rawisp.checkpoint.shipped") / f"{text}.safetensors")
    of_run = Path(text) / "isp.safetensors"
    if of_run.is_file():
        return str(of_run)
    if not Path(text).exists() and os.sep not in text and not Path(text).suffix:
        raise CheckpointError(
            f"{display_path(text)}: is neither a file nor one of the shipped checkpoints "
            f"({', '.join(SHIPPED)})"
        )
    return text


def describe_checkpoint(
    name_or_path: str | os.PathLike[str],
    *,
    input_color: InputColor | None = None,
    safe: bool = False,
    expect_sha256: str | None = None,
) -> tuple[Archive, CheckpointMetadata]:
    """What a checkpoint is and expects, without loading it (no torch, nothing executed).

    input_color: what to feed a foreign file that does not say; a file that says otherwise is an
    error, because it would render wrong colours. safe, expect_sha256: see `load_isp`. Raises
    CheckpointError.
    """
    archive = inspect_checkpoint(checkpoint_path(name_or_path))
    shown = display_path(archive.path)
    if expect_sha256 is not None and archive.sha256 != expect_sha256.lower():
        raise CheckpointError(f"{shown}: its sha256 is {archive.sha256}, not {expect_sha256}")
    if safe and archive.kind != "safetensors" and os.fspath(name_or_path) not in SHIPPED:
        raise CheckpointError(
            f"{shown}: is {archive.kind}, which can run code when it is opened; --safe accepts "
            "only rawisp's safetensors files"
        )
    if input_color is not None and input_color not in COLORS:
        raise UsageError(f"input colour {input_color!r} is none of {', '.join(COLORS)}")
    if archive.metadata_json is not None:
        metadata = CheckpointMetadata.from_json(archive.metadata_json, archive.path)
        if input_color is not None and input_color != metadata.input_color:
            raise CheckpointError(
                f"{shown}: was trained on {metadata.input_color} input, not {input_color}; "
                "leave --input-color away"
            )
        return archive, metadata
    if input_color is None:
        raise CheckpointError(
            f"{shown}: does not say what input it was trained on; "
            f"add --input-color {'|'.join(COLORS)}"
        )
    return archive, CheckpointMetadata(
        name=Path(archive.path).stem, isp="foreign", input_color=input_color, fit=DEFAULT_FIT
    )


def load_isp(
    name_or_path: str | os.PathLike[str] = DEFAULT_CHECKPOINT,
    *,
    device: str = "auto",
    input_color: InputColor | None = None,
    safe: bool = False,
    expect_sha256: str | None = None,
) -> LoadedIsp:
    """Loads a checkpoint and tries it on two sizes.

    Parameters
    ----------
    name_or_path : "night", "classic", "rawpy-default"; a safetensors file of rawisp, which is safe
        to open; or a TorchScript (.ts) or torch.export (.pt2) file. Loading these can run code from
        them: use files you trust as you would a program.
    safe : accept only files that are safe to open.
    expect_sha256 : refuse a file whose bytes have another hash.
    device : "auto" (CUDA when there is one), "cpu", "cuda" or "cuda:1".
    input_color : for files without rawisp's metadata, the colour space they were trained on.

    Raises CheckpointError, UsageError.
    """
    archive, metadata = describe_checkpoint(
        name_or_path, input_color=input_color, safe=safe, expect_sha256=expect_sha256
    )
    from rawisp.checkpoint.loaded import LoadedIsp

    where = choose_device(device)
    isp = LoadedIsp(
        run=module_of(archive, metadata, where),
        metadata=metadata,
        path=archive.path,
        sha256=archive.sha256,
        device=where,
    )
    isp.warm_up()
    return isp


def module_of(
    archive: Archive, metadata: CheckpointMetadata | None, device: torch.device
) -> torch.nn.Module:
    """The module in a classified file, in eval mode on `device`; CheckpointError when damaged."""
    if archive.kind == "safetensors":
        assert metadata is not None
        from rawisp.checkpoint import native

        return native.load_native(archive.path, metadata, device)
    if archive.kind == "pt2":
        from rawisp.checkpoint import exported

        return exported.load_program(archive.path, device)
    from rawisp.checkpoint import torchscript

    return torchscript.load_module(archive.path, device)


def choose_device(device: str) -> torch.device:
    """The torch device for "auto", "cpu", "cuda" or "cuda:N". UsageError when it is not there.

    An explicit "cuda" never falls back to the CPU in silence.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UsageError(f"device {device!r} is none of auto, cpu, cuda, cuda:N")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("--device cuda: this machine has no usable CUDA device; use cpu")
        if number and int(number) >= torch.cuda.device_count():
            raise UsageError(
                f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices"
            )
    return torch.device(device)
