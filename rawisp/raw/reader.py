"""The only file that knows rawpy: opens a RAW file, checks it, copies what matters.

Order matters here. The header is checked before LibRaw sees the file, the size after LibRaw has
read the header and before it decodes, and everything is copied before the file is closed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, BinaryIO, TypeVar

from rawisp import geometry, packing
from rawisp.errors import (
    CorruptFileError,
    InputError,
    TooLargeError,
    UnreadableFileError,
    UnsupportedRawError,
)
from rawisp.raw import damage, facts, formats, layout
from rawisp.raw.frame import RawFrame
from rawisp.raw.names import camera_name
from rawisp.raw.poison import poisoned_memory
from rawisp.raw.tags import PHOTOMETRIC_LINEAR_RAW, Tags, read_tags

DEFAULT_MAX_MEGAPIXELS = 200.0

Result = TypeVar("Result")

# No RAW format spends more than this on a pixel; files below the first size are never too large.
_MAX_BYTES_PER_PIXEL = 8
_SMALL_FILE_BYTES = 256 << 20


def open_raw(
    path: str | bytes | os.PathLike[str],
    *,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    overrides: facts.Overrides | None = None,
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

    def decoded(raw: Any, tags: Tags) -> RawFrame:
        # Of a plain picture, all of which is there, LibRaw reads every sample or raises.
        plain = tags.picture is not None and tags.picture.plain
        with nullcontext() if plain else poisoned_memory():
            raw.unpack()
        return _frame(name, raw, tags, overrides or facts.Overrides())

    return _opened(name, max_megapixels, decoded, whole=True)


def read_frames(
    path: str | bytes | os.PathLike[str], *, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
) -> dict[str, geometry.Frame]:
    """The frames of one RAW file by name, from its header.

    Nothing is decoded, so damaged samples and mosaics that cannot be packed go unseen. Errors as
    in `open_raw`.
    """
    name = os.fsdecode(path)
    return _opened(
        name, max_megapixels, lambda raw, tags: facts.frames_of(raw.sizes, tags), whole=False
    )


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


def _opened(
    name: str, max_megapixels: float, read: Callable[[Any, Tags], Result], *, whole: bool
) -> Result:
    """What `read` makes of LibRaw's object and the file's tags.

    whole: refuse a file whose picture is not all there. LibRaw decodes what it finds, and calls
    that success.
    """
    try:
        with open_regular_file(name) as file:
            return _read(name, file, max_megapixels, read, whole=whole)
    except OSError as error:
        raise UnreadableFileError(name, f"cannot be read ({error.strerror or error})") from None


def _read(
    name: str,
    file: BinaryIO,
    max_megapixels: float,
    read: Callable[[Any, Tags], Result],
    *,
    whole: bool,
) -> Result:
    header = file.read(formats.HEADER_BYTES)
    if not header:
        raise CorruptFileError(name, "is empty", "copy it again from the card")
    if not formats.has_known_header(header):
        raise CorruptFileError(name, *formats.describe_header(header))
    if header.startswith(formats.FOVEON):
        raise _foveon(name)
    tags = read_tags(file)
    size = file.seek(0, os.SEEK_END)
    _check_before_reading(name, size, tags, max_megapixels)
    if whole:
        layout.check_whole(name, file, tags.picture, size)
    file.seek(0, os.SEEK_END)  # else what is buffered is joined to the rest, a copy of the file
    file.seek(0)
    import rawpy

    with rawpy.RawPy() as raw:
        try:
            raw.open_buffer(file)
            _check_size(name, (raw.sizes.raw_width, raw.sizes.raw_height), max_megapixels)
            return read(raw, tags)
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


def _foveon(name: str) -> UnsupportedRawError:
    return UnsupportedRawError(
        name,
        "is from a Foveon sensor (Sigma X3F), which has all colours at each pixel and no mosaic",
        "pack needs the RAW file of a camera with a Bayer mosaic",
    )


def _translated(name: str, error: Exception, tags: Tags, size: int) -> InputError:
    """LibRaw's exception as one of ours. Its text is no diagnosis, so both readings are given."""
    import rawpy

    if tags.furthest_byte > size:
        return layout.cut_short(name, tags.furthest_byte, size)
    text = error.args[0] if error.args else ""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    camera = camera_name(tags.make, tags.model)
    if isinstance(error, rawpy.LibRawFileUnsupportedError):
        return CorruptFileError(
            name,
            f"LibRaw cannot identify it as RAW ({camera})",
            f"it is damaged, or {_unread_kind(camera)}: convert it with Adobe DNG Converter",
        )
    if isinstance(error, rawpy.LibRawTooBigError):
        if size <= _SMALL_FILE_BYTES:
            return CorruptFileError(
                name,
                f"is damaged or cut short: its header asks for more than its {size} bytes can hold",
                "copy it again from the card",
            )
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


def _unread_kind(camera: str) -> str:
    """What a sound file of `camera` is that LibRaw 0.22 does not read."""
    for maker, kind in (("NIKON", "Nikon's High Efficiency"), ("SONY", "Sony's ARW 6")):
        if camera.upper().startswith(maker):
            return f"in a compression that LibRaw does not read yet ({kind})"
    return "of a kind or compression that LibRaw does not read yet"


def _check_size(name: str, size: tuple[int, int], max_megapixels: float) -> None:
    megapixels = size[0] * size[1] / 1e6
    if megapixels > max_megapixels:
        raise TooLargeError(
            name,
            f"declares {megapixels:.3g} megapixels ({size[0]}x{size[1]}), above the limit of "
            f"{max_megapixels:g}",
            "raise --max-megapixels if the file is to be trusted",
        )


def _frame(name: str, raw: Any, tags: Tags, overrides: facts.Overrides) -> RawFrame:
    pattern, index_of = _bayer_pattern(name, raw, tags)
    sizes = raw.sizes
    visible = raw.raw_image_visible
    if min(visible.shape) < 2:
        raise UnsupportedRawError(name, f"its visible area is only {sizes.width}x{sizes.height}")
    # A copy: LibRaw's memory dies with the file.
    mosaic, rows = damage.examined_copy(visible)
    black, white, source = facts.levels_of(name, raw, pattern, index_of, tags, overrides)
    black_rows, black_columns = facts.black_deltas_of(sizes, tags, overrides)
    return RawFrame(
        path=name,
        mosaic=mosaic,
        pattern=pattern,
        black=black,
        black_rows=black_rows,
        black_columns=black_columns,
        white=white,
        levels_source=source,
        matrix=facts.matrix_of(raw, tags, overrides),
        white_balance=facts.balance_of(raw.camera_whitebalance, index_of),
        daylight_balance=facts.balance_of(raw.daylight_whitebalance, index_of),
        flip=int(sizes.flip),
        frames=facts.frames_of(sizes, tags),
        exposure=facts.exposure_of(raw, tags),
        suspicions=damage.suspicions_of(name, mosaic, rows, black, white),
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
