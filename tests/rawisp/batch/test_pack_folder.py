"""`pack` over folders: what is written, where, and what the manifest says of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import rawisp
from rawisp.batch import PackSettings, RunOptions, RunReport, pack_folder
from rawisp.packing import UINT16_OFFSET, UINT16_SCALE, decode_packed
from rawisp.raw.container import dng_tags

MakeRaw = Callable[..., Path]
ReadLines = Callable[[Path], list[dict[str, Any]]]
ONE = RunOptions(workers=1)
TWO = RunOptions(workers=2)

# relative path -> (height, width) of the sensor
TREE = {
    "a.ARW": (40, 60),
    "Nikon/b.NEF": (36, 50),
    "Nikon/deep/er/c.arw": (41, 61),
    "d.e.ARW": (30, 44),
}


@dataclass(frozen=True)
class Photos:
    folder: Path

    def stem_of(self, relative: str) -> str:
        return os.path.splitext(relative)[0]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, make_raw: MakeRaw) -> Photos:
    folder = tmp_path_factory.mktemp("photos")
    common = {"iso": 6400, "shutter_s": 0.02, "aperture_f": 2.8, "focal_length_mm": 9.0}
    for seed, (name, (height, width)) in enumerate(TREE.items()):
        model = "NIKON D750" if name.endswith("NEF") else "DSC-RX100M7"
        turned = 6 if name.startswith("Nikon/deep") else 1
        make_raw(
            folder / name,
            seed,
            height,
            width,
            model,
            exif_orientation=turned,
            captured_at="2020:11:28 21:04:55",
            **common,
        )
    return Photos(folder)


@pytest.fixture(scope="module")
def packed(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunReport]:
    out = tmp_path_factory.mktemp("out") / "not" / "yet there"
    return out, pack_folder(photos.folder, out, options=TWO)


def test_the_tree_is_mirrored_and_nothing_else_is_left(packed: tuple[Path, RunReport]) -> None:
    out, report = packed
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    expected = {os.path.splitext(name)[0] + ".npy" for name in TREE}
    assert files - {".rawisp.lock"} == expected | {"manifest.jsonl"}
    assert report.exit_code == 0 and report.count("done") == len(TREE)


@pytest.mark.parametrize("name", TREE)
def test_each_output_is_the_packed_frame(
    photos: Photos, packed: tuple[Path, RunReport], name: str
) -> None:
    array = np.load(packed[0] / (photos.stem_of(name) + ".npy"))
    height, width = TREE[name]
    assert array.shape == (height // 2, width // 2, 3) and array.dtype == np.float32
    assert array.min() < 0, "negative noise is kept"
    assert np.array_equal(array, rawisp.open_raw(photos.folder / name).pack(color="xyz"))


def test_the_manifest_has_a_full_line_per_input(
    photos: Photos, packed: tuple[Path, RunReport], read_manifest_lines: ReadLines
) -> None:
    lines = read_manifest_lines(packed[0])
    assert sorted(line["source"] for line in lines) == sorted(str(photos.folder / n) for n in TREE)
    for line in lines:
        assert line["status"] == "done" and line["reason"] == ""
        assert (packed[0] / line["output"]).is_file()
        assert line["version"] == rawisp.__version__
        assert line["seconds"] > 0
        assert line["checkpoint"] is None
        assert line["settings"]["dtype"] == "float32" and line["settings"]["color"] == "xyz"
        assert line["matrix_source"] == "LibRaw's table"
        assert np.allclose(
            np.array(line["camera_to_xyz"]) @ np.array(line["xyz_to_camera"]), np.eye(3)
        )
        assert line["exposure"]["iso"] == 6400 and line["exposure"]["aperture_f"] == pytest.approx(
            2.8
        )
        assert line["exposure"]["captured_at"] == "2020-11-28T21:04:55"
        assert line["affine"] == [[0.5, 0, 0], [0, 0.5, 0]]
    sony = next(line for line in lines if line["source"].endswith("a.ARW"))
    assert sony["camera"] == {"make": "SONY", "model": "DSC-RX100M7", "lens": ""}
    assert sony["black"] == [800] * 4 and sony["white"] == [16383] * 4
    nikon = next(line for line in lines if line["source"].endswith("b.NEF"))
    assert nikon["black"] == [600] * 4 and nikon["white"] == [65535] * 4


@pytest.mark.parametrize("image_format", ["npy", "tiff"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint16"])
def test_every_format_and_dtype_holds_the_same_picture(
    photos: Photos, tmp_path: Path, image_format: Any, dtype: Any
) -> None:
    pack_folder(photos.folder / "a.ARW", tmp_path, PackSettings(image_format, dtype), options=ONE)
    path = tmp_path / f"a.{image_format}"
    stored = np.load(path) if image_format == "npy" else tifffile.imread(path)
    truth = rawisp.open_raw(photos.folder / "a.ARW").pack()
    assert stored.dtype == dtype and stored.shape == (20, 30, 3)
    if dtype == "uint16":
        error = stored.astype(float) * UINT16_SCALE + UINT16_OFFSET - truth
        assert np.abs(error).max() <= 0.51 * UINT16_SCALE
    else:
        assert np.array_equal(stored, truth.astype(dtype))
    assert np.abs(decode_packed(stored) - truth).max() < 1e-3


def test_a_tiff_carries_the_metadata(photos: Photos, tmp_path: Path) -> None:
    source = photos.folder / "Nikon/deep/er/c.arw"
    pack_folder(source, tmp_path, PackSettings("tiff", "float16", orient="upright"), options=ONE)
    with tifffile.TiffFile(tmp_path / "c.tiff") as tiff:
        page = tiff.pages.first
        facts = json.loads(page.tags.valueof(270))
        assert page.tags.valueof(274) is None, "no Orientation: the pixels are turned already"
        assert page.shape == (30, 20, 3)
    assert facts["camera"]["model"] == "DSC-RX100M7"
    assert facts["exif_orientation"] == 6 and facts["output_size"] == [20, 30]
    assert facts["black"] == [800] * 4 and facts["pattern"] == "RGGB"
    assert facts["settings"]["orient"] == "upright" and facts["settings"]["dtype"] == "float16"
    # A clockwise quarter turn of the packed 30x20: x' = 20 - y / 2, y' = x / 2.
    assert facts["affine"] == [[0.0, -0.5, 20.0], [0.5, 0.0, 0.0]]


def test_upright_turns_the_array(photos: Photos, tmp_path: Path) -> None:
    source = photos.folder / "Nikon/deep/er/c.arw"
    pack_folder(source, tmp_path, PackSettings(orient="upright"), options=ONE)
    turned = np.load(tmp_path / "c.npy")
    assert np.array_equal(turned, np.rot90(rawisp.open_raw(source).pack(), -1))


BAD_FILES: dict[str, Callable[[Path, Path], object]] = {
    "text": lambda good, bad: bad.write_text("not a photo"),
    "empty": lambda good, bad: bad.touch(),
    "cut short": lambda good, bad: bad.write_bytes(good.read_bytes()[:2000]),
    "a JPEG": lambda good, bad: Image.new("RGB", (8, 8)).save(bad, "JPEG"),
    "dangling link": lambda good, bad: bad.symlink_to("nowhere"),
}


def check_others_unharmed(
    photos: Photos, folder: Path, bad: Path, out: Path, options: RunOptions
) -> str:
    """Copies the good files around `bad`, packs all; returns why `bad` failed."""
    for name in ("a.ARW", "Nikon/b.NEF"):
        for prefix in ("k", "z"):
            shutil.copy(photos.folder / name, folder / f"{prefix}_{os.path.basename(name)}")
    report = pack_folder(folder, out, options=options)
    assert report.exit_code == 1 and report.count("failed") == 1
    for record in report.records:
        output = out / record["output"]
        if record["source"] == str(bad):
            assert record["status"] == "failed" and not output.exists()
            reason = str(record["reason"])
        else:
            assert record["status"] == "done", record["reason"]
            frame = rawisp.open_raw(record["source"])
            assert np.array_equal(np.load(output), frame.pack())
    assert reason and "\n" not in reason
    return reason


@pytest.mark.parametrize("kind", BAD_FILES)
def test_one_bad_file_leaves_the_others_alone(photos: Photos, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    BAD_FILES[kind](photos.folder / "a.ARW", folder / "m.ARW")
    check_others_unharmed(photos, folder, folder / "m.ARW", tmp_path / "out", TWO)


def test_a_file_without_a_matrix_leaves_the_others_alone(
    photos: Photos, tmp_path: Path, make_raw: MakeRaw
) -> None:
    """It fails after decoding; the larger files after it go to the same worker."""
    bad = make_raw(tmp_path / "in" / "a.dng", 1, 30, 32, camera="Nobody", extra_tags=dng_tags())
    reason = check_others_unharmed(photos, tmp_path / "in", bad, tmp_path / "out", ONE)
    assert "--matrix generic" in reason


def test_a_small_file_that_cannot_be_written_leaves_larger_ones_alone(
    tmp_path: Path, make_raw: MakeRaw
) -> None:
    make_raw(tmp_path / "in" / "a.ARW", 0, 20, 20)
    make_raw(tmp_path / "in" / "b.ARW", 1, 200, 200)
    (tmp_path / "out" / "a.npy").mkdir(parents=True)
    report = pack_folder(
        tmp_path / "in", tmp_path / "out", options=RunOptions(workers=1, overwrite=True)
    )
    assert [(r["status"], r["reason"][:60]) for r in report.records][1] == ("done", "")
    assert report.records[0]["status"] == "failed"


def test_failures_are_in_the_manifest_and_tried_again(
    photos: Photos, tmp_path: Path, read_manifest_lines: ReadLines
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copy(photos.folder / "a.ARW", folder / "a.ARW")
    (folder / "b.ARW").write_text("not yet a photo")
    assert pack_folder(folder, out, options=ONE).exit_code == 1
    states = {line["output"]: line["status"] for line in read_manifest_lines(out)}
    assert states == {"a.npy": "done", "b.npy": "failed"}
    shutil.copy(photos.folder / "a.ARW", folder / "b.ARW")
    report = pack_folder(folder, out, options=ONE)
    assert [r["status"] for r in report.records] == ["skipped", "done"]
    assert {line["status"] for line in read_manifest_lines(out)} == {"done"}


def test_max_errors_stops_the_run(tmp_path: Path, make_raw: MakeRaw) -> None:
    for n in range(12):
        (tmp_path / f"bad{n:02}.ARW").write_text("no photo")
    make_raw(tmp_path / "z.ARW")
    options = RunOptions(workers=1, max_errors=2)
    report = pack_folder(tmp_path, tmp_path / "out", options=options)
    assert report.exit_code == 1
    assert 2 <= report.count("failed") <= 4, "those under way may still end"
    assert report.count("not attempted") == 13 - report.count("failed")
    assert "--max-errors" in report.stopped
    assert not (tmp_path / "out" / "z.npy").exists()


def test_too_large_files_are_refused(photos: Photos, tmp_path: Path) -> None:
    from rawisp.batch.tasks import ReadSettings

    settings = PackSettings(read=ReadSettings(max_megapixels=0.001))
    report = pack_folder(photos.folder / "a.ARW", tmp_path, settings, options=ONE)
    assert "--max-megapixels" in report.records[0]["reason"]


def test_info_reports_each_file_in_order(photos: Photos, tmp_path: Path) -> None:
    bad = tmp_path / "bad.ARW"
    bad.write_text("no photo")
    files = [photos.folder / "d.e.ARW", bad, photos.folder / "a.ARW", tmp_path / "missing.NEF"]
    records = list(rawisp.info_files(files, workers=2))
    assert [r["source"] for r in records] == [str(f) for f in files]
    assert [r["status"] for r in records] == ["done", "failed", "done", "failed"]
    assert records[2]["samples"]["R"]["max"] <= 16383
    assert "does not exist" in records[3]["reason"]
