"""Outputs appear by atomic rename only: a file is there whole, or it is not there."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from rawisp.errors import OutputError, OutputFullError, display_path

_TEMPORARY = ".rawisp-tmp"

IMAGE_SUFFIX = {"png": ".png", "jpg": ".jpg", "tiff": ".tiff"}
PACKED_SUFFIX = {"npy": ".npy", "tiff": ".tiff"}

# zlib level 1: a third faster than Pillow's default and a few per cent larger.
_PNG_LEVEL = 1
_JPEG_QUALITY = 95


def write_atomically(path: str, write: Callable[[BinaryIO], None]) -> None:
    """Calls `write` on a temporary file beside `path`, then renames it over `path`.

    OutputFullError when the file system is full or over quota, OutputError when it cannot be
    written at all.
    """
    temporary = _temporary_name(path)
    try:
        with open(temporary, "wb") as file:
            write(file)
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise output_error(path, error) from None
    except BaseException:
        _remove(temporary)
        raise


def output_error(path: str, error: OSError) -> OutputFullError | OutputError:
    """What to raise when `path` could not be written: whether it is full, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputFullError(
            f"{display_path(path)}: {os.strerror(error.errno).lower()} while writing; free "
            "some space and run the same command again, it continues where it stopped"
        )
    return OutputError(f"{display_path(path)}: cannot be written ({error.strerror or error})")


def _temporary_name(path: str) -> str:
    """Hidden, in the same folder; short, so that names of 255 bytes still work."""
    folder, name = os.path.split(path)
    mark = os.fsencode(name)[:8].hex()
    return os.path.join(folder, f".{mark}-{os.getpid()}{_TEMPORARY}")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


def sweep_temporaries(folder: str) -> int:
    """Removes what killed runs left below `folder`; returns how many files that were."""
    removed = 0
    for here, _, files in os.walk(folder):
        for name in files:
            if name.endswith(_TEMPORARY):
                _remove(os.path.join(here, name))
                removed += 1
    return removed


def write_npy(path: str, array: npt.NDArray[Any]) -> None:
    """A .npy file of `array`.

    Not np.save, which reports a full disk without an error number.
    """
    contiguous = np.ascontiguousarray(array)

    def write(file: BinaryIO) -> None:
        header = np.lib.format.header_data_from_array_1_0(contiguous)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(contiguous.data)

    write_atomically(path, write)


def write_packed_tiff(path: str, array: npt.NDArray[Any], facts: dict[str, Any]) -> None:
    """An uncompressed TIFF of a packed (H, W, 3) array; `facts` as JSON in ImageDescription."""
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        np.ascontiguousarray(array),
        photometric="rgb",
        software="rawisp",
        description=json.dumps(facts, sort_keys=True),
        metadata=None,
    )
    write_bytes(path, buffer.getbuffer())


def encode_image(image: npt.NDArray[np.uint8], image_format: str) -> bytes:
    """uint8 RGB (H, W, 3) as "png", "jpg" (quality 95, no chroma subsampling) or "tiff" bytes.

    Without any Orientation tag, so that no reader turns it again.
    """
    if image_format == "tiff":
        import tifffile

        buffer = io.BytesIO()
        tifffile.imwrite(buffer, image, photometric="rgb", software="rawisp", metadata=None)
        return buffer.getvalue()
    import imageio.v3 as iio

    if image_format == "png":
        return iio.imwrite("<bytes>", image, extension=".png", compress_level=_PNG_LEVEL)
    return iio.imwrite("<bytes>", image, extension=".jpeg", quality=_JPEG_QUALITY, subsampling=0)


def write_image(path: str, image: npt.NDArray[np.uint8], image_format: str) -> None:
    """`encode_image` to a file."""
    data = encode_image(image, image_format)
    write_bytes(path, data)


def write_json(path: str, value: object) -> None:
    """`value` as indented JSON."""
    write_bytes(path, json.dumps(value, indent=1).encode())


def write_bytes(path: str, data: bytes | memoryview) -> None:
    """`data` as a file."""

    def write(file: BinaryIO) -> None:
        file.write(data)

    write_atomically(path, write)
