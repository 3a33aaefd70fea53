"""Writing RAW containers that LibRaw decodes as real cameras' files: .ARW, .NEF and .DNG.

A little-endian TIFF with one uncompressed uint16 CFA strip. For a camera in LibRaw's table, make
and model are enough: LibRaw then takes colour matrix and black level from there. A DNG carries
its own. Used for sample data, for tests, and wherever night RAW is made from other pictures.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rawisp.errors import InvalidArrayError

# TIFF colour codes of CFAPattern by position, from the pattern's letters.
_CFA_CODE = {"R": 0, "G": 1, "B": 2}


@dataclass(frozen=True)
class CameraBody:
    """A camera whose files can be imitated, with what LibRaw's table says of it.

    black and white are sample levels; a 14-bit camera's samples stay below 16384 although LibRaw
    takes 65535 as the D750's white for a 16-bit strip.
    """

    make: str
    model: str
    suffix: str
    black: int
    white: int
    xyz_to_camera: tuple[tuple[float, ...], ...]


# Matrices: LibRaw 0.22 colour table (from Adobe's DNG Converter), times 1e-4.
CAMERA_BODIES = {
    "DSC-RX100M7": CameraBody(
        "SONY",
        "DSC-RX100M7",
        ".ARW",
        800,
        16383,
        ((1.0315, -0.4390, -0.0937), (-0.4859, 1.2734, 0.2365), (-0.0734, 0.1537, 0.5997)),
    ),
    "NIKON D750": CameraBody(
        "NIKON CORPORATION",
        "NIKON D750",
        ".NEF",
        600,
        65535,
        ((0.9020, -0.2890, -0.0715), (-0.4535, 1.2436, 0.2348), (-0.0934, 0.1919, 0.7086)),
    ),
}


def write_container(
    path: str | os.PathLike[str],
    mosaic: npt.NDArray[np.uint16],
    *,
    make: str,
    model: str,
    pattern: str = "RGGB",
    exif_orientation: int = 1,
    iso: int | None = None,
    shutter_s: float | None = None,
    aperture_f: float | None = None,
    focal_length_mm: float | None = None,
    captured_at: str = "",
    extra_tags: Sequence[tuple[int, str, int, Any]] = (),
) -> None:
    """Writes `mosaic`, uint16 (H, W), as a RAW file of the camera `make` `model`.

    pattern: the top-left 2x2 cell's colours. captured_at: "2020:11:28 21:04:55". extra_tags:
    (code, TIFF type, count, value), over and above; see `dng_tags`. The bytes depend on nothing
    else.
    """
    import tifffile

    if mosaic.dtype != np.uint16 or mosaic.ndim != 2:
        raise InvalidArrayError(f"mosaic must be uint16 (H, W), not {mosaic.dtype} {mosaic.shape}")
    if len(pattern) != 4 or any(letter not in _CFA_CODE for letter in pattern):
        raise InvalidArrayError(f"pattern {pattern!r} is not four letters of R, G, B")
    tags: list[tuple[int, str, int, Any]] = [
        (271, "s", 0, make),
        (272, "s", 0, model),
        (274, "H", 1, exif_orientation),
        (33421, "H", 2, (2, 2)),
        (33422, "B", 4, bytes(_CFA_CODE[letter] for letter in pattern)),
    ]
    if captured_at:
        tags.append((306, "s", 0, captured_at))
    for code, value in ((33434, shutter_s), (33437, aperture_f), (37386, focal_length_mm)):
        if value is not None:
            tags.append((code, "2I", 1, _rational(value)))
    if iso is not None:
        tags.append((34855, "H", 1, iso))
    tags.extend(extra_tags)
    data = io.BytesIO()
    tifffile.imwrite(
        data,
        mosaic,
        byteorder="<",
        photometric=32803,
        compression=None,
        software=False,
        metadata=None,
        extratags=[(*tag, True) for tag in sorted(tags)],
    )
    with open(path, "wb") as file:
        file.write(data.getvalue())


def dng_tags(
    *,
    color_matrices: Sequence[tuple[int, npt.ArrayLike]] = (),
    black: Sequence[float] = (0,),
    white: int = 65535,
    active_area: tuple[int, int, int, int] | None = None,
    default_crop: tuple[int, int, int, int] | None = None,
    analog_balance: Sequence[float] | None = None,
) -> list[tuple[int, str, int, Any]]:
    """Tags that make a container a DNG 1.4 with facts of its own, for `extra_tags`.

    color_matrices: up to two of (CalibrationIlluminant code, (3, 3) XYZ to camera). black: one
    value, or four by position in the 2x2 cell. active_area: top, left, bottom, right.
    default_crop: left, top, width, height from the active area's corner.
    """
    tags: list[tuple[int, str, int, Any]] = [
        (50706, "B", 4, bytes((1, 4, 0, 0))),
        (50707, "B", 4, bytes((1, 1, 0, 0))),
        (50708, "s", 0, "rawisp synthetic"),
        (50717, "I", 1, white),
    ]
    if len(black) == 4:
        tags.append((50713, "H", 2, (2, 2)))
    tags.append((50714, "2I", len(black), _rationals(black)))
    for number, (illuminant, matrix) in enumerate(color_matrices[:2]):
        values = np.asarray(matrix, dtype=np.float64).ravel()
        tags.append((50721 + number, "2i", 9, _rationals(values)))
        tags.append((50778 + number, "H", 1, illuminant))
    if active_area is not None:
        tags.append((50829, "I", 4, active_area))
    if default_crop is not None:
        tags.append((50719, "I", 2, default_crop[:2]))
        tags.append((50720, "I", 2, default_crop[2:]))
    if analog_balance is not None:
        tags.append((50727, "2I", 3, _rationals(analog_balance)))
    return tags


def _rational(value: float) -> tuple[int, int]:
    return round(value * 10000), 10000


def _rationals(values: Sequence[float] | npt.NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(part for value in values for part in _rational(float(value)))
