"""Containers that are no TIFF: their own headers say where the picture ends; CRW and MRW facts."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawisp.errors import CorruptFileError, UnsupportedRawError
from rawisp.raw import open_raw
from rawisp.raw.ciff import CiffFacts, read_ciff
from rawisp.raw.layout import check_whole, picture_of
from rawisp.raw.tags import read_tags


def raf() -> bytes:
    """A Fujifilm header: the CFA data at byte 1000, 500 bytes long."""
    header = b"FUJIFILMCCD-RAW ".ljust(84, b"0") + struct.pack(">6I", 200, 10, 210, 10, 1000, 500)
    return header.ljust(1500, b"\0")


def cr3() -> bytes:
    """ISO base media boxes, one of them with a length of 64 bits."""
    boxes = struct.pack(">I4s8s", 24, b"ftyp", b"crx " + bytes(4)) + bytes(8)
    boxes += struct.pack(">I4s", 108, b"moov") + bytes(100)
    return boxes + struct.pack(">I4sQ", 1, b"mdat", 1016) + bytes(1000)


def mrw() -> bytes:
    """A Minolta header with 20 x 30 samples of 16 bits, make and model in a TIFF block."""
    tiff = b"MM\0*" + struct.pack(">IH", 8, 2)
    tiff += struct.pack(">HHIIHHII", 271, 2, 7, 38, 272, 2, 8, 46) + bytes(4)
    tiff += b"Konica\0\0" + b"DYNAX 5\0"
    prd = struct.pack(">8s4H5B", b"27730001", 20, 30, 20, 30, 16, 12, 0x52, 0, 0).ljust(24, b"\0")
    blocks = struct.pack(">4sI", b"\0PRD", len(prd)) + prd
    blocks += struct.pack(">4sI", b"\0TTW", len(tiff)) + tiff
    return b"\0MRM" + struct.pack(">I", len(blocks)) + blocks + bytes(20 * 30 * 2)


def crw() -> bytes:
    """A CIFF heap: make and model two heaps deep, the JPEG's size in the first."""
    name = b"Canon\0Canon PowerShot G1\0"
    inner = name + struct.pack("<HHII", 1, 0x080A, len(name), 0) + struct.pack("<I", len(name))
    size = struct.pack("<II", 2048, 1536) + bytes(20)
    moment = struct.pack("<III", 1_000_000_000, 0, 0)
    values = inner + size + moment
    entries = [
        (0x2807, len(inner), 0),
        (0x1810, len(size), len(inner)),
        (0x180E, len(moment), len(inner) + len(size)),
    ]
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HII", *entry) for entry in entries)
    heap = values + directory + struct.pack("<I", len(values))
    return struct.pack("<2sI8s", b"II", 26, b"HEAPCCDR").ljust(26, b"\0") + heap


WHOLE = {"RAF": raf, "CR3": cr3, "MRW": mrw, "CRW": crw}


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE.keys())
def test_whole_containers_pass_and_cut_ones_do_not(make: Callable[[], bytes]) -> None:
    content = make()
    check_whole("a", io.BytesIO(content), None, len(content))
    for kept in (len(content) - 5, len(content) // 2):
        with pytest.raises(CorruptFileError, match="cut short"):
            check_whole("a", io.BytesIO(content[:kept]), None, kept)


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE.keys())
def test_whatever_a_header_says_is_an_answer_or_a_refusal(make: Callable[[], bytes]) -> None:
    content = make()

    @given(
        st.integers(4, len(content) - 4), st.binary(min_size=4, max_size=4), st.integers(16, 1500)
    )
    def check(at: int, four: bytes, kept: int) -> None:
        mutated = (content[:at] + four + content[at + 4 :])[:kept]
        read_tags(io.BytesIO(mutated))
        with contextlib.suppress(CorruptFileError):
            check_whole("a", io.BytesIO(mutated), None, len(mutated))

    check()


def test_a_crw_says_its_camera_and_the_size_of_its_jpeg() -> None:
    found = read_ciff(io.BytesIO(crw()))
    assert found == CiffFacts("Canon", "Canon PowerShot G1", (2048, 1536), 1_000_000_000)
    tags = read_tags(io.BytesIO(crw()))
    assert (tags.make, tags.stated_size) == ("Canon", (2048, 1536))
    assert tags.captured_at == "2001:09:09 01:46:40"


def test_an_mrw_says_its_camera() -> None:
    tags = read_tags(io.BytesIO(mrw()))
    assert (tags.make, tags.model) == ("Konica", "DYNAX 5")


def test_a_heap_that_points_to_itself_ends() -> None:
    content = bytearray(crw())
    at = content.index(struct.pack("<H", 0x2807))
    content[at + 2 : at + 10] = struct.pack("<II", len(content) - 26, 0)
    assert read_ciff(io.BytesIO(content)).size == (2048, 1536)


def test_foveon_is_refused_by_name_even_when_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.X3F"
    path.write_bytes(b"FOVb" + bytes(4092))
    with pytest.raises(UnsupportedRawError, match="Foveon sensor"):
        open_raw(path)


def test_plain_pictures_have_bytes_for_every_sample() -> None:
    def plain(**changes: int) -> bool:
        tags = {256: 100, 257: 50, 258: 12, 259: 1, 273: (8,), 279: (7500,)}
        tags |= {int(code[1:]): value for code, value in changes.items()}
        picture = picture_of(tags)
        assert picture is not None
        return picture.plain

    assert plain()
    assert plain(_258=16, _279=10000)
    assert not plain(_259=7)
    assert not plain(_279=5000)  # Olympus: called uncompressed, and shorter than that
    assert not plain(_258=(8, 8, 8))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tags", "needed"),
    [
        ({256: 100, 257: 50, 273: (8,), 279: (9,)}, 1),
        ({256: 100, 257: 50, 273: (8,), 279: (9,), 278: 20}, 3),
        ({256: 100, 257: 50, 273: (8,), 279: (9,), 278: 20, 284: 2, 277: 3}, 9),
        ({256: 100, 257: 50, 324: (8,), 325: (9,), 322: 64, 323: 32}, 4),
        ({256: 100, 257: 50, 324: (8,), 325: (9,), 322: 0, 323: 32}, 0),
        ({273: (8,), 279: (9,)}, 0),
    ],
)
def test_strips_and_tiles_are_counted_as_tiff_does(tags: dict[int, object], needed: int) -> None:
    picture = picture_of(tags)
    assert picture is not None
    assert (picture.needed, picture.end) == (needed, 17)
