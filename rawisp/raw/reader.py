"""The only file that knows rawpy: opens a RAW file, checks it, copies what matters.

Order matters here. The header is checked before LibRaw sees the file, the size after LibRaw has
read the header and before it decodes, and everything is copied before the file is closed.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from rawisp import color as colors
from rawisp import geometry, packing
from rawisp.errors import (
    CorruptFileError,
    InputError,
    InvalidArrayError,
    TooLargeError,
    UnreadableFileError,
    UnsupportedRawError,
)
from rawisp.raw import formats
from rawisp.raw.frame import Exposure, RawFrame
from rawisp.raw.names import camera_name, stated_text
from rawisp.raw.tags import PHOTOMETRIC_LINEAR_RAW, Tags, read_tags

DEFAULT_MAX_MEGAPIXELS = 200.0

# No RAW format spends more than this on a pixel; files below the first size are never too large.
_MAX_BYTES_PER_PIXEL = 8
_SMALL_FILE_BYTES = 256 << 20


@dataclass(frozen=True)
class Overrides:
    """Facts a user knows better than the file; None keeps the file's.

    matrix: (3, 3) XYZ to camera. black, white: one level, or four by colour index R, G1, B, G2.
    """

    matrix: colors.Matrix | None = None
    black: tuple[float, ...] | None = None
    white: tuple[float, ...] | None = None

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
        return not (self.matrix is None and self.black is None and self.white is None)


def open_raw(
    path: str | bytes | os.PathLike[str],
    *,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    overrides: Overrides | None = None,
) -> RawFrame:
    """Decodes one camera RAW file.

    Parameters
    ----------
    path : any path the file system accepts, including names that are no UTF-8.
    max_megapixels : refuse larger files after their header is read, before they are decoded.
    overrides : matrix and levels to use instead of the file's.

    Raises
    ------
    InputError
        Or one of its children; the message names the file, what is wrong and what to do.
    """
    name = os.fsdecode(path)
    try:
        with open_regular_file(name) as file:
            return _decode(name, file, max_megapixels, overrides or Overrides())
    except OSError as error:
        raise UnreadableFileError(name, f"cannot be read ({error.strerror or error})") from None


def open_regular_file(name: str) -> BinaryIO:
    """`name` opened for reading. UnreadableFileError for what is missing or no regular file.

    Opening a pipe would block until somebody writes to it.
    """
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISREG(mode):
            return open(name, "rb")
    except FileNotFoundError:
        raise UnreadableFileError(name, "does not exist") from None
    except ValueError:
        raise UnreadableFileError(name, "is no valid path") from None
    except OSError as error:
        raise UnreadableFileError(name, f"cannot be read ({error.strerror})") from None
    if not stat.S_ISDIR(mode):
        raise UnreadableFileError(name, "is no regular file (a pipe, device or socket)")
    if not os.access(name, os.R_OK | os.X_OK):
        raise UnreadableFileError(name, "is a folder that may not be read", "check its permissions")
    raise UnreadableFileError(name, "is a folder, not a file")


def _decode(
    name: str,
    file: BinaryIO,
    max_megapixels: float,
    overrides: Overrides,
) -> RawFrame:
    header = file.read(formats.HEADER_BYTES)
    if not header:
        raise CorruptFileError(name, "is empty", "copy it again from the card")
    if not formats.has_known_header(header):
        raise CorruptFileError(name, *formats.describe_header(header))
    tags = read_tags(file)
    size = file.seek(0, os.SEEK_END)
    _check_before_reading(name, size, tags, max_megapixels)
    file.seek(0)
    import rawpy

    with rawpy.RawPy() as raw:
        try:
            raw.open_buffer(file)
            _check_size(name, (raw.sizes.raw_width, raw.sizes.raw_height), max_megapixels)
            raw.unpack()
            return _frame(name, raw, tags, overrides, size)
        except InputError:
            raise
        except MemoryError:
            raise TooLargeError(name, "does not fit into memory") from None
        except Exception as error:  # LibRaw's own, and rawpy's NotImplementedError and others
            raise _translated(name, error, tags, size) from None


def _check_before_reading(name: str, size: int, tags: Tags, max_megapixels: float) -> None:
    """rawpy reads the whole file at once, so a sparse one of gigabytes is refused before that."""
    _check_size(name, tags.declared_size, max_megapixels)
    if size > max(_SMALL_FILE_BYTES, max_megapixels * 1e6 * _MAX_BYTES_PER_PIXEL):
        raise TooLargeError(
            name,
            f"has {size / 1e9:.1f} GB, more than {max_megapixels:g} megapixels need",
            "raise --max-megapixels if the file is to be trusted",
        )
    if tags.is_dng and tags.data_end > size:
        raise _cut_short(name, tags.data_end, size)


def _cut_short(name: str, end: int, size: int) -> CorruptFileError:
    return CorruptFileError(
        name,
        f"is cut short: its tags point to byte {end}, the file ends at byte {size}",
        "copy it again from the card",
    )


def _translated(name: str, error: Exception, tags: Tags, size: int) -> InputError:
    """LibRaw's exception as one of ours. Its text is no diagnosis, so both readings are given."""
    import rawpy

    if tags.furthest_byte > size:
        return _cut_short(name, tags.furthest_byte, size)
    text = error.args[0] if error.args else ""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    camera = camera_name(tags.make, tags.model)
    if isinstance(error, rawpy.LibRawFileUnsupportedError):
        return CorruptFileError(
            name,
            f"LibRaw cannot identify it as RAW ({camera})",
            "it is damaged, or in a compression that LibRaw does not read yet (Nikon High "
            "Efficiency, Sony ARW 6): convert it with Adobe DNG Converter",
        )
    if isinstance(error, rawpy.LibRawTooBigError):
        return TooLargeError(name, "is larger than LibRaw accepts")
    if isinstance(error, rawpy.LibRawUnsufficientMemoryError):
        return TooLargeError(name, "does not fit into memory")
    if isinstance(error, rawpy.LibRawIOError | rawpy.LibRawDataError):
        return CorruptFileError(
            name,
            f"is damaged or cut short (LibRaw: {text})",
            "copy it again from the card",
        )
    return CorruptFileError(
        name,
        f"LibRaw cannot decode it ({type(error).__name__}: {text})",
        "it is damaged, or of a kind that LibRaw does not read",
    )


