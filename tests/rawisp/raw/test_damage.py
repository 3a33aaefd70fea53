"""Damaged files: never another file's pixels, never invented rows that nobody speaks of."""

from __future__ import annotations

import hashlib
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rawisp.errors import CorruptFileError, InputError
from rawisp.raw import RawFrame, open_raw, read_frames
from rawisp.raw.poison import CANARY, poisoned_memory
from tests.rawisp.raw.lossless_jpeg import write_tiled_dng

Array = npt.NDArray[Any]
WriteRaw = Callable[..., Path]

BLACK, WHITE = 800, 16383


def noise(height: int = 128, width: int = 192, seed: int = 0) -> Array:
    values = np.random.default_rng(seed).normal(1500, 60, (height, width))
    return values.astype(np.uint16)


def suspicion(path: Path) -> str:
    return "; ".join(open_raw(path).suspicions)


# --- what the decoder did not write ---------------------------------------------------------------


@pytest.fixture
def tiles(tmp_path: Path) -> tuple[Path, list[tuple[int, int]]]:
    """A sound DNG of 2 x 3 lossless-JPEG tiles, and where they lie."""
    path = tmp_path / "tiles.dng"
    return path, write_tiled_dng(path, noise())


def damaged(path: Path, at: int, length: int, name: str = "damaged.dng") -> Path:
    """A copy with zeros instead of `length` bytes."""
    content = bytearray(path.read_bytes())
    content[at : at + length] = bytes(length)
    other = path.with_name(name)
    other.write_bytes(content)
    return other


def test_tiles_of_lossless_jpeg_are_read(tiles: Any) -> None:
    frame = open_raw(tiles[0])
    assert np.array_equal(frame.mosaic, noise())
    assert frame.suspicions == ()


def test_memory_is_poisoned_inside_and_only_there() -> None:
    def fresh() -> int:
        block = np.empty(1 << 21, np.uint16)  # large enough to be new memory each time
        return int((block == CANARY).sum())

    with poisoned_memory():
        with poisoned_memory():
            assert fresh() == 1 << 21
        assert fresh() == 1 << 21
    assert fresh() < 1 << 21


def test_a_tile_that_ends_decoding_is_damage(tiles: Any) -> None:
    """LibRaw stops there, leaves the rest of its memory as it was, and reports success."""
    path, places = tiles
    bad = damaged(path, places[2][0] + 2, places[2][1] - 2)
    with pytest.raises(CorruptFileError, match=r"% of its picture cannot be decoded \(rows 0 to"):
        open_raw(bad)


def test_a_tile_that_is_zeroed_in_its_middle_is_suspect(tiles: Any) -> None:
    path, places = tiles
    bad = damaged(path, places[2][0] + 100, places[2][1] - 100)
    assert "flat stretches" in suspicion(bad)


def test_a_tile_that_is_no_jpeg_is_damage(tiles: Any) -> None:
    path, places = tiles
    with pytest.raises(CorruptFileError, match="its tile 4 of 6 is no JPEG any more"):
        open_raw(damaged(path, places[3][0], 10))


def test_missing_tiles_are_counted(tiles: Any) -> None:
    path, places = tiles
    content = bytearray(path.read_bytes())
    for code in (324, 325):  # the entry of six values begins with its code, type 4 and count
        at = content.index(struct.pack("<HHI", code, 4, len(places)))
        content[at + 4 : at + 8] = struct.pack("<I", 2)
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match="it lists 2 of the 6 tiles that its size needs"):
        open_raw(path)


def answer(path: Path) -> str:
    try:
        frame = open_raw(path)
    except InputError as error:
        return str(error)
    return hashlib.sha256(frame.mosaic.tobytes()).hexdigest() + "; ".join(frame.suspicions)


def test_the_same_bytes_give_the_same_answer_in_any_order(
    tiles: Any, write_raw: WriteRaw, tmp_path: Path
) -> None:
    """Fifty orders of good and damaged files, decoded one after another in one process."""
    path, places = tiles
    other = tmp_path / "other.dng"
    write_tiled_dng(other, noise(seed=1))
    files = [
        path,
        other,
        damaged(path, places[1][0] + 2, places[1][1] - 2, "first.dng"),
        damaged(other, places[4][0] + 700, 40, "fifth.dng"),
        damaged(other, places[5][0] + 2, 100, "sixth.dng"),
        write_raw("a.ARW", noise(seed=2)),
    ]
    real = Path(
        os.environ.get("RAWISP_REAL_FILES", Path(__file__).parents[4] / "shared" / "data" / "raw")
    )
    names = ["derived_other_flip.dng", "derived_hole_tiles.dng", "et_DNG.dng", "kodak_dc50.KDC"]
    files += [real / name for name in names if (real / name).is_file()]
    if (real / names[0]).is_file():
        content = bytearray((real / names[0]).read_bytes())
        content[1_200_000:1_331_072] = bytes(131_072)
        files.append(tmp_path / "hole.dng")
        files[-1].write_bytes(content)
    alone = {file: answer(file) for file in files}
    assert any("cannot be decoded" in text for text in alone.values())
    for seed in range(50):
        order = files.copy()
        random.Random(seed).shuffle(order)
        for file in order:
            assert answer(file) == alone[file], (seed, file)


