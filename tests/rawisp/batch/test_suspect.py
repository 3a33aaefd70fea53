"""Files that look damaged: reported, kept apart in the manifest, and refused when asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rawisp.batch import PackSettings, RunOptions, pack_folder
from rawisp.batch.info import info_files
from rawisp.batch.tasks import ReadSettings

MakeRaw = Callable[..., Path]
ONE = RunOptions(workers=1)


@pytest.fixture
def folder(tmp_path: Path, make_raw: MakeRaw) -> Path:
    """A sound file, and one with a hole of zeros."""
    folder = tmp_path / "in"
    make_raw(folder / "good.ARW", 0, 128, 192)
    hole = make_raw(folder / "hole.ARW", 1, 128, 192)
    content = bytearray(hole.read_bytes())
    content[20_000:30_000] = bytes(10_000)
    hole.write_bytes(content)
    return folder


def lines(out: Path) -> dict[str, dict[str, Any]]:
    text = (out / "manifest.jsonl").read_text()
    return {one["output"]: one for one in map(json.loads, text.splitlines())}


def test_a_suspect_file_is_packed_and_called_so(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = pack_folder(folder, out, options=ONE)
    assert (report.count("done"), report.count("suspect"), report.exit_code) == (1, 1, 0)
    record = lines(out)["hole.npy"]
    assert record["status"] == "suspect"
    assert "below the black level, which no sensor writes" in record["reason"]
    assert lines(out)["good.npy"]["status"] == "done"
    assert (out / "hole.npy").exists()


def test_a_rerun_skips_it_and_still_says_so(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack_folder(folder, out, options=ONE)
    report = pack_folder(folder, out, options=ONE)
    assert report.count("skipped") == 2
    assert lines(out)["hole.npy"]["status"] == "suspect"


@pytest.mark.parametrize("before", [False, True], ids=["at once", "after a run without it"])
def test_strict_makes_it_a_failure(folder: Path, tmp_path: Path, before: bool) -> None:
    out = tmp_path / "out"
    if before:
        pack_folder(folder, out, options=ONE)
    strict = PackSettings(read=ReadSettings(strict=True))
    report = pack_folder(folder, out, strict, options=ONE)
    assert (report.count("failed"), report.exit_code) == (1, 1)
    assert report.count("skipped" if before else "done") == 1
    assert not (out / "hole.npy").exists()
    assert "--strict" in lines(out)["hole.npy"]["reason"]


def test_info_says_so(folder: Path) -> None:
    records = {Path(r["source"]).name: r for r in info_files([folder])}
    assert records["hole.ARW"]["status"] == "suspect"
    assert records["hole.ARW"]["reason"] == records["hole.ARW"]["suspicions"][0]
    assert records["good.ARW"]["status"] == "done"


# --- cameras without a matrix ---------------------------------------------------------------------


def test_generic_is_for_cameras_without_a_matrix_only(tmp_path: Path, make_raw: MakeRaw) -> None:
    from rawisp.color import GENERIC_SOURCE, GENERIC_XYZ_TO_CAMERA
    from rawisp.raw import Overrides

    make_raw(tmp_path / "in" / "known.ARW", 0)
    make_raw(tmp_path / "in" / "unknown.ARW", 0, camera="NOBODY")
    out = tmp_path / "out"
    plain = pack_folder(tmp_path / "in", tmp_path / "plain", options=ONE)
    failed = next(r for r in plain.records if r["status"] == "failed")
    assert failed["output"] == "unknown.npy"
    assert "--matrix generic" in failed["reason"]
    settings = PackSettings(read=ReadSettings(overrides=Overrides(generic_matrix=True)))
    assert pack_folder(tmp_path / "in", out, settings, options=ONE).exit_code == 0
    known, unknown = lines(out)["known.npy"], lines(out)["unknown.npy"]
    assert known["matrix_source"] == "LibRaw's table"
    assert unknown["matrix_source"] == GENERIC_SOURCE
    assert unknown["settings"]["matrix"] == "generic"
    assert unknown["xyz_to_camera"] == GENERIC_XYZ_TO_CAMERA.tolist()
    camera = PackSettings(color="camera")
    pack_folder(tmp_path / "in" / "unknown.ARW", tmp_path / "camera", camera, options=ONE)
    rgb = np.load(tmp_path / "camera" / "unknown.npy")
    xyz = np.load(out / "unknown.npy")
    np.testing.assert_allclose(xyz @ GENERIC_XYZ_TO_CAMERA.T, rgb, atol=1e-5)
