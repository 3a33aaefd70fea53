"""Tiled DNGs in lossless JPEG, as cameras and converters write them, to be damaged by tests."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rawisp.raw.container import CAMERA_BODIES, dng_tags

Array = npt.NDArray[Any]

# All 17 categories of differences get codes of five bits: a valid, if wasteful, Huffman table.
_CODE_BITS = 5


def encode(samples: Array) -> bytes:
    """A lossless JPEG (ITU-T T.81, process 14, predictor 1, one component) of uint16 (H, W)."""
    height, width = samples.shape
    header = b"\xff\xd8"
    header += b"\xff\xc3" + struct.pack(">HBHHB3B", 11, 16, height, width, 1, 1, 0x11, 0)
    lengths = [0] * 16
    lengths[_CODE_BITS - 1] = 17
    header += b"\xff\xc4" + struct.pack(">HB16B17B", 36, 0, *lengths, *range(17))
    header += b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 1, 0x00, 1, 0, 0)
    predicted = np.empty((height, width), np.int64)
    predicted[:, 1:] = samples[:, :-1]
    predicted[1:, 0] = samples[:-1, 0]
    predicted[0, 0] = 1 << 15
    bits = []
    for difference in (samples.astype(np.int64) - predicted).ravel().tolist():
        category = abs(difference).bit_length()
        bits.append(f"{category:0{_CODE_BITS}b}")
        if category:
            value = difference if difference > 0 else difference + (1 << category) - 1
            bits.append(f"{value:0{category}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    body = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    return header + body + b"\xff\xd9"


def write_tiled_dng(path: Path, mosaic: Array, tile: int = 64) -> list[tuple[int, int]]:
    """Writes uint16 (H, W), sides multiples of `tile`; returns (offset, length) of each tile."""
    height, width = mosaic.shape
    tiles = [
        encode(mosaic[y : y + tile, x : x + tile])
        for y in range(0, height, tile)
        for x in range(0, width, tile)
    ]
    places, at = [], 8
    for data in tiles:
        places.append((at, len(data)))
        at += len(data)
    matrix = CAMERA_BODIES["DSC-RX100M7"].xyz_to_camera
    tags = [
        (254, "I", 1, 0), (256, "I", 1, width), (257, "I", 1, height), (258, "H", 1, 16),
        (259, "H", 1, 7), (262, "H", 1, 32803), (271, "s", 0, "rawisp"), (272, "s", 0, "tiles"),
        (277, "H", 1, 1), (284, "H", 1, 1), (322, "I", 1, tile), (323, "I", 1, tile),
        (324, "I", len(tiles), tuple(start for start, _ in places)),
        (325, "I", len(tiles), tuple(length for _, length in places)),
        (33421, "H", 2, (2, 2)), (33422, "B", 4, bytes((0, 1, 1, 2))),
        *dng_tags(color_matrices=[(21, matrix)], black=(512,), white=16383),
    ]  # fmt: skip
    at += at % 2
    path.write_bytes(
        (b"II*\0" + struct.pack("<I", at) + b"".join(tiles)).ljust(at, b"\0") + _directory(tags, at)
    )
    return places


# TIFF 6.0, section 2: type code, and what struct calls it, by tifffile's letter.
_TYPES = {
    "s": (2, "s"),
    "B": (1, "B"),
    "H": (3, "H"),
    "I": (4, "I"),
    "2I": (5, "I"),
    "2i": (10, "i"),
}


def _directory(tags: list[tuple[int, str, int, Any]], at: int) -> bytes:
    """An image file directory at byte `at` of the file, and the values that do not fit into it."""
    entries, values = b"", b""
    after = at + 2 + 12 * len(tags) + 4
    for code, kind, count, value in sorted(tags, key=lambda tag: tag[0]):
        type_code, letter = _TYPES[kind]
        if kind == "s":
            data = value.encode() + b"\0"
            count = len(data)
        elif isinstance(value, bytes):
            data = value
        else:
            numbers = value if isinstance(value, tuple) else (value,)
            data = struct.pack(f"<{len(numbers)}{letter}", *numbers)
        if len(data) > 4:
            place = struct.pack("<I", after + len(values))
            values += data + b"\0" * (len(data) % 2)
        else:
            place = data.ljust(4, b"\0")
        entries += struct.pack("<HHI", code, type_code, count) + place
    return struct.pack("<H", len(tags)) + entries + bytes(4) + values
