"""Running again on an output folder: what is skipped, made anew, refused, and never touched."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rawisp.batch import EnhanceSettings, PackSettings, RunOptions, enhance_folder, pack_folder
from rawisp.batch.lock import output_folder_lock
from rawisp.batch.tasks import ReadSettings
from rawisp.errors import OutputError, UsageError
from rawisp.raw import Overrides

MakeRaw = Callable[..., Path]
Digests = Callable[..., dict[str, str]]
ReadLines = Callable[[Path], list[dict[str, Any]]]
RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]
ONE = RunOptions(workers=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, make_raw: MakeRaw) -> Path:
    """A folder with in/ (three files) and out/ (packed); copied for each test."""
    base = tmp_path_factory.mktemp("finished")
    for seed, name in enumerate(("a.ARW", "b.ARW", "sub/c.ARW")):
        make_raw(base / "in" / name, seed)
    assert pack_folder(base / "in", base / "out", options=ONE).exit_code == 0
    return base


@pytest.fixture
def done(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, with the same times, in which the same relative paths are used."""
    copy = tmp_path / "done"
    shutil.copytree(finished, copy)
    for path in (finished / "in").rglob("*.ARW"):
        assert (copy / path.relative_to(finished)).stat().st_mtime_ns == path.stat().st_mtime_ns
    text = (copy / "out" / "manifest.jsonl").read_text()
    (copy / "out" / "manifest.jsonl").write_text(text.replace(str(finished), str(copy)))
    return copy


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes())
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def statuses(done: Path, settings: PackSettings | None = None, **options: Any) -> list[str]:
    report = pack_folder(
        done / "in", done / "out", settings, options=RunOptions(workers=1, **options)
    )
    return [record["status"] for record in report.records]


def test_what_is_done_is_skipped_and_not_touched(done: Path) -> None:
    before = snapshot(done)
    assert statuses(done) == ["skipped"] * 3
    assert snapshot(done) == before


def test_a_deleted_output_is_made_again(done: Path) -> None:
    before = snapshot(done / "out")
    (done / "out" / "b.npy").unlink()
    assert statuses(done) == ["skipped", "done", "skipped"]
    after = snapshot(done / "out")
    assert after["b.npy"][1] == before["b.npy"][1]
    assert after["a.npy"] == before["a.npy"]


def test_overwrite_makes_everything_again(done: Path) -> None:
    before = snapshot(done / "out")
    assert statuses(done, overwrite=True) == ["done"] * 3
    after = snapshot(done / "out")
    for name in ("a.npy", "b.npy", "sub/c.npy"):
        assert after[name][0] > before[name][0] and after[name][1] == before[name][1]


def test_a_changed_source_is_made_again(done: Path, make_raw: MakeRaw) -> None:
    before = snapshot(done / "out")
    make_raw(done / "in" / "b.ARW", seed=99)
    assert statuses(done) == ["skipped", "done", "skipped"]
    assert snapshot(done / "out")["b.npy"][1] != before["b.npy"][1]
    assert statuses(done) == ["skipped"] * 3


def test_new_files_join(done: Path, make_raw: MakeRaw, read_manifest_lines: ReadLines) -> None:
    make_raw(done / "in" / "aa.ARW", seed=5)
    assert statuses(done) == ["skipped", "done", "skipped", "skipped"]
    assert len(read_manifest_lines(done / "out")) == 4


OTHER_SETTINGS = {
    "dtype": PackSettings(dtype="float16"),
    "color": PackSettings(color="camera"),
    "orient": PackSettings(orient="upright"),
    "black": PackSettings(read=ReadSettings(overrides=Overrides(black=(700.0,)))),
    "white": PackSettings(read=ReadSettings(overrides=Overrides(white=(16000.0,)))),
    "matrix": PackSettings(read=ReadSettings(overrides=Overrides(matrix=np.eye(3)))),
}


@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_other_settings_are_refused_before_any_work(done: Path, name: str) -> None:
    before = snapshot(done)
    with pytest.raises(OutputError, match=name) as caught:
        statuses(done, OTHER_SETTINGS[name])
    assert caught.value.exit_code == 2 and "--overwrite" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert snapshot(done) == before


