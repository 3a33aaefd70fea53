"""open_raw: real files, paths of every kind, overrides, damage it must notice, statistics."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rawpy
import tifffile

from rawisp.errors import (
    CorruptFileError,
    InvalidArrayError,
    RawispError,
    UnsupportedRawError,
)
from rawisp.raw import Overrides, RawFrame, open_raw
from rawisp.raw.container import dng_tags

Array = npt.NDArray[Any]
WriteRaw = Callable[..., Path]

MATRIX = np.array(
    [[1.0315, -0.4390, -0.0937], [-0.4859, 1.2734, 0.2365], [-0.0734, 0.1537, 0.5997]]
)


def noise(height: int = 30, width: int = 40, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(700, 16384, (height, width)).astype(np.uint16)


# --- real files ----------------------------------------------------------------------------------


def test_a_real_dng_is_packed_from_its_visible_area(real_raw: Path) -> None:
    path = real_raw / "colorchart.dng"
    frame = open_raw(path)
    assert frame.pattern == "RGGB"
    assert frame.black.tolist() == [2056] * 4
    assert frame.white.tolist() == [15000] * 4
    assert frame.visible_size == (1734, 1156)
    assert (frame.frames["raw"].width, frame.frames["raw"].height) == (1888, 1182)
    assert frame.frames["raw"].to_visible.points([152, 26]).tolist() == [0, 0]
    packed = frame.pack("xyz")
    assert packed.shape == (578, 867, 3)
    with open(path, "rb") as file, rawpy.imread(file) as raw:
        cell = (raw.raw_image[26:1182, 152:1886].astype(np.float64) - 2056) / (15000 - 2056)
    rgb = np.stack([cell[::2, ::2], (cell[::2, 1::2] + cell[1::2, ::2]) / 2, cell[1::2, 1::2]], -1)
    np.testing.assert_allclose(frame.pack("camera"), rgb, atol=1e-6)


def test_a_real_kdc_has_its_phase(real_raw: Path) -> None:
    path = real_raw / "kodak_dc50.KDC"
    frame = open_raw(path)
    assert (frame.pattern, frame.visible_size) == ("GRBG", (768, 512))
    with open(path, "rb") as file, rawpy.imread(file) as raw:
        samples = raw.raw_image.astype(np.float64) / raw.white_level
        assert raw.raw_colors[:2, :2].tolist() == [[1, 0], [2, 3]]
    packed = frame.pack("camera")
    np.testing.assert_allclose(packed[..., 0], samples[::2, 1::2], atol=1e-6)
    np.testing.assert_allclose(packed[..., 2], samples[1::2, ::2], atol=1e-6)
    assert frame.exposure.captured_at.startswith("1997-04-23")


def test_the_committed_night_files_open_without_warnings(sample_data: Path) -> None:
    files = sorted(p for p in sample_data.rglob("*") if p.suffix in (".ARW", ".NEF"))
    assert files
    for path in files:
        frame = open_raw(path)
        assert frame.warnings == (), path
        assert frame.matrix is not None
        assert frame.exposure.iso


# --- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path, os.fsencode], ids=["str", "Path", "bytes"])
def test_any_kind_of_path_works(write_raw: WriteRaw, kind: Callable[[Any], Any]) -> None:
    path = write_raw()
    frame = open_raw(kind(path))
    assert frame.path == str(path)


@pytest.mark.parametrize(
    "name",
    [b"caf\xe9.ARW", b"a\nb.ARW", b"-rf.ARW", " ä 夜 🌃.ARW".encode(), b"no suffix", b"x" * 250],
    ids=["latin-1", "newline", "dash", "emoji", "no suffix", "250 bytes"],
)
def test_any_name_works(write_raw: WriteRaw, tmp_path: Path, name: bytes) -> None:
    target = bytes(tmp_path) + b"/" + name
    os.rename(write_raw(), target)
    assert os.fsencode(open_raw(target).path) == target
    with pytest.raises(CorruptFileError) as caught:
        os.truncate(target, 500)
        open_raw(target)
    str(caught.value).encode("utf-8")  # any terminal can show it
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["\n", "\r", "\x1b[2J", "\x0b", "\u2028", "\x85", "\x07"], ids=ascii
)
def test_control_characters_of_a_name_never_reach_the_terminal(tmp_path: Path, name: str) -> None:
    """A file name can carry escape sequences; ls shows them escaped, and so must a message."""
    with pytest.raises(RawispError) as caught:
        open_raw(tmp_path / f"a{name}b.ARW")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()


def test_the_file_is_closed_whatever_happens(write_raw: WriteRaw, tmp_path: Path) -> None:
    good, bad = write_raw(), tmp_path / "bad.ARW"
    bad.write_bytes(good.read_bytes()[:900])
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        open_raw(good)
        with pytest.raises(CorruptFileError):
            open_raw(bad)
    gc.collect()  # an unclosed file would warn here, which is an error in these tests
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_the_mosaic_outlives_the_file_and_is_its_own(write_raw: WriteRaw) -> None:
    mosaic = noise()
    path = write_raw(mosaic=mosaic)
    first, second = open_raw(path), open_raw(path)
    path.unlink()
    assert not np.shares_memory(first.mosaic, second.mosaic)
    assert np.array_equal(first.mosaic, mosaic)
    assert first.mosaic.flags.c_contiguous


# --- overrides ------------------------------------------------------------------------------------


def test_given_levels_replace_the_files(write_raw: WriteRaw) -> None:
    path = write_raw(mosaic=noise())
    frame = open_raw(path, overrides=Overrides(black=(500.0,), white=(10000.0,)))
    assert frame.black.tolist() == [500] * 4
    assert frame.white.tolist() == [10000] * 4
    assert "given" in frame.levels_source
    red = (noise()[::2, ::2].astype(np.float64) - 500) / 9500
    np.testing.assert_allclose(frame.pack("camera")[..., 0], red, atol=2e-6)


def test_four_levels_go_by_colour_not_position(write_raw: WriteRaw) -> None:
    path = write_raw(mosaic=np.full((30, 40), 2000, np.uint16) + np.eye(30, 40, dtype=np.uint16))
    for pattern in ["RGGB", "BGGR"]:
        path = write_raw(mosaic=noise() // 1000 * 0 + 2000 + (noise() > 9000), pattern=pattern)
        frame = open_raw(path, overrides=Overrides(black=(100, 200, 300, 400), white=(2100,)))
        assert frame.pattern == pattern
        flat = frame.pack("camera").mean(axis=(0, 1))
        expected = [1900 / 2000, (1800 / 1900 + 1600 / 1700) / 2, 1700 / 1800]
        np.testing.assert_allclose(flat, expected, atol=1e-3)


def test_a_given_matrix_comes_first(write_raw: WriteRaw) -> None:
    given = np.array([[0.9, -0.3, 0.05], [-0.3, 1.1, 0.2], [-0.05, 0.2, 0.8]])
    frame = open_raw(write_raw(mosaic=noise()), overrides=Overrides(matrix=given))
    assert frame.matrix is not None
    assert (frame.matrix.source, frame.levels_source) == ("given", "LibRaw")
    expected = frame.pack("camera") @ np.linalg.inv(given).T
    np.testing.assert_allclose(frame.pack("xyz"), expected, atol=5e-6)


@pytest.mark.parametrize(
    "overrides",
    [
        {"black": (1.0, 2.0)},
        {"black": (20000.0,)},
        {"white": (700.0,)},
        {"white": (float("nan"),)},
        {"matrix": np.zeros((3, 3))},
        {"matrix": np.eye(2)},
        {"matrix": np.full((3, 3), np.nan)},
    ],
    ids=["two blacks", "black above white", "white below black", "white NaN", "matrix of zeros",
         "matrix 2x2", "matrix NaN"],
)  # fmt: skip
def test_impossible_overrides_are_refused_in_one_sentence(
    write_raw: WriteRaw, overrides: dict[str, Any]
) -> None:
    with pytest.raises(RawispError) as caught:
        open_raw(write_raw(), overrides=Overrides(**overrides)).pack("xyz")
    assert len(str(caught.value).splitlines()) == 1


# --- what cannot be packed, and what should be noticed -------------------------------------------


def cfa_tiff(path: Path, photometric: int, cfa: bytes | None, channels: int = 1) -> Path:
    tags = dng_tags(color_matrices=[(21, MATRIX)], white=16383)
    tags += [(271, "s", 0, "ACME"), (272, "s", 0, "One")]
    if cfa is not None:
        tags += [(33421, "H", 2, (2, 2)), (33422, "B", 4, cfa)]
    mosaic = noise() if channels == 1 else np.stack([noise(seed=k) for k in range(channels)], -1)
    tifffile.imwrite(
        path,
        mosaic,
        photometric=32803 if channels == 1 else 34892,
        planarconfig=None if channels == 1 else "contig",
        metadata=None,
        extratags=[(*tag, True) for tag in sorted(tags)],
    )
    if photometric == 34892 and channels == 1:  # tifffile does not write that one
        code, value = (262).to_bytes(2, "little"), (3).to_bytes(2, "little") + b"\1\0\0\0"
        old = code + value + (32803).to_bytes(2, "little")
        data = path.read_bytes()
        assert data.count(old) == 1
        path.write_bytes(data.replace(old, code + value + (34892).to_bytes(2, "little")))
    return path


@pytest.mark.parametrize(
    ("photometric", "cfa", "channels", "words"),
    [
        (34892, None, 3, "linear"),
        (34892, None, 1, "monochrome"),
        (32803, None, 1, "monochrome"),
        (32803, b"\3\4\5\1", 1, "colour filter array MCGY"),
    ],
    ids=["linear DNG", "monochrome linear DNG", "mosaic without colours", "cyan, magenta, yellow"],
)
def test_what_is_no_bayer_mosaic_is_refused_by_name(
    tmp_path: Path, photometric: int, cfa: Any, channels: int, words: str
) -> None:
    with pytest.raises(UnsupportedRawError, match=words) as caught:
        open_raw(cfa_tiff(tmp_path / "a.dng", photometric, cfa, channels))
    assert len(str(caught.value).splitlines()) == 1


def test_nothing_but_zeros_is_damage(write_raw: WriteRaw) -> None:
    with pytest.raises(CorruptFileError, match="nothing but zeros"):
        open_raw(write_raw(mosaic=np.zeros((30, 40), np.uint16)))


def test_one_value_everywhere_is_suspect(write_raw: WriteRaw) -> None:
    frame = open_raw(write_raw(mosaic=np.full((30, 40), 812, np.uint16)))
    assert frame.suspicions == ("every sample is 812",)


@pytest.mark.parametrize(("flat_rows", "says"), [(0, False), (1, False), (2, True), (20, True)])
def test_a_flat_end_is_suspect(write_raw: WriteRaw, flat_rows: int, says: bool) -> None:
    mosaic = noise(40, 60)
    mosaic[40 - flat_rows :] = 0
    suspicions = open_raw(write_raw(mosaic=mosaic)).suspicions
    assert any("below the black level" in text for text in suspicions) == says


def test_a_sound_file_has_no_warnings(write_raw: WriteRaw) -> None:
    frame = open_raw(write_raw())
    assert (frame.warnings, frame.suspicions) == ((), ())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"color": "XYZ"}, "color"),
        ({"color": "rgb"}, "color"),
        ({"orient": "portrait"}, "orient"),
        ({"layout": "bhwc"}, "layout"),
        ({"out": np.zeros((1, 1, 3), np.float32)}, "out"),
    ],
)
def test_wrong_arguments_of_pack_are_named(
    write_raw: WriteRaw, change: dict[str, Any], named: str
) -> None:
    frame = open_raw(write_raw())
    with pytest.raises(InvalidArrayError, match=named):
        frame.pack(**({"color": "camera"} | change))


# --- statistics ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["RGGB", "GRBG", "GBRG", "BGGR"])
@pytest.mark.parametrize("size", [(30, 40), (31, 41)])
def test_statistics_equal_numpys(write_raw: WriteRaw, pattern: str, size: tuple[int, int]) -> None:
    mosaic = noise(*size)
    mosaic[np.random.default_rng(1).random(size) < 0.1] = 16383
    frame: RawFrame = open_raw(write_raw(mosaic=mosaic, pattern=pattern))
    with open(frame.path, "rb") as file, rawpy.imread(file) as raw:
        colours = raw.raw_colors_visible.copy()
    statistics = frame.sample_statistics()
    assert list(statistics) == ["R", "G1", "B", "G2"]
    for index, found in enumerate(statistics.values()):
        samples = np.sort(mosaic[colours == index])
        assert found["min"] == samples[0]
        assert found["max"] == samples[-1]
        assert found["median"] in samples[[(samples.size - 1) // 2, samples.size // 2]]
        assert found["clipped_share"] == pytest.approx((samples >= 16383).mean())


def test_clipped_means_at_or_above_white(write_raw: WriteRaw) -> None:
    mosaic = np.full((30, 40), 5000, np.uint16)
    mosaic[0, 0], mosaic[0, 2], mosaic[0, 4] = 8999, 9000, 9001
    frame = open_raw(write_raw(mosaic=mosaic), overrides=Overrides(white=(9000.0,)))
    assert frame.sample_statistics()["R"]["clipped_share"] == 2 / (15 * 20)