def _check_size(name: str, size: tuple[int, int], max_megapixels: float) -> None:
    megapixels = size[0] * size[1] / 1e6
    if megapixels > max_megapixels:
        raise TooLargeError(
            name,
            f"declares {megapixels:.3g} megapixels ({size[0]}x{size[1]}), above the limit of "
            f"{max_megapixels:g}",
            "raise --max-megapixels if the file is to be trusted",
        )


def _frame(name: str, raw: Any, tags: Tags, overrides: Overrides, size: int) -> RawFrame:
    pattern, index_of = _bayer_pattern(name, raw, tags)
    sizes = raw.sizes
    visible = raw.raw_image_visible
    if min(visible.shape) < 2:
        raise UnsupportedRawError(name, f"its visible area is only {sizes.width}x{sizes.height}")
    # A copy: LibRaw's memory dies with the file.
    mosaic = np.array(visible, dtype=np.uint16, order="C")
    warnings = _damage(name, mosaic)
    if tags.data_end > size:
        warnings += (f"the file ends {tags.data_end - size} bytes before its picture does",)
    black, white, source = _levels(name, raw, pattern, index_of, tags, overrides)
    return RawFrame(
        path=name,
        mosaic=mosaic,
        pattern=pattern,
        black=black,
        white=white,
        levels_source=source,
        matrix=_matrix(raw, tags, overrides),
        white_balance=_balance(raw.camera_whitebalance, index_of),
        daylight_balance=_balance(raw.daylight_whitebalance, index_of),
        flip=int(sizes.flip),
        frames=_frames(sizes, tags),
        exposure=_exposure(raw, tags),
        warnings=warnings,
    )