def test_settings_that_change_nothing_are_no_other_settings(done: Path) -> None:
    settings = PackSettings(read=ReadSettings(max_megapixels=50))
    assert statuses(done, settings) == ["skipped"] * 3


def test_the_same_name_from_another_source_is_refused(done: Path, make_raw: MakeRaw) -> None:
    make_raw(done / "other" / "a.ARW", seed=50)
    before = snapshot(done / "out")
    with pytest.raises(OutputError, match="was made from"):
        pack_folder(done / "other", done / "out", options=ONE)
    assert snapshot(done / "out") == before


def test_a_moved_source_folder_is_recognised(done: Path) -> None:
    (done / "in").rename(done / "moved")
    report = pack_folder(done / "moved", done / "out", options=ONE)
    assert report.count("failed") == 0 and len(report.records) == 3


def test_dry_run_writes_nothing_at_all(done: Path, make_raw: MakeRaw) -> None:
    make_raw(done / "in" / "new.ARW")
    before = snapshot(done)
    assert statuses(done, dry_run=True) == ["skipped", "skipped", "planned", "skipped"]
    assert snapshot(done) == before
    report = pack_folder(
        done / "in", done / "fresh" / "out", options=RunOptions(workers=1, dry_run=True)
    )
    assert report.count("planned") == 4 and report.exit_code == 0
    assert not (done / "fresh").exists()


def test_an_enhance_dry_run_writes_nothing_at_all(finished: Path, tmp_path: Path) -> None:
    report = enhance_folder(
        finished / "in", tmp_path / "out", options=RunOptions(workers=1, dry_run=True)
    )
    assert report.count("planned") == 3 and not (tmp_path / "out").exists()


def test_the_users_own_files_are_never_overwritten(tmp_path: Path, make_raw: MakeRaw) -> None:
    """RAW and camera JPEG side by side, and the outputs sent into the same folder."""
    for n in range(3):
        make_raw(tmp_path / f"{n}.ARW", n)
    Image.new("RGB", (30, 20), "red").save(tmp_path / "1.jpg")
    (tmp_path / "2.npy").write_bytes(b"mine")
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match=r"1\.jpg.*not written by rawisp") as caught:
        enhance_folder(tmp_path, tmp_path, EnhanceSettings(format="jpg"), options=ONE)
    assert caught.value.exit_code == 2
    with pytest.raises(OutputError, match=r"2\.npy.*not written by rawisp"):
        pack_folder(tmp_path, tmp_path, options=ONE)
    assert snapshot(tmp_path) == before