# --- files that end before their picture does -----------------------------------------------------


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.75, 0.98])
@pytest.mark.parametrize("name", ["a.ARW", "a.NEF"])
def test_cut_files_are_refused(write_raw: WriteRaw, name: str, kept: float) -> None:
    model = "DSC-RX100M7" if name == "a.ARW" else "NIKON D750"
    path = write_raw(name, noise(), model=model)
    size = path.stat().st_size
    os.truncate(path, int(kept * size))
    with pytest.raises(CorruptFileError, match=f"is cut short: .* byte {int(kept * size)};"):
        open_raw(path)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.75, 0.98])
def test_cut_tiles_are_refused(tiles: Any, tmp_path: Path, kept: float) -> None:
    """The directory stands at the end here, as converters write it; it is lost with the cut."""
    cut = tmp_path / "cut.dng"
    content = tiles[0].read_bytes()
    cut.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CorruptFileError):
        open_raw(cut)


REFUSALS = {
    "cut20_sony_a7rm3.arw": "cut short: its picture ends at byte 18649856",
    "cut20_canon_30d.cr2": "cut short: its picture ends at byte 7523286",
    "et_Panasonic.rw2": "cut short: its picture ends at byte 11733346",
    "nomexif_xt1_head.raf": "cut short: its picture ends at byte 33819136",
    "sony_a55_head.arw": "cut short: its picture ends at byte 17474560",
    "truncated_zv-e10.arw": "cut short: its picture ends at byte 754577",
    "truncated_leica-m10.dng": "cut short: its picture ends at byte 27426038",
    "et_DNG.dng": "lists 1 of the 140 tiles",
    "derived_hole_tiles.dng": "its tile 20 of 40 is no JPEG",
    "gopro_hero6.GPR": "GoPro's VC-5 compression",
    "derived_jxl.dng": "JPEG XL compression, which LibRaw does not read",
    "canon_powershot_g1.crw": "has the colour filter array GMYC",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_real_files_are_told_what_is_wrong_with_them(real_raw: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        open_raw(real_raw / name)
    assert REFUSALS[name] in str(caught.value)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.75, 0.98])
@pytest.mark.parametrize("name", ["derived_other_flip.dng", "colorchart.dng", "kodak_dc50.KDC"])
def test_real_files_are_refused_when_cut(
    real_raw: Path, tmp_path: Path, name: str, kept: float
) -> None:
    content = (real_raw / name).read_bytes()
    cut = tmp_path / name
    cut.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CorruptFileError):
        open_raw(cut)


