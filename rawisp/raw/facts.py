"""Facts of an opened file, reconciled: what the user gave, what the file's tags say, LibRaw.

`raw` is an open rawpy.RawPy after unpacking; this file reads its attributes and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from rawisp import color as colors
from rawisp import geometry, packing
from rawisp.errors import CorruptFileError, InvalidArrayError
from rawisp.raw.frame import Exposure
from rawisp.raw.names import stated_text
from rawisp.raw.tags import Tags


@dataclass(frozen=True)
class Overrides:
    """Facts a user knows better than the file; None keeps the file's.

    matrix: (3, 3) XYZ to camera. black, white: one level, or four by colour index R, G1, B, G2.
    generic_matrix: take GENERIC_XYZ_TO_CAMERA for files of which neither they themselves nor LibRaw
    know a matrix, and for DNGs whose matrix and gains are placeholders; the others keep theirs.
    """

    matrix: colors.Matrix | None = None
    black: tuple[float, ...] | None = None
    white: tuple[float, ...] | None = None
    generic_matrix: bool = False

    def __post_init__(self) -> None:
        """InvalidArrayError for a matrix that cannot be inverted, or levels that are none."""
        if self.matrix is not None and not colors.usable(self.matrix):
            raise InvalidArrayError("matrix must be finite, 3x3 and invertible (XYZ to camera)")
        given = {}
        for name, values in (("black", self.black), ("white", self.white)):
            if values is not None:
                given[name] = packing.levels(_single(values), name)
        if len(given) == 2 and not (given["white"] > given["black"]).all():
            raise InvalidArrayError("white (--white) must be above black (--black)")

    def any(self) -> bool:
        """Whether anything is overridden."""
        given = (self.matrix, self.black, self.white)
        return self.generic_matrix or any(value is not None for value in given)


def levels_of(
    name: str, raw: Any, pattern: str, index_of: list[int], tags: Tags, overrides: Overrides
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], str]:
    """Black and white by colour R, G1, B, G2, float64, and where they came from.

    White is LibRaw's `white_level`, the clipping point; its per-channel linearity limits can lie
    below it, so they are not used.
    """
    black = np.array([float(raw.black_level_per_channel[i]) for i in index_of])
    white = np.full(4, float(raw.white_level))
    source = "LibRaw"
    if tags.black_cell is not None:
        black, source = _dng_black(raw.sizes, pattern, tags), "the file's own BlackLevel"
    if overrides.black is not None:
        black, source = packing.levels(_single(overrides.black), "black"), "given"
    if overrides.white is not None:
        white, source = packing.levels(_single(overrides.white), "white"), "given"
    if not (white > black).all():
        raise CorruptFileError(
            name,
            f"its white level {white.max():g} is not above its black level {black.max():g}",
            "give the true ones with --black and --white",
        )
    return black, white, source


def _dng_black(sizes: Any, pattern: str, tags: Tags) -> npt.NDArray[np.float64]:
    """BlackLevel by colour R, G1, B, G2: its cell begins at the active area's corner."""
    assert tags.black_cell is not None
    left, top = tags.active_corner
    black = np.zeros(4)
    for position, color in enumerate(packing.PHASES[pattern]):
        row = sizes.top_margin + position // 2 - top
        column = sizes.left_margin + position % 2 - left
        black[color] = tags.black_cell[row % 2, column % 2]
    return black


def black_deltas_of(
    sizes: Any, tags: Tags, overrides: Overrides
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.float64] | None]:
    """What a DNG adds to its black level in each row and each column of the visible area.

    (H,) and (W,) float64 in sample units, None where the file adds nothing or the user gave the
    black level. LibRaw adds the average to all samples instead. Where the visible area reaches past
    the active area by the row that LibRaw adds to an odd border, the nearest value holds.
    """
    if overrides.black is not None or tags.black_cell is None:
        return None, None
    left, top = tags.active_corner

    def visible(
        deltas: npt.NDArray[np.float64] | None, first: int, count: int
    ) -> npt.NDArray[np.float64] | None:
        if deltas is None or not deltas.any():
            return None
        return deltas[np.clip(np.arange(first, first + count), 0, len(deltas) - 1)]

    return (
        visible(tags.black_delta_rows, sizes.top_margin - top, sizes.height),
        visible(tags.black_delta_columns, sizes.left_margin - left, sizes.width),
    )


def _single(values: tuple[float, ...]) -> float | tuple[float, ...]:
    return values[0] if len(values) == 1 else values


