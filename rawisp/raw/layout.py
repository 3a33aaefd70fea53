"""Where a file's picture lies, by the file's own tags, and whether it can be there.

LibRaw believes a file: it decodes what is left of one that was cut, and stops without a word at a
tile that is broken. So strips and tiles are counted and looked at before it sees the file.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

from rawisp.errors import CorruptFileError, InputError, UnsupportedRawError

COMPRESSION = 259
BITS_PER_SAMPLE = 258
IMAGE_WIDTH, IMAGE_LENGTH, ROWS_PER_STRIP, SAMPLES_PER_PIXEL, PLANAR = 256, 257, 278, 277, 284
TILE_WIDTH, TILE_LENGTH = 322, 323
STRIPS, TILES = (273, 279), (324, 325)  # tags of the offsets and of the byte counts
# Panasonic: the true offset of a strip whose StripOffsets is 0xFFFFFFFF, and the sensor's size.
PANASONIC_OFFSET, PANASONIC_FORMAT, PANASONIC_SIZE = 0x118, 0x2D, (2, 3)
CR2_SLICES = 50752  # only the mosaic's directory of a Canon CR2 has it

PREVIEW = (513, 514)  # offset and length of an old-style JPEG preview
SUB_IFDS = 330

_JPEG_MARKER = b"\xff\xd8"
_JPEG_COMPRESSIONS = (7, 34892)
# Panasonic packs 14 samples into 16 bytes in its older formats, up to this number of its tag
# (LibRaw panasonic_load_raw); the byte count in its files is that of two bytes a sample.
_PANASONIC_LAST_PACKED = 4

# Compressions that LibRaw as built here does not read: (name, what to do).
_UNREADABLE = {
    9: (
        "GoPro's VC-5 compression",
        "convert it with Adobe DNG Converter, or with gpr_tools of GoPro's GPR project",
    ),
    52546: (
        "JPEG XL compression",
        "convert the camera's original file, or this one, with Adobe DNG Converter set to be "
        "compatible with DNG 1.6 or older, which compresses as lossless JPEG",
    ),
}


@dataclass(frozen=True)
class Picture:
    """The raw image's strips or tiles. `needed`: how many its size asks for, 0 if unknown."""

    what: str = "strip"
    offsets: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    needed: int = 0
    compression: int | None = None
    is_jpeg: bool = False
    plain: bool = False  # uncompressed, and each sample has its bytes in the file

    @property
    def end(self) -> int:
        """The byte after the last one; 0 where the tags do not say."""
        return max((a + b for a, b in zip(self.offsets, self.lengths, strict=True)), default=0)


def picture_of(tags: dict[int, Any]) -> Picture | None:
    """The strips or tiles that the raw image's directory lists, None where it lists nothing."""
    compression = _whole(tags.get(COMPRESSION))
    for what, (offsets, counts) in (("strip", STRIPS), ("tile", TILES)):
        starts, lengths = _listed(tags.get(offsets)), _listed(tags.get(counts))
        if PANASONIC_OFFSET in tags:
            starts, lengths = _panasonic(tags, starts, lengths)
        if starts and lengths:
            number = min(len(starts), len(lengths))
            return Picture(
                what=what,
                offsets=starts[:number],
                lengths=lengths[:number],
                needed=_needed(tags, what),
                compression=compression,
                is_jpeg=compression in _JPEG_COMPRESSIONS or CR2_SLICES in tags,
                plain=compression == 1 and sum(lengths[:number]) * 8 == _bits(tags),
            )
    return None if compression is None else Picture(compression=compression)


def _bits(tags: dict[int, Any]) -> int:
    """How many bits all samples of a mosaic take uncompressed; -1 where the tags do not say.

    Olympus calls its compressed files uncompressed, too; theirs are shorter than this.
    """
    sides = [_whole(tags.get(code)) for code in (IMAGE_WIDTH, IMAGE_LENGTH, BITS_PER_SAMPLE)]
    return -1 if None in sides else math.prod(side for side in sides if side is not None)


def _listed(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, tuple) else (value,)
    numbers = [_whole(one) for one in values]
    return tuple(one for one in numbers if one is not None) if None not in numbers else ()


