"""From our own format to files that other programs run; checked before they appear."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from rawisp.checkpoint.archive import Archive
from rawisp.checkpoint.load import choose_device, describe_checkpoint, load_isp
from rawisp.errors import CheckpointError, UsageError, display_path

if TYPE_CHECKING:
    from rawisp.checkpoint.onnx_file import OnnxOptions

Target = Literal["torchscript", "pt2", "onnx"]
SUFFIXES: dict[str, Target] = {".ts": "torchscript", ".pt2": "pt2", ".onnx": "onnx"}
# Trial sizes (height, width): round, odd, and larger than any thumbnail.
_TRIAL_SIZES = ((64, 64), (67, 93), (300, 420))
# A hundredth of an 8-bit level. Gamma's slope near black is 70, so rounding shows early.
_TOLERANCE = 4e-5
_HALF_TOLERANCE = 4.0 / 255.0


def export_checkpoint(
    name_or_path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    to: Target | None = None,
    *,
    opset: int | None = None,
    dynamic_batch: bool = False,
    half: bool = False,
) -> dict[str, Any]:
    """Writes the checkpoint as TorchScript (.ts), torch.export (.pt2) or ONNX (.onnx).

    The metadata go along. to: the format, by default what `out`'s suffix says. opset,
    dynamic_batch, half: of ONNX, see `onnx_file.OnnxOptions`. The written file is loaded again and
    compared with the original on three sizes before it gets its name; half precision may differ by
    four levels of 255. Returns {"path", "to", "sha256", "largest_difference"}. Raises
    CheckpointError, UsageError.
    """
    from rawisp.checkpoint.onnx_file import OnnxOptions

    target = os.fspath(out)
    kind = to or SUFFIXES.get(Path(target).suffix.lower())
    if kind is None or kind not in SUFFIXES.values():
        raise UsageError(f"{display_path(target)}: name it .ts, .pt2 or .onnx, or say --to")
    options = OnnxOptions(opset, dynamic_batch, half)
    if kind != "onnx" and options != OnnxOptions():
        raise UsageError(f"--opset, --dynamic-batch and --half are for ONNX, not for {kind}")
    archive, metadata = describe_checkpoint(name_or_path)
    if archive.kind != "safetensors":
        raise CheckpointError(
            f"{display_path(archive.path)}: is {archive.kind} already; only rawisp's own "
            "safetensors files can be exported"
        )
    original = load_isp(archive.path, device="cpu")
    if kind != "torchscript" and getattr(original.run, "branches", False):
        raise CheckpointError(
            f"{display_path(archive.path)}: {metadata.isp} chooses what to compute for each image, "
            f"which a {kind} file cannot hold; export to torchscript"
        )
    temporary = f"{target}.rawisp-tmp"
    try:
        with _quiet():
            _save(original.run, temporary, metadata, kind, options)
            difference = _compared(original.run, temporary, kind, options)
        os.replace(temporary, target)
    except OSError as error:
        raise UsageError(
            f"{display_path(target)}: cannot be written ({error.strerror or error})"
        ) from None
    finally:
        Path(temporary).unlink(missing_ok=True)
    return {
        "path": target,
        "to": kind,
        "sha256": hashlib.sha256(Path(target).read_bytes()).hexdigest(),
        "largest_difference": difference,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """What PyTorch's and ONNX's exporters warn of is about their own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _save(module: Any, path: str, metadata: Any, kind: str, options: OnnxOptions) -> None:
    from rawisp.checkpoint import exported, onnx_file, torchscript

    try:
        if kind == "torchscript":
            torchscript.save_module(module, path, metadata)
        elif kind == "onnx":
            onnx_file.save_onnx(module, path, metadata, options)
        else:
            exported.save_program(module, path, metadata)
    except (OSError, UsageError):
        raise
    except Exception as error:  # whatever the compilers say of a module they cannot take
        reason = " ".join(str(error).split()).partition("! ")[0][:200]
        others = ", ".join(other for other in SUFFIXES.values() if other != kind)
        raise CheckpointError(
            f"{metadata.isp} cannot be exported to {kind} ({reason}); try {others}"
        ) from None


def _compared(original: Any, path: str, kind: str, options: OnnxOptions) -> float:
    """The largest difference between the file and the original; CheckpointError if it is large."""
    from rawisp.checkpoint.load import module_of

    if kind == "onnx":
        from rawisp.checkpoint.onnx_file import OnnxModule

        loaded: torch.nn.Module = OnnxModule(path)
    else:
        loaded = module_of(Archive(path, "", kind, None), None, choose_device("cpu"))
    largest = 0.0
    for height, width in _TRIAL_SIZES:
        generator = torch.Generator().manual_seed(height)
        x = torch.rand(1 + options.dynamic_batch, 3, height, width, generator=generator) * 0.05
        with torch.no_grad():
            largest = max(largest, float((loaded(x) - original(x)).abs().max()))
    if not largest <= (_HALF_TOLERANCE if options.half else _TOLERANCE):
        advice = "; leave --half away" if options.half else ""
        raise CheckpointError(
            f"the exported {kind} differs from the original by {largest:.2g}; nothing was written"
            f"{advice}"
        )
    return largest
