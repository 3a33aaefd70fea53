"""Weights files of other programs, opened without running anything that is in them."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from rawisp.checkpoint.archive import NATIVE_KEY
from rawisp.errors import CheckpointError, display_path, printable

# The entries of a checkpoint's dict in which training programs keep the weights.
ENTRIES = ("state_dict", "model_state_dict", "model")
_DEEPEST = 8  # dicts in dicts; a pickle can also hold one inside itself


@dataclass(frozen=True)
class Weights:
    """tensors: float32 where floating, by their names in the file, in its order.

    found_in: the entry of the file that held them, "" for the file itself; it is not part of the
    names. sha256: of the whole file.
    """

    path: str
    sha256: str
    found_in: str
    tensors: dict[str, Tensor]

    @property
    def shown(self) -> str:
        """The path, for messages."""
        return display_path(self.path)


def read_weights(path: str, entries: tuple[str, ...] = ENTRIES) -> Weights:
    """The tensors of a safetensors file, or of a state dict that torch.save wrote.

    Of several dicts in the file, the first of `entries` that is there is taken; without one, all
    tensors, those in nested dicts named "entry.name". Raises CheckpointError for what is missing,
    damaged, not weights, or could only be opened by running code from it.
    """
    shown = display_path(path)
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{shown}: there is no such file of weights") from None
    except IsADirectoryError:
        raise CheckpointError(f"{shown}: is a folder; give the file of weights inside it") from None
    except OSError as error:
        raise CheckpointError(f"{shown}: cannot be read ({error.strerror})") from None
    node, found_in = _entered(_opened(data, shown), entries)
    tensors = {
        name: tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
        for name, tensor in _named_tensors(node)
    }
    if not tensors:
        raise CheckpointError(f"{shown}: holds no tensors by name; give a file with a state_dict")
    return Weights(path, hashlib.sha256(data).hexdigest(), found_in, tensors)


def _opened(data: bytes, shown: str) -> object:
    """What the file holds. Its first bytes say which kind it is, whatever it is called."""
    if data[8:9] == b"{":
        return _opened_safetensors(data, shown)
    if not data.startswith((b"PK\x03\x04", b"\x80")):
        raise CheckpointError(
            f"{shown}: is neither a safetensors file nor one that torch.save wrote"
        )
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({found[1]})" if found else ""
        raise CheckpointError(
            f"{shown}: holds Python objects besides tensors{what}, and opening these could run any "
            "code; where it was made, write torch.save(model.state_dict(), FILE) and convert FILE"
        ) from None
    except Exception as error:  # RuntimeError, EOFError, UnicodeDecodeError, ...
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"{shown}: is TorchScript, which rawisp runs as it is; there is nothing to convert"
            ) from None
        reason = printable(" ".join(str(error).split()))[:150]
        raise CheckpointError(f"{shown}: is damaged or cut short ({reason})") from None


def _opened_safetensors(data: bytes, shown: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_safetensors(data)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{shown}: is damaged or cut short ({error})") from None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    if NATIVE_KEY in header.get("__metadata__", {}):
        raise CheckpointError(f"{shown}: is rawisp's own already; there is nothing to convert")
    return tensors


def _entered(node: object, entries: tuple[str, ...]) -> tuple[object, str]:
    """The dict that holds the weights, and the names that lead to it, joined by dots."""
    path: list[str] = []
    while isinstance(node, Mapping) and len(path) < _DEEPEST:
        inside: Mapping[Any, Any] = node
        entry = next((e for e in entries if isinstance(inside.get(e), Mapping)), None)
        if entry is None:
            break
        path.append(entry)
        node = inside[entry]
    return node, ".".join(path)


def _named_tensors(node: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Tensors by dotted name. What an optimiser keeps is numbered, not named, and left out."""
    if not isinstance(node, Mapping) or depth == _DEEPEST:
        return
    for name, value in node.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, Tensor):
            yield prefix + name, value
        else:
            yield from _named_tensors(value, f"{prefix}{name}.", depth + 1)
