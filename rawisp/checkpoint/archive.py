"""What kind of checkpoint a file is, from its header or zip members: nothing in it is executed."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rawisp.errors import CheckpointError, display_path

NATIVE_KEY = "rawisp"  # in a safetensors file's metadata
METADATA_MEMBER = "rawisp.json"  # stored by TorchScript as <root>/extra/rawisp.json
_MAX_METADATA_BYTES = 1 << 20


@dataclass(frozen=True)
class Archive:
    """path, sha256 of the bytes, kind ("safetensors", "torchscript", "pt2"), metadata or None."""

    path: str
    sha256: str
    kind: str
    metadata_json: str | None

    def trust_notice(self) -> str | None:
        """What to say once before a file is loaded that can run code; None for safe ones."""
        if self.kind == "safetensors":
            return None
        return (
            f"{display_path(self.path)}: is a program ({self.kind}); loading it can run any code "
            f"(sha256 {self.sha256[:12]}...; --safe refuses such files)"
        )


def inspect_checkpoint(path: str) -> Archive:
    """Classifies the file. CheckpointError for what is missing, damaged or of another kind."""
    shown = display_path(path)
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{shown}: there is no such checkpoint") from None
    except IsADirectoryError:
        raise CheckpointError(f"{shown}: is a folder; give the checkpoint file inside it") from None
    except OSError as error:
        raise CheckpointError(f"{shown}: cannot be read ({error.strerror})") from None
    digest = hashlib.sha256(data).hexdigest()
    header = _safetensors_header(data)
    if header is not None:
        return Archive(path, digest, "safetensors", _native_metadata(header, shown))
    if not data.startswith(b"PK\x03\x04"):
        raise CheckpointError(
            f"{shown}: {_what_else(data)}; give a safetensors file of rawisp or a TorchScript file"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            kind = _kind(names, shown)
            metadata = _metadata(archive, names, shown)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{shown}: is damaged or cut short ({error}); copy it again"
        ) from None
    return Archive(path, digest, kind, metadata)


def _kind(names: list[str], shown: str) -> str:
    inner = [name.split("/", 1)[1] if "/" in name else name for name in names]
    if any(name.startswith("data/aotinductor") for name in inner):
        raise CheckpointError(
            f"{shown}: is an AOTInductor package, which returns wrong images for sizes it was not "
            "compiled for; export the model as TorchScript"
        )
    if any(name == "archive_format" for name in inner):
        return "pt2"
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    if "data.pkl" in inner:
        raise CheckpointError(
            f"{shown}: is a bare pickle of weights (torch.save), which does not say what network "
            "it belongs to and may run any code; save the module with torch.jit.script, or try "
            "rawisp convert"
        )
    raise CheckpointError(f"{shown}: is a zip archive, but no TorchScript file")


def _metadata(archive: zipfile.ZipFile, names: list[str], shown: str) -> str | None:
    for name in names:
        if name.split("/", 1)[-1] == f"extra/{METADATA_MEMBER}":
            if archive.getinfo(name).file_size > _MAX_METADATA_BYTES:
                raise CheckpointError(f"{shown}: its metadata is larger than a megabyte")
            return archive.read(name).decode("utf-8")
    return None


def _what_else(data: bytes) -> str:
    if not data:
        return "is empty"
    if data[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return "is a bare pickle, which may run any code and is not read"
    return "is no checkpoint"


def _safetensors_header(data: bytes) -> dict[str, Any] | None:
    """The JSON header of a safetensors file, None for anything else."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 10 or data[8:9] != b"{" or length > len(data) - 8:
        return None
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None


def _native_metadata(header: dict[str, Any], shown: str) -> str:
    metadata = header.get("__metadata__")
    text = metadata.get(NATIVE_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise CheckpointError(
            f"{shown}: is a safetensors file without rawisp's metadata, so it does not say what "
            "network its weights belong to; rawisp convert may know it"
        )
    return text
