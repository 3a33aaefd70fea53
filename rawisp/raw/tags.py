"""Facts that LibRaw hides: make, model, time, and a DNG's colour matrices and crop, from TIFF tags.

tifffile parses the tags; this file finds the TIFF inside the container (ORF and RW2 are TIFFs
with another magic number, RAF carries an EXIF JPEG, MRW and CR3 keep TIFFs in blocks) and knows
which tags matter. Reading tags never fails: what is missing or malformed is left out.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from rawisp.color import CameraMatrix, Matrix, nearest_to_d65
from rawisp.raw import ciff
from rawisp.raw.layout import CR2_SLICES, Picture, furthest_byte, picture_of
from rawisp.raw.names import stated_text

MAKE, MODEL, ORIENTATION, DATE_TIME = 271, 272, 274, 306
EXIF_IFD, DATE_TIME_ORIGINAL = 34665, 36867
DNG_VERSION, UNIQUE_CAMERA_MODEL = 50706, 50708
DEFAULT_CROP_ORIGIN, DEFAULT_CROP_SIZE, ACTIVE_AREA = 50719, 50720, 50829
COLOR_MATRIX = (50721, 50722, 52531)
CAMERA_CALIBRATION = (50723, 50724, 52530)
CALIBRATION_ILLUMINANT = (50778, 50779, 52529)
ANALOG_BALANCE = 50727
BLACK_LEVEL_REPEAT_DIM, BLACK_LEVEL = 50713, 50714
BLACK_LEVEL_DELTA_H, BLACK_LEVEL_DELTA_V = 50715, 50716
IMAGE_WIDTH, IMAGE_LENGTH = 256, 257
PHOTOMETRIC, SAMPLES_PER_PIXEL = 262, 277
PHOTOMETRIC_CFA, PHOTOMETRIC_LINEAR_RAW = 32803, 34892
_MOST_DIRECTORIES = 8  # cameras chain two to five; a hostile file may chain thousands


Levels = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tags:
    """What the file's own tags say; empty where they say nothing."""

    make: str = ""
    model: str = ""
    captured_at: str = ""  # EXIF form, camera's local time: "2020:11:28 21:04:55"
    is_dng: bool = False
    photometric: int | None = None  # of the raw image, not of the previews
    camera_matrix: CameraMatrix | None = None
    crop_origin: tuple[int, int] | None = None  # DNG DefaultCrop, in the raw frame
    crop_size: tuple[int, int] | None = None
    exif: dict[str, float] = field(default_factory=dict)
    active_corner: tuple[int, int] = (0, 0)  # DNG ActiveArea's (left, top), in the raw frame
    black_cell: Matrix | None = None  # DNG BlackLevel, (2, 2), counted from the active corner
    black_delta_columns: Levels | None = None  # DNG BlackLevelDeltaH, from the active corner on
    black_delta_rows: Levels | None = None  # DNG BlackLevelDeltaV
    declared_size: tuple[int, int] = (0, 0)  # (width, height) of the largest image in the file
    picture: Picture | None = None  # the raw image's strips or tiles
    furthest_byte: int = 0  # the byte after the last that any tag points to, previews included
    stated_size: tuple[int, int] | None = None  # (width, height) of the camera's own JPEG


def read_tags(file: BinaryIO) -> Tags:
    """The tags of an open file (any position); never raises on malformed ones."""
    try:
        file.seek(6)
        if file.read(8) == ciff.MAGIC:
            return _tags_of_ciff(file)
        return _merge([_tags_of(stream) for stream in _tiff_streams(file)])
    except Exception:  # a hostile directory; every fact here is optional
        return Tags()


def _tags_of_ciff(file: BinaryIO) -> Tags:
    found = ciff.read_ciff(file)
    moment = None if found.captured_s is None else datetime.fromtimestamp(found.captured_s, UTC)
    return Tags(
        make=found.make,
        model=found.model,
        captured_at=moment.strftime("%Y:%m:%d %H:%M:%S") if moment else "",
        stated_size=found.size,
    )