def matrix_of(raw: Any, tags: Tags, overrides: Overrides) -> colors.CameraMatrix | None:
    """Given by the user, else a DNG's own, else LibRaw's table, else the stand-in if wanted."""
    if overrides.matrix is not None:
        return colors.CameraMatrix(np.asarray(overrides.matrix, dtype=np.float64), "given")
    if tags.camera_matrix is not None and not (
        overrides.generic_matrix and _says_nothing(raw, tags.camera_matrix)
    ):
        return tags.camera_matrix
    table = np.asarray(raw.rgb_xyz_matrix, dtype=np.float64)[:3]
    if colors.usable(table):
        # LibRaw keeps floats of table integers times 1e-4; rounding restores them.
        return colors.CameraMatrix(np.round(table, 6), "LibRaw's table")
    if overrides.generic_matrix:
        return colors.CameraMatrix(colors.GENERIC_XYZ_TO_CAMERA, colors.GENERIC_SOURCE)
    return None


def _says_nothing(raw: Any, matrix: colors.CameraMatrix) -> bool:
    """Whether a DNG's matrix and its gains are both what is written where nothing is known."""
    gains = list(raw.camera_whitebalance)[:3]
    return gains[0] > 0 and len(set(gains)) == 1 and colors.is_placeholder(matrix.xyz_to_camera)


def balance_of(values: list[float], index_of: list[int]) -> tuple[float, ...] | None:
    """Multipliers by colour R, G1, B, G2; a zero second green takes the first's. None if absent."""
    found = [float(values[i]) for i in index_of]
    found[3] = found[3] or found[1]
    return tuple(found) if all(np.isfinite(v) and v > 0 for v in found) else None


def frames_of(sizes: Any, tags: Tags) -> dict[str, geometry.Frame]:
    """Frames by name. A DNG's own DefaultCrop and a camera's own JPEG size beat LibRaw's crop."""
    origin = (sizes.left_margin, sizes.top_margin)
    if tags.is_dng and tags.crop_origin and tags.crop_size:
        crop_origin, crop_size = tags.crop_origin, tags.crop_size
    else:
        stated = tags.stated_size or (0, 0)
        # Width and height together: LibRaw leaves both 0 where it found no crop.
        left, width = _crop_side(sizes.crop_left_margin, sizes.crop_width, stated[0])
        top, height = _crop_side(sizes.crop_top_margin, sizes.crop_height, stated[1])
        crop_origin, crop_size = (left, top), (width, height)
    return geometry.sensor_frames(
        raw_size=(sizes.raw_width, sizes.raw_height),
        visible_origin=origin,
        visible_size=(sizes.width, sizes.height),
        crop_origin=crop_origin,
        crop_size=crop_size,
        flip=int(sizes.flip),
    )


def _crop_side(begin: int, length: int, stated: int) -> tuple[int, int]:
    """One side of the crop as the camera has it.

    LibRaw rounds an odd border up to an even one, which costs a row or column (Canon's 30D:
    3504x2335 of 3504x2336). It is given back where the file states that the camera's JPEG has it.
    """
    if length and stated == length + 1 and begin > 0 and begin % 2 == 0:
        return begin - 1, length + 1
    return begin, length


def exposure_of(raw: Any, tags: Tags) -> Exposure:
    """rawpy's fields first, the file's tags where LibRaw says nothing (zero)."""
    other, lens = raw.other, raw.lens

    def known(value: float, tag: str) -> float | None:
        stated = tags.exif.get(tag)
        if stated == 0:  # the file says "unknown"; LibRaw turns that into 1 s and f/1
            return None
        # LibRaw's numbers are float32: seven digits are meant.
        return float(f"{value:.7g}") if np.isfinite(value) and value > 0 else stated

    captured = tags.captured_at
    try:
        moment = datetime.strptime(captured, "%Y:%m:%d %H:%M:%S")
    except ValueError:
        moment = other.timestamp
    return Exposure(
        iso=known(other.iso_speed, "ISOSpeedRatings"),
        shutter_s=known(other.shutter_speed, "ExposureTime"),
        aperture_f=known(other.aperture, "FNumber"),
        focal_length_mm=known(other.focal_length, "FocalLength"),
        make=tags.make,
        model=tags.model,
        lens=stated_text(lens.model),
        captured_at=moment.isoformat() if moment.year > 1970 else "",
    )
