"""Facts of a Canon CRW file, whose container (CIFF) is a heap of records and no TIFF.

The format is described in "Canon Raw (CRW) File Description" (Phil Harvey,
https://exiftool.org/canon_raw.html). Reading never raises; what is missing is left out.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from rawisp.raw.names import stated_text

MAGIC = b"HEAPCCDR"
_MAKE_MODEL, _IMAGE_SIZE, _CAPTURED = 0x080A, 0x1810, 0x180E
_HEAPS = (0x28, 0x30)  # the types of records that hold records, in the tag's upper bits
_DEEPEST = 4
_MOST_RECORDS = 200
_LARGEST_VALUE = 1024


@dataclass(frozen=True)
class CiffFacts:
    """make, model: "" where the file does not say. size: (width, height) of the camera's JPEG.

    captured_s: the camera's local time in seconds since 1970, None where it is not set.
    """

    make: str = ""
    model: str = ""
    size: tuple[int, int] | None = None
    captured_s: int | None = None


def read_ciff(file: BinaryIO) -> CiffFacts:
    """The facts of an open CRW file, at any position."""
    make = model = ""
    size: tuple[int, int] | None = None
    captured: int | None = None
    with contextlib.suppress(Exception):  # a hostile heap; what was found before it stays
        for tag, value in _records(file):
            if tag == _MAKE_MODEL:
                parts = [stated_text(part.decode("latin-1")) for part in value.split(b"\0")]
                make, model = (*parts, "", "")[:2]
            elif tag == _IMAGE_SIZE:
                width, height = struct.unpack("<II", value[:8])
                size = (width, height) if width and height else None
            elif tag == _CAPTURED:
                (seconds,) = struct.unpack("<I", value[:4])
                captured = seconds or None
    return CiffFacts(make, model, size, captured)


def _records(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(tag without its storage bits, value) of the records of all heaps, short ones only."""
    file.seek(0)
    header = file.read(14)
    if header[6:] != MAGIC:
        return
    (begin,) = struct.unpack("<I", header[2:6])
    end = file.seek(0, 2)
    heaps = [(begin, end - begin, 0)]
    while heaps:
        start, length, depth = heaps.pop()
        file.seek(start + length - 4)
        (offset,) = struct.unpack("<I", file.read(4))
        file.seek(start + offset)
        (count,) = struct.unpack("<H", file.read(2))
        entries = file.read(10 * min(count, _MOST_RECORDS))
        for tag, size, at in struct.iter_unpack("<HII", entries[: len(entries) // 10 * 10]):
            if tag & 0x4000:  # the value stands in the record itself
                yield tag & 0x3FFF, struct.pack("<II", size, at)
            elif (tag >> 8) & 0x38 in _HEAPS and depth < _DEEPEST:
                heaps.append((start + at, size, depth + 1))
            elif size <= _LARGEST_VALUE:
                file.seek(start + at)
                yield tag & 0x3FFF, file.read(size)