def test_a_picture_put_where_one_failed_is_not_overwritten(
    tmp_path: Path, make_raw: MakeRaw
) -> None:
    """The file was damaged; its owner exported it by other means, and later found a good copy."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.ARW").write_text("damaged")
    assert pack_folder(tmp_path / "in", tmp_path / "out", options=ONE).exit_code == 1
    (tmp_path / "out" / "a.npy").write_bytes(b"mine")
    make_raw(tmp_path / "in" / "a.ARW")
    with contextlib.suppress(OutputError):
        pack_folder(tmp_path / "in", tmp_path / "out", options=ONE)
    assert (tmp_path / "out" / "a.npy").read_bytes() == b"mine"


def test_a_link_in_the_way_is_not_followed(tmp_path: Path, make_raw: MakeRaw) -> None:
    make_raw(tmp_path / "in" / "a.ARW")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.npy").symlink_to(tmp_path / "elsewhere.npy")
    with pytest.raises(OutputError, match="not written by rawisp"):
        pack_folder(tmp_path / "in", tmp_path / "out", options=ONE)
    assert not (tmp_path / "elsewhere.npy").exists()


def test_a_manifest_of_somebody_else_is_not_lost(tmp_path: Path, make_raw: MakeRaw) -> None:
    make_raw(tmp_path / "a.ARW")
    mine = '{"audio_filepath": "a.wav", "duration": 3.5}\n'
    (tmp_path / "manifest.jsonl").write_text(mine)
    with contextlib.suppress(OutputError):
        pack_folder(tmp_path, tmp_path, options=ONE)
    assert mine in (tmp_path / "manifest.jsonl").read_text()


BROKEN_LINES = {
    "binary": b"\xff\x00\xfe\n",
    "no object": b"[1, 2]\nnull\n7\n",
    "empty object": b"{}\n",
    "no status": b'{"output": "a.npy"}\n',
    "no settings": b'{"output": "a.npy", "status": "done", "source": "x"}\n',
    "odd output": b'{"output": [1], "status": "done"}\n{"output": 5, "status": "done"}\n',
    "torn": b'{"output": "a.npy", "stat',
    "empty": b"",
}


@pytest.mark.parametrize("name", BROKEN_LINES)
def test_a_damaged_manifest_is_no_traceback(done: Path, name: str) -> None:
    (done / "out" / "manifest.jsonl").write_bytes(BROKEN_LINES[name])
    before = (done / "out" / "a.npy").read_bytes()
    with pytest.raises(UsageError, match=r"\w"):
        statuses(done)
    assert (done / "out" / "a.npy").read_bytes() == before


@pytest.mark.parametrize("name", BROKEN_LINES)
def test_a_damaged_line_beside_good_ones_is_passed_over(done: Path, name: str) -> None:
    manifest = done / "out" / "manifest.jsonl"
    broken = BROKEN_LINES[name].replace(b"a.npy", b"gone.npy")
    manifest.write_bytes(manifest.read_bytes() + broken)
    (done / "out" / "b.npy").unlink()
    assert statuses(done) == ["skipped", "done", "skipped"]


def test_what_a_killed_run_left_is_swept_even_when_all_is_done(done: Path) -> None:
    """Killed while it rewrote the manifest, after the last picture."""
    left = done / "out" / ".6d616e6966657374-4242.rawisp-tmp"
    left.write_bytes(b"half")
    assert statuses(done) == ["skipped"] * 3
    assert not left.exists()


def test_a_second_run_on_the_folder_is_refused(done: Path) -> None:
    (done / "out" / "a.npy").unlink()
    with (
        output_folder_lock(str(done / "out")),
        pytest.raises(OutputError, match="another rawisp run") as caught,
    ):
        statuses(done)
    assert caught.value.exit_code == 2
    assert statuses(done) == ["done", "skipped", "skipped"]


def test_two_commands_on_one_folder(
    finished: Path,
    tmp_path: Path,
    rawisp_command: list[str],
    run_rawisp: RunCommand,
    eventually: Callable[..., bool],
    read_manifest_lines: ReadLines,
) -> None:
    (tmp_path / "in").mkdir()
    for n in range(150):
        os.link(finished / "in" / "a.ARW", tmp_path / "in" / f"{n:03}.ARW")
    out = tmp_path / "out"
    arguments = [*rawisp_command, "pack", str(tmp_path / "in"), "-o", str(out), "-q"]
    first = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    try:
        assert eventually(lambda: (out / "manifest.jsonl").exists(), 20)
        second = run_rawisp("pack", tmp_path / "in", "-o", out)
        assert first.poll() is None, "the first run was too quick for this test"
    finally:
        _, talk = first.communicate(timeout=60)
    assert second.returncode == 2 and "another rawisp run is writing there" in second.stderr
    assert second.stderr.count("\n") == 1
    assert first.returncode == 0, talk
    assert len(read_manifest_lines(out)) == 150


def test_another_checkpoint_is_refused(done: Path, tmp_path: Path) -> None:
    """The entry says what made the picture; no need to render one here."""
    out = tmp_path / "images"
    out.mkdir()
    source = done / "in" / "a.ARW"
    (out / "a.png").write_bytes(b"a picture")
    entry = {
        "source": str(source),
        "output": "a.png",
        "status": "done",
        "settings": {"verb": "enhance", "format": "png", "color": "xyz", "fit": [1333, 800],
                     "orient": "upright", "matrix": None, "black": None, "white": None},
        "checkpoint": {"name": "mine", "sha256": "0" * 64},
    }  # fmt: skip
    (out / "manifest.jsonl").write_text(json.dumps(entry) + "\n")
    with pytest.raises(OutputError, match="checkpoint"):
        enhance_folder(source, out, options=ONE)
    assert (out / "a.png").read_bytes() == b"a picture"
