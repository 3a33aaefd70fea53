"""What a checkpoint is, in numbers: for `rawisp describe`."""

from __future__ import annotations

from typing import Any

import torch

from rawisp.checkpoint.archive import inspect_checkpoint
from rawisp.checkpoint.loaded import LoadedIsp
from rawisp.checkpoint.multiplications import MultiplicationCounter
from rawisp.geometry import fit_size
from rawisp.raw import open_raw
from rawisp.resize import shrink

SIDE = 640


def described(isp: LoadedIsp) -> dict[str, Any]:
    """Metadata, parameter count, and multiply-accumulates at 640x640 (convolutions and matrix
    products only, as papers count them), as JSON values."""
    m = isp.metadata
    return {
        "path": isp.path,
        "kind": inspect_checkpoint(isp.path).kind,
        "sha256": isp.sha256,
        "name": m.name,
        "isp": m.isp,
        "input_color": m.input_color,
        "normalisation": m.normalisation,
        "fit": list(m.fit) if m.fit else None,
        "training_fit": list(m.training_fit) if m.training_fit else None,
        "config": m.config,
        "provenance": m.provenance,
        "parameters": parameter_count(isp.run),
        "macs_at_640x640": multiply_accumulates(isp.run, isp.device),
    }


def parameter_count(module: Any) -> int | None:
    """How many weights can be learned; None where the file does not keep them apart."""
    if not isinstance(module, torch.nn.Module):
        return None
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_accumulates(module: Any, device: torch.device) -> int:
    """Of one 640x640 image."""
    x = torch.linspace(0.0, 0.05, 3 * SIDE * SIDE, device=device).view(1, 3, SIDE, SIDE)
    with torch.no_grad(), MultiplicationCounter() as counter:
        module(x)
    return int(counter.count)


def predicted_parameters(isp: LoadedIsp, planar: Any) -> dict[str, Any]:
    """The operators that the ISP predicts for one image, float32 (3, H, W), as nested lists.

    Large ones (more than 64 numbers) are given by shape, mean, minimum and maximum. Empty for
    modules that do not predict separately.
    """
    predict = getattr(isp.run, "predict", None)
    if predict is None:
        return {}
    with torch.no_grad():
        parameters = predict(torch.from_numpy(planar)[None].to(isp.device))
    return {name: _shown(value[0].float().cpu()) for name, value in parameters.items()}


def _shown(value: torch.Tensor) -> Any:
    if value.numel() <= 64:
        return value.tolist()
    return {
        "shape": list(value.shape),
        "mean": float(value.mean()),
        "min": float(value.min()),
        "max": float(value.max()),
    }


def predicted_for_raw(isp: LoadedIsp, path: str) -> dict[str, Any]:
    """`predicted_parameters` for a RAW file, packed and scaled as `enhance` does.

    Raises InputError for a file that cannot be used.
    """
    planar = open_raw(path).pack(
        isp.metadata.input_color, orient="upright", layout="chw", highlights="neutral"
    )
    width, height = fit_size(planar.shape[2], planar.shape[1], isp.metadata.fit)
    return predicted_parameters(isp, shrink(planar, height, width))
