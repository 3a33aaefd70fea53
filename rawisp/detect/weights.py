"""Files of a detector's weights: what rawisp wrote, and what training scripts leave behind."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rawisp.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

KEY = "rawisp-detector"  # of rawisp's own metadata in a safetensors file

# Where training scripts keep weights in a .pth: torchvision's references, Lightning, timm, RT-DETR.
_AVERAGED = ("ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict")
_PLAIN = ("model", "state_dict", "model_state_dict")
_INNER = ("module", "state_dict", "model", "shadow")
# What wrappers put before each name: DataParallel and averages, torch.compile, Lightning.
_PREFIXES = ("module.", "_orig_mod.", "model.")
# Of torch.optim.swa_utils.AveragedModel: a count, no weight.
_COUNTERS = ("n_averaged",)


@dataclass(frozen=True)
class Weights:
    """tensors: by name, as they are in the file. said: what rawisp wrote about them, None for
    files of others. averaged: whether they are the running average (EMA) of a training."""

    tensors: dict[str, Tensor]
    said: dict[str, Any] | None = None
    averaged: bool = False

    def for_keys(self, expected: Collection[str]) -> dict[str, Tensor]:
        """The tensors without the prefixes that keep them from `expected`, as far as that helps."""
        wanted = set(expected)
        best = tensors = self.tensors
        while wanted != set(tensors):
            prefix = next((p for p in _PREFIXES if _all_begin(tensors, p)), None)
            if prefix is None:
                break
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
            if len(wanted & set(tensors)) > len(wanted & set(best)):
                best = tensors
        return best


def said_of(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What rawisp wrote about the weights in `path`; None for any other file."""
    from safetensors import safe_open

    if not os.fspath(path).endswith(".safetensors") or not os.path.isfile(path):
        return None
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
        said = None if text is None else json.loads(text)
    except Exception:  # damaged: whoever reads the weights says so
        return None
    return said if isinstance(said, dict) else None


def read_weights(path: str, shown: str) -> Weights:
    """The weights in a safetensors file or a .pth, which is opened with weights_only.

    Of a training script's file the averaged weights are taken where there are any. shown: the
    file's name for messages. Raises CheckpointError.
    """
    if not os.path.isfile(path):
        raise CheckpointError(f"{shown}: there is no such file of weights")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return Weights(load_file(path), said_of(path))
        return _found_in(_opened(path))
    except Exception as error:  # whatever safetensors, zipfile and the unpickler raise
        reason = " ".join(str(error).split())
        if "ultralytics" in reason:
            raise CheckpointError(
                f"{shown}: is a pickled program of ultralytics, which is not opened here; "
                "examples/ultralytics_yolo.py opens it with your own installation: --detector "
                "ultralytics_yolo:build --detector-weights FILE"
            ) from None
        raise CheckpointError(
            f"{shown}: cannot be read as weights ({reason[:120]}); save the model's state_dict()"
        ) from None


def _opened(path: str) -> Any:
    import torch

    # Plain data that torchvision's references and others put beside the weights.
    with torch.serialization.safe_globals([argparse.Namespace, pathlib.PosixPath]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _found_in(found: Any) -> Weights:
    if not isinstance(found, Mapping):
        raise ValueError(f"it holds a {type(found).__name__}")
    plain = next((t for key in _PLAIN if (t := _state_dict(found.get(key)))), None)
    averaged = next((t for key in _AVERAGED if (t := _state_dict(found.get(key)))), None)
    if averaged is not None:
        # Some averages are of parameters alone; statistics of norms are then the model's.
        own = {} if plain is None else _bare(plain)
        average = _bare(averaged)
        return Weights({**own, **average} if own.keys() > average.keys() else average, None, True)
    tensors = plain or _state_dict(found)
    if tensors is None:
        listed = ", ".join(str(key) for key in list(found)[:6])
        raise ValueError(f"no weights in it, only {listed}")
    return Weights(tensors)


def _state_dict(value: Any) -> dict[str, Tensor] | None:
    """Tensors by name, in `value` or one level below; None where there are none."""
    import torch

    if not isinstance(value, Mapping):
        return None
    tensors = {
        str(name): tensor
        for name, tensor in value.items()
        if isinstance(tensor, torch.Tensor) and name not in _COUNTERS
    }
    if tensors:
        return tensors
    return next((t for key in _INNER if (t := _state_dict(value.get(key)))), None)


def _bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what DataParallel, averages and torch.compile put before each name."""
    for prefix in _PREFIXES[:2] * 2:
        if _all_begin(tensors, prefix):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """For a model whose own names may begin with "model.": that is left away only as a second."""
    tensors = _bare(tensors)
    if _all_begin(tensors, "model.") and any(name.startswith("model.model.") for name in tensors):
        return {name.removeprefix("model."): value for name, value in tensors.items()}
    return tensors


def _all_begin(tensors: Mapping[str, Any], prefix: str) -> bool:
    return bool(tensors) and all(name.startswith(prefix) for name in tensors)