def _tiff_streams(file: BinaryIO) -> Iterator[BinaryIO]:
    """The TIFF structures of a container, as seekable files."""
    file.seek(0)
    head = file.read(128)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        yield file
    elif head[:4] in (b"IIRO", b"IIRS", b"IIU\0"):
        file.seek(0)
        yield io.BytesIO(b"II*\0" + file.read(1 << 20)[4:])
    elif head[:4] == b"MMOR":
        file.seek(0)
        yield io.BytesIO(b"MM\0*" + file.read(1 << 20)[4:])
    elif head[:4] == b"\0MRM":
        file.seek(0)
        blocks = file.read(1 << 18)
        at = blocks.find(b"\0TTW")
        if at >= 0:
            (length,) = struct.unpack(">I", blocks[at + 4 : at + 8])
            yield io.BytesIO(blocks[at + 8 : at + 8 + length])
    elif head[:8] == b"FUJIFILM":
        offset, length = struct.unpack(">II", head[84:92])
        file.seek(offset)
        jpeg = file.read(min(length, 1 << 18))
        at = jpeg.find(b"Exif\0\0")
        if at >= 0:
            yield io.BytesIO(jpeg[at + 6 :])
    elif head[4:12] == b"ftypcrx ":
        file.seek(0)
        boxes = file.read(1 << 16)
        for name in (b"CMT1", b"CMT2"):
            at = boxes.find(name)
            if at >= 4:
                (length,) = struct.unpack(">I", boxes[at - 4 : at])
                yield io.BytesIO(boxes[at + 4 : at - 4 + length])


@contextlib.contextmanager
def quiet_tifffile() -> Iterator[None]:
    """tifffile logs about damaged tags; here they are simply missing."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _tags_of(stream: BinaryIO) -> Tags:
    import tifffile

    stream.seek(0)
    with quiet_tifffile(), tifffile.TiffFile(stream) as tiff:
        pages = _pages(tiff)
        main = _values(pages[0])
        raw = _raw_values(pages)
        declared = max((_declared_size(_values(page)) for page in pages), key=math.prod)
    exif = main.get(EXIF_IFD)
    exif = exif if isinstance(exif, dict) else {}
    origin, size = _default_crop(raw)
    is_dng = DNG_VERSION in main
    return Tags(
        make=_text(main.get(MAKE)),
        model=_text(main.get(MODEL)) or _text(main.get(UNIQUE_CAMERA_MODEL)),
        captured_at=_text(
            exif.get("DateTimeOriginal") or main.get(DATE_TIME_ORIGINAL) or main.get(DATE_TIME)
        ),
        is_dng=is_dng,
        photometric=_integer(raw.get(PHOTOMETRIC)),
        camera_matrix=dng_camera_matrix(main) if is_dng else None,
        crop_origin=origin,
        crop_size=size,
        exif=_exposure(exif, main),
        active_corner=_active_corner(raw),
        black_cell=_black_cell(raw) if is_dng else None,
        black_delta_columns=_black_deltas(raw, BLACK_LEVEL_DELTA_H) if is_dng else None,
        black_delta_rows=_black_deltas(raw, BLACK_LEVEL_DELTA_V) if is_dng else None,
        declared_size=declared,
        picture=picture_of(raw),
        furthest_byte=max(furthest_byte(_values(page)) for page in pages),
        stated_size=_stated_size(exif),
    )


def _default_crop(raw: dict[int, Any]) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """(origin in the raw frame, size) of DNG's DefaultCrop.

    The specification counts the origin from the ActiveArea's corner. LibRaw rounds odd corners
    up, so its visible area does not necessarily begin there.
    """
    origin, size = _pair(raw, DEFAULT_CROP_ORIGIN), _pair(raw, DEFAULT_CROP_SIZE)
    if origin is None or size is None:
        return None, None
    left, top = _active_corner(raw)
    return (left + origin[0], top + origin[1]), size


def _active_corner(raw: dict[int, Any]) -> tuple[int, int]:
    """(left, top) of DNG's ActiveArea in the raw frame; (0, 0) where there is none."""
    area = raw.get(ACTIVE_AREA)
    if isinstance(area, tuple) and len(area) == 4:
        return int(area[1]), int(area[0])
    return 0, 0


