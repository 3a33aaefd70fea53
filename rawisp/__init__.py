"""rawisp: camera RAW files at night, made ready for object detectors.

    frame = rawisp.open_raw("night.ARW")
    xyz = frame.pack(color="xyz")          # float32 (H/2, W/2, 3), linear CIE XYZ
    isp = rawisp.load_isp("night")
    image = isp(xyz)                       # uint8 (h, w, 3), RGB

Importing this costs nothing; what a name needs is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rawisp.version import __version__

if TYPE_CHECKING:
    from rawisp.batch import (
        EnhanceSettings,
        PackSettings,
        ReadSettings,
        RunOptions,
        RunReport,
        enhance_folder,
        info_files,
        pack_folder,
    )
    from rawisp.checkpoint import LoadedIsp, load_isp
    from rawisp.errors import InputError, RawispError, UsageError
    from rawisp.isp.registry import create_isp
    from rawisp.packing import pack_bayer
    from rawisp.raw import Overrides, RawFrame, open_raw

_HOME = {
    "open_raw": "rawisp.raw",
    "RawFrame": "rawisp.raw",
    "pack_bayer": "rawisp.packing",
    "load_isp": "rawisp.checkpoint",
    "LoadedIsp": "rawisp.checkpoint",
    "create_isp": "rawisp.isp.registry",
    "pack_folder": "rawisp.batch",
    "enhance_folder": "rawisp.batch",
    "info_files": "rawisp.batch",
    "PackSettings": "rawisp.batch",
    "EnhanceSettings": "rawisp.batch",
    "ReadSettings": "rawisp.batch",
    "RunOptions": "rawisp.batch",
    "RunReport": "rawisp.batch",
    "Overrides": "rawisp.raw",
    "RawispError": "rawisp.errors",
    "InputError": "rawisp.errors",
    "UsageError": "rawisp.errors",
}

__all__ = [
    "EnhanceSettings",
    "InputError",
    "LoadedIsp",
    "Overrides",
    "PackSettings",
    "RawFrame",
    "RawispError",
    "ReadSettings",
    "RunOptions",
    "RunReport",
    "UsageError",
    "__version__",
    "create_isp",
    "enhance_folder",
    "info_files",
    "load_isp",
    "open_raw",
    "pack_bayer",
    "pack_folder",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'rawisp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