def _bayer_pattern(name: str, raw: Any, tags: Tags) -> tuple[str, list[int]]:
    """(pattern at the visible area's own origin, LibRaw's colour index of R, G1, B, G2).

    rawpy's raw_pattern belongs to the raw frame; margins may be odd, so the cell is read at the
    visible origin. Cameras number their greens as they like, so the indices come along.
    """
    import rawpy

    if raw.raw_type != rawpy.RawType.Flat:
        what = (
            "a linear (already demosaiced) DNG"
            if tags.photometric == PHOTOMETRIC_LINEAR_RAW
            else "not a mosaic but full-colour data (sRAW, Foveon or pixel shift)"
        )
        raise UnsupportedRawError(
            name, f"is {what}", "pack needs the Bayer mosaic: use the camera's original RAW file"
        )
    cell = raw.raw_pattern
    if cell is None or cell.shape == (1, 1) or raw.num_colors == 1:
        raise UnsupportedRawError(
            name, "is from a monochrome sensor", "there are no colours to pack"
        )
    if cell.shape == (6, 6):
        raise UnsupportedRawError(
            name, "has Fujifilm's X-Trans mosaic", "only 2x2 Bayer mosaics can be packed"
        )
    description = raw.color_desc.decode("ascii", "replace").strip("\0")
    if cell.shape != (2, 2):
        size = f"{cell.shape[0]}x{cell.shape[1]}"
        raise UnsupportedRawError(
            name, f"has a {size} colour filter array", "only 2x2 Bayer mosaics can be packed"
        )
    top, left = raw.sizes.top_margin, raw.sizes.left_margin
    indices = [int(cell[(top + y) % 2, (left + x) % 2]) for y in (0, 1) for x in (0, 1)]
    letters = "".join(description[i] if i < len(description) else "?" for i in indices)
    if letters not in packing.PHASES:
        raise UnsupportedRawError(
            name,
            f"has the colour filter array {letters}",
            "only red, green, green, blue mosaics can be packed",
        )
    phase = packing.PHASES[letters]
    return letters, [indices[phase.index(color)] for color in range(4)]


def _damage(name: str, mosaic: npt.NDArray[np.uint16]) -> tuple[str, ...]:
    """LibRaw decodes some damaged files without a word; a frame of one value is a sure sign."""
    first = mosaic[0, 0]
    if (mosaic[0] == first).all() and (mosaic == first).all():
        if first == 0:
            raise CorruptFileError(
                name,
                "decodes to nothing but zeros",
                "it is damaged, or in a compression that LibRaw does not really read",
            )
        return (f"every sample is {int(first)}",)
    bottom = mosaic[-(mosaic.shape[0] // 8 or 1) :]
    if (bottom == bottom[0, 0]).all():
        return ("the lowest eighth of the picture is one flat value: the file may be cut short",)
    return ()


def _levels(
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
            f"its white level {white.tolist()} is not above its black level {black.tolist()}",
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


def _single(values: tuple[float, ...]) -> float | tuple[float, ...]:
    return values[0] if len(values) == 1 else values


def _matrix(raw: Any, tags: Tags, overrides: Overrides) -> colors.CameraMatrix | None:
    """Given by the user, else a DNG's own, else LibRaw's camera table, else None."""
    if overrides.matrix is not None:
        return colors.CameraMatrix(np.asarray(overrides.matrix, dtype=np.float64), "given")
    if tags.camera_matrix is not None:
        return tags.camera_matrix
    table = np.asarray(raw.rgb_xyz_matrix, dtype=np.float64)[:3]
    if colors.usable(table):
        # LibRaw keeps floats of table integers times 1e-4; rounding restores them.
        return colors.CameraMatrix(np.round(table, 6), "LibRaw's table")
    return None


def _balance(values: list[float], index_of: list[int]) -> tuple[float, ...] | None:
    """Multipliers by colour R, G1, B, G2; a zero second green takes the first's. None if absent."""
    found = [float(values[i]) for i in index_of]
    found[3] = found[3] or found[1]
    return tuple(found) if all(np.isfinite(v) and v > 0 for v in found) else None


def _frames(sizes: Any, tags: Tags) -> dict[str, geometry.Frame]:
    """Frames by name. A DNG's own DefaultCrop beats LibRaw's, which can be a pixel off."""
    origin = (sizes.left_margin, sizes.top_margin)
    if tags.is_dng and tags.crop_origin and tags.crop_size:
        crop_origin, crop_size = tags.crop_origin, tags.crop_size
    else:
        crop_origin = (sizes.crop_left_margin, sizes.crop_top_margin)
        # Width and height together: LibRaw leaves both 0 where it found no crop.
        crop_size = (sizes.crop_width, sizes.crop_height)
    return geometry.sensor_frames(
        raw_size=(sizes.raw_width, sizes.raw_height),
        visible_origin=origin,
        visible_size=(sizes.width, sizes.height),
        crop_origin=crop_origin,
        crop_size=crop_size,
        flip=int(sizes.flip),
    )


def _exposure(raw: Any, tags: Tags) -> Exposure:
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