def _black_cell(raw: dict[int, Any]) -> Matrix | None:
    """BlackLevel of a DNG as a (2, 2) cell counted from the ActiveArea's corner.

    None where the file states none, or repeats it otherwise than each pixel, row, column or 2x2
    cell; LibRaw's value is then used. (LibRaw drops fractions, and does not move the cell along
    when it rounds an odd corner.)
    """
    levels = _rationals(raw.get(BLACK_LEVEL), pairs_of=raw.get(BLACK_LEVEL_REPEAT_DIM, (1, 1)))
    repeat = raw.get(BLACK_LEVEL_REPEAT_DIM, (1, 1))
    if BLACK_LEVEL not in raw and (BLACK_LEVEL_DELTA_H in raw or BLACK_LEVEL_DELTA_V in raw):
        return np.zeros((2, 2))  # the specification's default, to which the deltas are added
    if levels is None:
        return None
    if repeat not in ((1, 1), (1, 2), (2, 1), (2, 2)) or levels.size != repeat[0] * repeat[1]:
        return None
    if not np.isfinite(levels).all():
        return None
    return np.broadcast_to(levels.reshape(repeat), (2, 2)).copy()


def _black_deltas(raw: dict[int, Any], code: int) -> Levels | None:
    """BlackLevelDeltaH or V: what is added to BlackLevel, a value per column or row."""
    deltas = _rationals(raw.get(code), pairs=True)
    if deltas is None or not deltas.size or not np.isfinite(deltas).all():
        return None
    return deltas


def _declared_size(values: dict[int, Any]) -> tuple[int, int]:
    return _integer(values.get(IMAGE_WIDTH)) or 0, _integer(values.get(IMAGE_LENGTH)) or 0


def _stated_size(exif: dict[str, Any]) -> tuple[int, int] | None:
    """EXIF's PixelXDimension and PixelYDimension: the size of the JPEG that the camera makes."""
    width, height = _integer(exif.get("PixelXDimension")), _integer(exif.get("PixelYDimension"))
    return (width, height) if width and height else None


def _pages(tiff: Any) -> list[Any]:
    """IFD 0, its SubIFDs, and the directories that follow it."""
    pages = [tiff.pages[0]]
    with contextlib.suppress(Exception):
        pages.extend(pages[0].pages or ())
    with contextlib.suppress(Exception):
        pages.extend(tiff.pages[n] for n in range(1, min(len(tiff.pages), _MOST_DIRECTORIES)))
    return pages


def _values(page: Any) -> dict[int, Any]:
    """Tag code to value; a tag that cannot be read is left out, the others stay."""
    values = {}
    for tag in getattr(page, "tags", ()):
        with contextlib.suppress(Exception):
            values[tag.code] = tag.value
    return values


def _raw_values(pages: list[Any]) -> dict[int, Any]:
    """The tags of the page that holds the mosaic: the first CFA page, else linear RAW, else IFD 0.

    A Canon CR2 says nothing of colour filters; its mosaic is the page with slices. An enhanced DNG
    holds the mosaic and what was made of it as linear RAW, in any order.
    """
    every = [_values(page) for page in pages]
    for is_raw in (
        lambda values: values.get(PHOTOMETRIC) == PHOTOMETRIC_CFA or CR2_SLICES in values,
        lambda values: values.get(PHOTOMETRIC) == PHOTOMETRIC_LINEAR_RAW,
    ):
        found = next(filter(is_raw, every), None)
        if found is not None:
            return found
    return every[0]


