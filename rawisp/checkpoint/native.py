"""Our own format: one safetensors file, weights and JSON metadata. Opening it executes nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from rawisp.checkpoint.archive import NATIVE_KEY, inspect_checkpoint
from rawisp.checkpoint.metadata import CheckpointMetadata
from rawisp.errors import CheckpointError, UsageError, display_path
from rawisp.isp.base import Isp, config_of
from rawisp.isp.registry import create_isp


def save_native(isp: Isp, path: str, metadata: CheckpointMetadata) -> None:
    """Writes weights and metadata, by atomic rename.

    Name and configuration of the ISP are taken from `isp`. Raises OSError.
    """
    metadata = replace(metadata, isp=isp.name, config=config_of(isp))
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in isp.state_dict().items()
    }
    data = save(weights, metadata={NATIVE_KEY: metadata.to_json()})
    _replace_file(path, data)


def rewrite_metadata(path: str, metadata: CheckpointMetadata) -> None:
    """Replaces what a native checkpoint says of itself; its tensors stay bit for bit.

    By atomic rename. Raises CheckpointError for a file that is none, OSError.
    """
    inspect_checkpoint(path)
    data = save(load_file(path, device="cpu"), metadata={NATIVE_KEY: metadata.to_json()})
    _replace_file(path, data)


def _replace_file(path: str, data: bytes) -> None:
    temporary = f"{path}.rawisp-tmp"
    try:
        Path(temporary).write_bytes(data)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load_native(path: str, metadata: CheckpointMetadata, device: torch.device) -> Isp:
    """The ISP that the metadata describe, with the file's weights, in eval mode on `device`.

    CheckpointError when the ISP is unknown here, or the weights are not its own.
    """
    shown = display_path(path)
    try:
        isp = create_isp(metadata.isp, **metadata.config)
    except UsageError as error:
        raise CheckpointError(f"{shown}: {error}") from None
    if isp.in_channels != 3:
        raise CheckpointError(
            f"{shown}: takes {isp.in_channels} channels, but packed images have 3; call the module "
            "itself (rawisp.create_isp), or train it with three"
        )
    try:
        isp.load_state_dict(load_file(path, device="cpu"), strict=True)
    except Exception as error:  # safetensors' own exceptions, and torch's for keys and shapes
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{shown}: its weights do not fit {metadata.isp} ({reason})"
        ) from None
    return isp.eval().to(device)