def _whole(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _panasonic(
    tags: dict[int, Any], starts: tuple[int, ...], lengths: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    offset = _whole(tags.get(PANASONIC_OFFSET))
    width, height = (_whole(tags.get(code)) or 0 for code in PANASONIC_SIZE)
    layout = _whole(tags.get(PANASONIC_FORMAT)) or 0
    if offset is None or not lengths or len(lengths) > 1:
        return starts, lengths
    packed = math.ceil(width * height / 14) * 16
    if layout > _PANASONIC_LAST_PACKED or not packed:
        return (), ()  # compressed: the tags do not say how long it is
    return (offset,), (min(lengths[0], packed),)


def _needed(tags: dict[int, Any], what: str) -> int:
    """How many strips or tiles an image of this size has (TIFF 6.0, sections 3 and 15)."""
    width, height = _whole(tags.get(IMAGE_WIDTH)) or 0, _whole(tags.get(IMAGE_LENGTH)) or 0
    planes = (_whole(tags.get(SAMPLES_PER_PIXEL)) or 1) if tags.get(PLANAR) == 2 else 1
    if what == "strip":
        rows = _whole(tags.get(ROWS_PER_STRIP)) or height
        return planes * math.ceil(height / rows) if rows else 0
    across, down = _whole(tags.get(TILE_WIDTH)) or 0, _whole(tags.get(TILE_LENGTH)) or 0
    if not across or not down:
        return 0
    return planes * math.ceil(width / across) * math.ceil(height / down)


def furthest_byte(values: dict[int, Any]) -> int:
    """The end of strips, tiles, previews and directories: where it is missing, the file was cut."""
    picture = picture_of(values)
    ends = [picture.end if picture is not None else 0]
    for starts, lengths in (
        (values.get(PREVIEW[0]), values.get(PREVIEW[1])),
        (values.get(SUB_IFDS), 2),  # a directory begins with two bytes, its length
    ):
        first = starts if isinstance(starts, tuple) else (starts,)
        sizes = lengths if isinstance(lengths, tuple) else (lengths,) * len(first)
        ends += [(_whole(a) or 0) + (_whole(b) or 0) for a, b in zip(first, sizes, strict=False)]
    return max(ends)


def check_whole(name: str, file: BinaryIO, picture: Picture | None, size: int) -> None:
    """Whether the picture can be where the file's header and tags say; `size` is the file's.

    CorruptFileError where it is not all there, UnsupportedRawError for a compression that LibRaw
    does not read.
    """
    if picture is not None:
        _check_picture(name, file, picture, size)
    _check_container(name, file, size)


def _check_picture(name: str, file: BinaryIO, picture: Picture, size: int) -> None:
    if picture.compression in _UNREADABLE:
        compression, advice = _UNREADABLE[picture.compression]
        raise UnsupportedRawError(name, f"uses {compression}, which LibRaw does not read", advice)
    if picture.end > size:
        raise cut_short(name, picture.end, size)
    count, what = len(picture.offsets), picture.what
    if 0 < count < picture.needed:
        raise _damaged(
            name,
            f"is damaged: it lists {count} of the {picture.needed} {what}s that its size needs",
        )
    if picture.is_jpeg:
        for number, offset in enumerate(picture.offsets, 1):
            file.seek(offset)
            if file.read(2) != _JPEG_MARKER:
                raise _damaged(
                    name, f"is damaged: its {what} {number} of {count} is no JPEG any more"
                )


def _check_container(name: str, file: BinaryIO, size: int) -> None:
    """CorruptFileError for a RAF, CR3, MRW or CRW that ends before its own header says."""
    file.seek(0)
    header = file.read(128)
    end = 0
    try:
        if header[:8] == b"FUJIFILM":
            offset, length = struct.unpack(">II", header[100:108])
            end = offset + length
        elif header[4:12] == b"ftypcrx ":
            end = _boxes_end(file, size)
        elif header[:4] == b"\0MRM":
            end = _minolta_end(file)
        elif header[6:14] == b"HEAPCCDR":
            _check_canon_heap(name, file, size)
    except struct.error:
        raise _damaged(name, "ends within its header") from None
    if end > size:
        raise cut_short(name, end, size)


def _boxes_end(file: BinaryIO, size: int) -> int:
    """The end of the last box of an ISO base media file (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, _ = struct.unpack(">I4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        if length == 0:  # to the end of the file
            return size
        if length < 8:
            return at
        at += length
    return at


def _minolta_end(file: BinaryIO) -> int:
    """MRW: blocks up to the length in the header, then the samples; PRD has their number and bits.

    https://www.dalibor.cz/software/minolta-raw-mrw-file-format describes the format.
    """
    file.seek(4)
    (length,) = struct.unpack(">I", file.read(4))
    at = 8
    while at + 8 <= length + 8:
        file.seek(at)
        kind, block = struct.unpack(">4sI", file.read(8))
        if kind == b"\0PRD":
            height, width, _, _, bits = struct.unpack(">8x4HB", file.read(17))
            return int(8 + length + height * width * bits // 8)
        at += 8 + block
    return 0


def _check_canon_heap(name: str, file: BinaryIO, size: int) -> None:
    """CRW: the last four bytes point to the heap's directory, so a cut file has none."""
    file.seek(2)
    (begin,) = struct.unpack("<I", file.read(4))
    file.seek(max(size - 4, 0))
    (offset,) = struct.unpack("<I", file.read(4))
    at = begin + offset
    if at + 6 <= size:
        file.seek(at)
        (count,) = struct.unpack("<H", file.read(2))
        if count > 0 and at + 2 + 10 * count <= size:
            return
    raise _damaged(name, "is cut short: the directory at the end of a CRW file is missing")


def cut_short(name: str, end: int, size: int) -> InputError:
    """The refusal of a file of `size` bytes whose picture ends at byte `end`."""
    return _damaged(name, f"is cut short: its picture ends at byte {end}, the file at byte {size}")


def _damaged(name: str, problem: str) -> CorruptFileError:
    return CorruptFileError(os.fspath(name), problem, "copy it again from the card")