def _merge(parts: list[Tags]) -> Tags:
    """The first part that states a fact wins."""
    if not parts:
        return Tags()
    chosen: dict[str, Any] = {}
    for part in parts:
        for name, value in vars(part).items():
            chosen[name] = chosen.get(name) or value
    return Tags(**chosen)


def dng_camera_matrix(tags: dict[int, Any]) -> CameraMatrix | None:
    """XYZ to camera of a DNG: AnalogBalance . CameraCalibration . ColorMatrix, nearest to D65.

    DNG specification 1.7, chapter 6 ("Mapping Camera Color Space to CIE XYZ Space"), for a
    3-colour camera; of up to three calibrations the one whose illuminant is nearest to D65 in
    mired, without interpolation. None when no ColorMatrix is usable.
    """
    balance = _rationals(tags.get(ANALOG_BALANCE))
    analog = np.diag(balance) if balance is not None and _finite(balance, 3) else np.eye(3)
    candidates: list[tuple[int | None, Matrix]] = []
    names: list[str] = []
    for number, code in enumerate(COLOR_MATRIX):
        values = _rationals(tags.get(code))
        if values is None or values.shape != (9,):
            continue
        if not np.isfinite(values).all():
            continue
        calibration = _rationals(tags.get(CAMERA_CALIBRATION[number]))
        individual = (
            calibration.reshape(3, 3)
            if calibration is not None and _finite(calibration, 9)
            else np.eye(3)
        )
        illuminant = _integer(tags.get(CALIBRATION_ILLUMINANT[number]))
        candidates.append((illuminant, analog @ individual @ values.reshape(3, 3)))
        names.append(f"ColorMatrix{number + 1}")
    best = nearest_to_d65(candidates)
    if best is None:
        return None
    name = next(n for n, c in zip(names, candidates, strict=True) if c[1] is best[1])
    light = f"illuminant {best[0]}" if best[0] else "no illuminant given"
    return CameraMatrix(best[1], f"the file's own {name} ({light})")


def _exposure(exif: dict[str, Any], main: dict[int, Any]) -> dict[str, float]:
    """ISO, exposure time, f-number, focal length by their EXIF names, where given; 0 is unknown."""
    found: dict[str, float] = {}
    for name, code in (
        ("ISOSpeedRatings", 34855),
        ("ExposureTime", 33434),
        ("FNumber", 33437),
        ("FocalLength", 37386),
    ):
        value = _rationals(exif.get(name, main.get(code)), scalar=name == "ISOSpeedRatings")
        if value is not None and value.size and np.isfinite(value[0]) and value[0] >= 0:
            found[name] = float(value[0])
    return found


def _finite(values: Levels, count: int) -> bool:
    return values.shape == (count,) and bool(np.isfinite(values).all())


def _rationals(
    value: Any,
    *,
    scalar: bool = False,
    pairs: bool = False,
    pairs_of: tuple[int, ...] | None = None,
) -> Levels | None:
    """A tag of rationals, (numerator, denominator, ...), as float64; None where impossible.

    scalar: the tag holds plain numbers. pairs: it never does. pairs_of: the shape of the values,
    for tags that may hold either; as many numbers as that are plain.
    """
    if value is None:
        return None
    try:
        numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
        plain = numbers.size == int(np.prod(pairs_of)) if pairs_of else numbers.size % 2 == 1
    except (TypeError, ValueError):
        return None
    if scalar or (plain and not pairs):
        return numbers
    if numbers.size % 2:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(numbers[0::2] / numbers[1::2])


def _pair(tags: dict[int, Any], code: int) -> tuple[int, int] | None:
    """A tag of two whole numbers, (x, y), stored as integers or rationals."""
    value = tags.get(code)
    if value is None:
        return None
    numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if numbers.size == 4:
        with np.errstate(divide="ignore", invalid="ignore"):
            numbers = numbers[0::2] / numbers[1::2]
    if numbers.size != 2 or not np.isfinite(numbers).all():
        return None
    return round(float(numbers[0])), round(float(numbers[1]))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return stated_text(value) if isinstance(value, str) else ""


def _integer(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