def test_a_crw_that_lost_its_end_is_cut_short(real_raw: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.crw"
    cut.write_bytes((real_raw / "canon_powershot_g1.crw").read_bytes()[:1_000_000])
    with pytest.raises(CorruptFileError, match="is cut short: the directory at the end of a CRW"):
        open_raw(cut)


def test_a_panasonic_file_of_full_length_is_not_called_cut_short(
    real_raw: Path, tmp_path: Path
) -> None:
    """Its StripOffsets is 0xFFFFFFFF and its byte count is of unpacked samples: both mislead."""
    content = (real_raw / "et_Panasonic.rw2").read_bytes()
    full = tmp_path / "full.rw2"
    full.write_bytes(content.ljust(11_733_346, b"\0"))
    frame = open_raw(full)
    assert frame.warnings == ()
    assert frame.camera.startswith("Panasonic")
    assert "hold one value (0) below the black level" in frame.suspicions[0]  # the filler's zeros
    os.truncate(full, 11_733_345)
    with pytest.raises(CorruptFileError, match="ends at byte 11733346, the file at byte 11733345"):
        open_raw(full)


# --- rows that no sensor writes -------------------------------------------------------------------


def with_rows(value: int | str, first: int, last: int, **size: int) -> Array:
    mosaic = noise(**size)
    mosaic[first:last] = mosaic[first - 1] if value == "repeated" else value
    return mosaic


SUSPECT = {
    "zeros at the top": (with_rows(0, 0, 30), "rows 0 to 29"),
    "zeros in the middle": (with_rows(0, 50, 80), "rows 50 to 79"),
    "zeros at the end": (with_rows(0, 120, 128), "rows 120 to 127"),
    "one value below black": (with_rows(97, 50, 80), "one value (97) below the black level"),
    "one value above black": (with_rows(1500, 50, 80), "flat stretches"),
    "rows repeated": (with_rows("repeated", 60, 128), "rows 61 to 127"),
}  # fmt: skip


@pytest.mark.parametrize(("mosaic", "words"), SUSPECT.values(), ids=SUSPECT.keys())
def test_rows_that_no_sensor_writes_are_suspect(
    write_raw: WriteRaw, mosaic: Array, words: str
) -> None:
    assert words in suspicion(write_raw(mosaic=mosaic))


def test_a_tile_of_zeros_is_suspect(write_raw: WriteRaw) -> None:
    mosaic = noise()
    mosaic[64:128, 64:128] = 0
    assert "rows 64 to 127" in suspicion(write_raw(mosaic=mosaic))


def test_a_hole_in_the_file_is_suspect(write_raw: WriteRaw) -> None:
    path = write_raw(mosaic=noise(512, 768))
    content = bytearray(path.read_bytes())
    content[300_000 : 300_000 + (128 << 10)] = bytes(128 << 10)
    path.write_bytes(content)
    assert "below the black level" in suspicion(path)


def clipped(top: int) -> Array:
    mosaic = noise()
    mosaic[20:60] = top
    return mosaic


DARK = np.random.default_rng(3).poisson(0.2, (128, 192)).astype(np.uint16)

SOUND = {
    "noise": noise(),
    "a clipped sky": clipped(WHITE),
    "a sky clipped below the white level": clipped(15000),
    "a dead row": with_rows(0, 64, 65),
    "noise around black": np.random.default_rng(2).normal(800, 4, (128, 192)).astype(np.uint16),
}


@pytest.mark.parametrize("mosaic", SOUND.values(), ids=SOUND.keys())
def test_what_sensors_write_is_not_suspect(write_raw: WriteRaw, mosaic: Array) -> None:
    assert suspicion(write_raw(mosaic=mosaic)) == ""


def black_at_zero(write_raw: WriteRaw, mosaic: Array) -> RawFrame:
    from rawisp.raw.container import CAMERA_BODIES, dng_tags

    matrix = CAMERA_BODIES["NIKON D750"].xyz_to_camera
    tags = dng_tags(color_matrices=[(21, matrix)], black=(0,), white=4095)
    return open_raw(write_raw("a.dng", mosaic, extra_tags=tags))


def test_a_camera_that_cuts_its_noise_at_zero_is_not_suspect(write_raw: WriteRaw) -> None:
    mosaic = DARK.copy()
    mosaic[30:40] = 0
    assert black_at_zero(write_raw, mosaic).suspicions == ()


def test_zeros_in_a_bright_picture_are_suspect_even_if_black_is_zero(write_raw: WriteRaw) -> None:
    assert "rows 50 to 79" in black_at_zero(write_raw, with_rows(0, 50, 80)).suspicions[0]


def test_the_facts_name_the_suspicions(write_raw: WriteRaw) -> None:
    frame = open_raw(write_raw(mosaic=with_rows(0, 50, 80)))
    assert frame.facts()["suspicions"] == list(frame.suspicions) != []


# --- frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "corner"),
    [("cut20_canon_30d.cr2", (3504, 2336), (10, 7)),
     ("canon_powershot_g1.crw", (2048, 1536), (20, 7))],
)  # fmt: skip
def test_canons_crop_is_the_size_of_its_jpeg(
    real_raw: Path, name: str, size: tuple[int, int], corner: tuple[int, int]
) -> None:
    """LibRaw rounds the odd border up to an even one and makes the crop a row shorter."""
    crop = read_frames(real_raw / name)["crop"]
    assert (crop.width, crop.height) == size
    assert crop.to_visible.points([0, 0]).tolist() == list(corner)


@pytest.mark.parametrize("shape", [(9, 3), (41, 60), (700, 1000)])
def test_the_copy_is_examined_in_blocks_as_in_one(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rawisp.raw import damage

    mosaic = noise(*shape)
    mosaic[shape[0] // 2 :] = mosaic[shape[0] // 2 - 1]
    mosaic[1::5, ::3] = 0
    found = {}
    for samples in (1, 200, 10**9):
        monkeypatch.setattr(damage, "_BLOCK_SAMPLES", samples)
        copy, rows = damage.examined_copy(mosaic[:, ::-1])  # LibRaw's rows have margins as well
        assert np.array_equal(copy, mosaic[:, ::-1]) and copy.flags.c_contiguous
        found[samples] = [one.tolist() for one in vars(rows).values()]
    assert found[1] == found[200] == found[10**9]
    assert any(found[1][-1])
