"""What is taken as an input, under which names, and what is said when nothing is."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rawisp.batch import RunOptions, pack_folder
from rawisp.batch.inputs import find_sources
from rawisp.errors import NothingToDoError, OutputError
from rawisp.raw import RAW_SUFFIXES
from rawisp.raw.files import Search

MakeRaw = Callable[..., Path]
ReadLines = Callable[[Path], list[dict[str, Any]]]
RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]
ONE = RunOptions(workers=1)


@pytest.fixture(scope="module")
def raw_bytes(tmp_path_factory: pytest.TempPathFactory, make_raw: MakeRaw) -> bytes:
    return make_raw(tmp_path_factory.mktemp("one") / "a.ARW").read_bytes()


def relative_names(folder: Path) -> list[str]:
    return [s.relative for s in find_sources([str(folder)], RAW_SUFFIXES).sources]


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


@pytest.mark.parametrize("suffix", ["NEF", "nef", "Nef", "ARW", "arw", "dng", "CR3", "raf", "Rw2"])
def test_suffixes_count_in_any_case(tmp_path: Path, suffix: str) -> None:
    assert relative_names(put(tmp_path, f"a.{suffix}")) == [f"a.{suffix}"]


def test_hidden_files_and_macos_twins_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "a.NEF", "._a.NEF", ".b.NEF", ".trash/c.NEF", "sub/._d.NEF", "sub/d.NEF")
    assert relative_names(tmp_path) == ["a.NEF", "sub/d.NEF"]


def test_a_hidden_folder_that_is_named_is_searched(tmp_path: Path) -> None:
    assert relative_names(put(tmp_path / ".hidden", "a.NEF")) == ["a.NEF"]


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    put(tmp_path, "c.NEF", "a.NEF", "b/z.NEF", "b/a.NEF", "B.NEF")
    assert relative_names(tmp_path) == ["B.NEF", "a.NEF", "c.NEF", "b/a.NEF", "b/z.NEF"]


DELETED = [
    "$RECYCLE.BIN",
    "#recycle",
    ".Trashes",
    ".Trash-1000",
    "@eaDir",
    "lost+found",
    "RECYCLER",
]


@pytest.mark.parametrize("folder", DELETED)
def test_deleted_files_are_passed_over_and_counted(tmp_path: Path, folder: str) -> None:
    put(tmp_path, "a.NEF", f"in/{folder}/S-1/b.NEF", f"in/{folder}/c.NEF", f"in/{folder}/d.txt")
    found = find_sources([str(tmp_path)], RAW_SUFFIXES)
    assert [source.relative for source in found.sources] == ["a.NEF"]
    assert found.deleted == {str(tmp_path / "in" / folder): 2}
    (note,) = found.notes()
    assert folder in note and "2 files there passed over" in note


@pytest.mark.parametrize("folder", ["trash", "recycled", "@home", "found"])
def test_folders_that_only_sound_like_it_are_searched(tmp_path: Path, folder: str) -> None:
    """A data set of litter has a class called trash."""
    assert relative_names(put(tmp_path, f"{folder}/a.NEF")) == [f"{folder}/a.NEF"]


def test_a_folder_of_deleted_files_that_is_named_is_searched(tmp_path: Path) -> None:
    assert relative_names(put(tmp_path / "#recycle", "a.NEF")) == ["a.NEF"]


EXCLUDED = {
    "b.NEF": ["a.NEF", "sub/c.NEF", "sub/deep/a.NEF"],
    "sub": ["a.NEF", "b.NEF"],
    "sub/": ["a.NEF", "b.NEF"],
    "sub/deep": ["a.NEF", "b.NEF", "sub/c.NEF"],
    "*/a.NEF": ["a.NEF", "b.NEF", "sub/c.NEF"],
    "[ab].NEF": ["sub/c.NEF"],
}


@pytest.mark.parametrize("pattern", EXCLUDED)
def test_patterns_pass_over_names_and_paths(tmp_path: Path, pattern: str) -> None:
    put(tmp_path, "a.NEF", "b.NEF", "sub/c.NEF", "sub/deep/a.NEF")
    found = find_sources([str(tmp_path)], RAW_SUFFIXES, search=Search(exclude=(pattern,)))
    assert [source.relative for source in found.sources] == EXCLUDED[pattern]
    assert found.excluded and "--exclude passes over" in found.notes()[0]


def test_links_are_followed_on_demand_each_folder_once(tmp_path: Path) -> None:
    root = put(tmp_path / "root", "a.NEF", "z/b.NEF")
    put(tmp_path / "store", "c.NEF", "deep/d.NEF")
    (root / "loop").symlink_to(root)
    (root / "more").symlink_to(tmp_path / "store")
    (root / "same").symlink_to(root / "z")
    (tmp_path / "store" / "back").symlink_to(root)
    (tmp_path / "store" / "deep" / "up").symlink_to(tmp_path / "store")
    found = find_sources([str(root)], RAW_SUFFIXES, search=Search(follow_links=True))
    assert [source.relative for source in found.sources] == [
        "a.NEF", "z/b.NEF", "more/c.NEF", "more/deep/d.NEF",
    ]  # fmt: skip
    assert not found.links
    assert relative_names(root) == ["a.NEF", "z/b.NEF"]


def test_loops_of_links_end(tmp_path: Path) -> None:
    put(tmp_path, "a.NEF", "sub/b.NEF")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "loop.NEF").symlink_to("loop.NEF")
    assert relative_names(tmp_path) == ["a.NEF", "loop.NEF", "sub/b.NEF"]


def test_linked_files_are_taken_and_linked_folders_are_not(
    tmp_path: Path, raw_bytes: bytes
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "real.ARW").write_bytes(raw_bytes)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "linked.ARW").symlink_to(tmp_path / "store" / "real.ARW")
    (tmp_path / "in" / "folder.ARW").symlink_to(tmp_path / "store")
    report = pack_folder(tmp_path / "in", tmp_path / "out", options=ONE)
    assert [(r["status"], r["output"]) for r in report.records] == [("done", "linked.npy")]


def test_a_folder_that_is_a_link_may_be_named(tmp_path: Path) -> None:
    put(tmp_path / "store", "a.NEF")
    (tmp_path / "link").symlink_to("store")
    assert relative_names(tmp_path / "link") == ["a.NEF"]


def test_a_file_named_twice_is_done_once(tmp_path: Path, raw_bytes: bytes) -> None:
    (tmp_path / "a.ARW").write_bytes(raw_bytes)
    sources = [tmp_path, tmp_path / "a.ARW", f"{tmp_path}//./a.ARW"]
    assert len(pack_folder(sources, tmp_path / "out", options=ONE).records) == 1


def test_the_output_folder_is_not_searched(tmp_path: Path, raw_bytes: bytes) -> None:
    """Its own RAW files, put there by whomever, do not become inputs of the next run."""
    (tmp_path / "a.ARW").write_bytes(raw_bytes)
    put(tmp_path / "out", "b.ARW")
    report = pack_folder(tmp_path, tmp_path / "out", options=ONE)
    assert [r["output"] for r in report.records] == ["a.npy"]


SPECIAL = {
    "pipe.ARW": "pipe",
    "socket.ARW": "pipe, device or socket",
    "dangling.ARW": "does not exist",
    "loop.ARW": "cannot be read",
    "to_a_device.ARW": "no regular file",
    "empty.ARW": "empty",
}


def test_special_files_fail_with_their_reason_and_block_nothing(
    tmp_path: Path, raw_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    (folder / "a_folder.ARW").mkdir(parents=True)
    (folder / "good.ARW").write_bytes(raw_bytes)
    (folder / "empty.ARW").touch()
    os.mkfifo(folder / "pipe.ARW")
    (folder / "dangling.ARW").symlink_to("nowhere")
    (folder / "loop.ARW").symlink_to("loop.ARW")
    (folder / "to_a_device.ARW").symlink_to("/dev/zero")
    monkeypatch.chdir(folder)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.ARW")
        report = pack_folder(folder, tmp_path / "out", options=RunOptions(workers=1, timeout_s=20))
    reasons = {os.path.basename(r["source"]): r["reason"] for r in report.records}
    assert reasons.pop("good.ARW") == ""
    assert sorted(reasons) == sorted(SPECIAL)
    for name, words in SPECIAL.items():
        assert words in reasons[name]
        assert "rawisp itself" not in reasons[name] and "took longer" not in reasons[name]


@pytest.mark.parametrize("name", ["pipe.tif", "pipe.npy"])
def test_enhance_does_not_wait_for_a_pipe(
    tmp_path: Path, raw_bytes: bytes, run_rawisp: RunCommand, name: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.ARW").write_bytes(raw_bytes)
    os.mkfifo(folder / name)
    try:
        done = run_rawisp("enhance", folder, "-o", tmp_path / "out", "--timeout", "6", timeout=14)
    except subprocess.TimeoutExpired:
        pytest.fail("it waits for the pipe for ever")
    assert "took longer" not in done.stderr
    assert (tmp_path / "out" / "good.png").exists()


ODD_NAMES = {
    "no UTF-8": b"nacht\xff\xfe.ARW",
    "new line": b"two\nlines.ARW",
    "leading dash": b"-o.ARW",
    "two dashes": b"--help.ARW",
    "emoji": "\N{NIGHT WITH STARS}\N{BICYCLE}.ARW".encode(),
    "255 bytes": b"x" * 251 + b".ARW",
    "255 bytes of umlauts": "ä".encode() * 125 + b"a.ARW",
    "spaces": b"  a  b .ARW",
    "quotes": b"\"a'`$(b).ARW",
    "rich markup": b"[bold]a[link=x].ARW",
    "percent": b"%s%d{0}.ARW",
    "backslash": b"a\\nb.ARW",
    "escape codes": b"\x1b[31mred.ARW",
    "tab and bell": b"a\tb\x07.ARW",
    "only a suffix twice": b"ARW.ARW",
    "many dots": b"a.b..c...ARW",
    "right to left": "\u202egnp.ARW".encode(),
    "lone carriage return": b"a\rb.ARW",
}


@pytest.fixture(scope="module")
def odd_run(
    tmp_path_factory: pytest.TempPathFactory, raw_bytes: bytes, run_rawisp: RunCommand
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    base = tmp_path_factory.mktemp("odd names")
    (base / "in").mkdir()
    for name in ODD_NAMES.values():
        (base / "in" / os.fsdecode(name)).write_bytes(raw_bytes)
    done = run_rawisp(
        "pack",
        ".",
        "-o",
        "../out",
        "--json",
        "-v",
        cwd=base / "in",
        env={**os.environ, "LC_ALL": "C.UTF-8", "PYTHONIOENCODING": ""},
    )
    return base, done


def test_odd_names_are_all_packed(
    odd_run: tuple[Path, subprocess.CompletedProcess[str]], read_manifest_lines: ReadLines
) -> None:
    base, done = odd_run
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(records) == len(ODD_NAMES) == len(read_manifest_lines(base / "out"))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ODD_NAMES)
def test_an_odd_name_comes_back_whole_from_json_and_manifest(
    odd_run: tuple[Path, subprocess.CompletedProcess[str]],
    kind: str,
    read_manifest_lines: ReadLines,
) -> None:
    base, done = odd_run
    raw = ODD_NAMES[kind]
    for records in (
        [json.loads(line) for line in done.stdout.splitlines()],
        read_manifest_lines(base / "out"),
    ):
        found = [r for r in records if os.path.basename(os.fsencode(r["source"])) == raw]
        assert len(found) == 1
        output = os.fsencode(base / "out") + b"/" + os.fsencode(found[0]["output"])
        assert os.path.basename(output) == os.path.splitext(raw)[0] + b".npy"
        with open(output, "rb") as file:
            assert np.load(file).shape == (20, 30, 3)


def test_what_is_said_of_odd_names_is_one_line_each_and_moves_no_cursor(
    odd_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    talk = odd_run[1].stderr
    assert talk.count("\n") == len(ODD_NAMES) + 1  # and the summary
    assert "\x1b" not in talk and "\x07" not in talk and "\r" not in talk


def test_odd_names_survive_a_terminal_without_utf_8(
    tmp_path: Path, raw_bytes: bytes, run_rawisp: RunCommand
) -> None:
    for name in (b"nacht\xff.ARW", "ä\N{BICYCLE}.ARW".encode()):
        (tmp_path / os.fsdecode(name)).write_bytes(raw_bytes)
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for verb in (["pack", "-o", tmp_path / "out", "-v"], ["info"]):
        done = run_rawisp(*verb, tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


def test_a_name_too_long_for_its_output_fails_alone(
    tmp_path: Path, raw_bytes: bytes, run_rawisp: RunCommand
) -> None:
    for name in ("x" * 251 + ".ARW", "x" * 251 + ".NEF", "short.ARW"):
        (tmp_path / name).write_bytes(raw_bytes)
    report = pack_folder(tmp_path, tmp_path / "out", options=ONE)
    assert [r["status"] for r in report.records] == ["done", "failed", "failed"]
    assert "too long" in report.records[1]["reason"]


COLLISIONS = {
    "case twins": ["a.NEF", "a.nef"],
    "case of the stem": ["a.NEF", "A.NEF"],
    "NFC and NFD": [unicodedata.normalize(f, "ä.NEF") for f in ("NFC", "NFD")],
    "a kept suffix": ["a.NEF", "a.ARW", "a.NEF.DNG"],
    "folder case": ["x/a.NEF", "X/a.NEF"],
}


@pytest.mark.parametrize("kind", COLLISIONS)
def test_inputs_that_would_share_an_output_are_refused_before_work(
    tmp_path: Path, kind: str
) -> None:
    put(tmp_path / "in", *COLLISIONS[kind])
    if len({p for p in (tmp_path / "in").rglob("*") if p.is_file()}) < len(COLLISIONS[kind]):
        pytest.skip("this file system keeps no such names apart")
    with pytest.raises(OutputError, match="would both be written") as caught:
        pack_folder(tmp_path / "in", tmp_path / "out", options=ONE)
    assert caught.value.exit_code == 2 and not (tmp_path / "out").exists()


def test_two_source_folders_with_the_same_stems_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "one/a.NEF", "two/a.NEF", "two/b.NEF")
    with pytest.raises(OutputError, match="would both be written"):
        pack_folder([tmp_path / "one", tmp_path / "two"], tmp_path / "out", options=ONE)


def test_the_same_stem_with_other_suffixes_is_told_apart(tmp_path: Path, raw_bytes: bytes) -> None:
    for name in ("a.NEF", "a.ARW", "b.ARW"):
        (tmp_path / name).write_bytes(raw_bytes)
    report = pack_folder(tmp_path, tmp_path / "out", options=ONE)
    assert [r["output"] for r in report.records] == ["a.ARW.npy", "a.NEF.npy", "b.npy"]
    assert report.exit_code == 0


def test_an_empty_folder_is_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(NothingToDoError, match="holds no camera RAW files") as caught:
        pack_folder(tmp_path, tmp_path / "out", options=ONE)
    assert caught.value.exit_code == 3 and not (tmp_path / "out").exists()


def test_a_folder_of_other_files_says_what_it_holds(tmp_path: Path, run_rawisp: RunCommand) -> None:
    put(tmp_path, "1.jpg", "2.JPG", "3.jpg", "sub/4.xmp", "README")
    done = run_rawisp("pack", tmp_path, "-o", tmp_path / "out")
    assert done.returncode == 3
    assert "only 3 .jpg, 1 no suffix, 1 .xmp" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["pack", "info", "enhance"])
def test_a_missing_source_fails_alone(
    tmp_path: Path, raw_bytes: bytes, run_rawisp: RunCommand, verb: str
) -> None:
    (tmp_path / "a.ARW").write_bytes(raw_bytes)
    out = [] if verb == "info" else ["-o", tmp_path / "out"]
    done = run_rawisp(verb, tmp_path / "missing.NEF", tmp_path / "a.ARW", *out, "--json")
    assert done.returncode == 1
    states = {os.path.basename(r["source"]): r for r in map(json.loads, done.stdout.splitlines())}
    assert states["a.ARW"]["status"] == "done"
    assert states["missing.NEF"]["status"] == "failed"
    assert "does not exist" in states["missing.NEF"]["reason"]


@pytest.mark.parametrize("name", ["missing.tif", "photo.tiff"])
def test_a_tiff_that_is_named_is_not_dropped_in_silence(
    tmp_path: Path, raw_bytes: bytes, run_rawisp: RunCommand, name: str
) -> None:
    (tmp_path / "a.ARW").write_bytes(raw_bytes)
    (tmp_path / "photo.tiff").write_bytes(b"II*\0 no picture")
    done = run_rawisp("enhance", tmp_path / name, tmp_path / "a.ARW", "-o", tmp_path / "out")
    assert done.returncode == 1, done.stderr
    assert name in done.stderr


def test_a_raw_file_with_another_suffix_may_be_named(tmp_path: Path, raw_bytes: bytes) -> None:
    (tmp_path / "photo.bin").write_bytes(raw_bytes)
    report = pack_folder(tmp_path / "photo.bin", tmp_path / "out", options=ONE)
    assert report.records[0]["status"] == "done"


def test_a_source_folder_that_cannot_be_read_is_not_passed_over_in_silence(
    tmp_path: Path, raw_bytes: bytes, rawisp_command: list[str]
) -> None:
    """Root reads everything, so as root the command runs without that privilege."""
    privilege = "-dac_override,-dac_read_search"
    before = ["setpriv", f"--bounding-set={privilege}", f"--inh-caps={privilege}"]
    if os.geteuid() != 0:
        before = []
    elif not shutil.which("setpriv") or subprocess.run([*before, "true"]).returncode:
        pytest.skip("root may read everything, and setpriv is not there")
    (tmp_path / "in" / "locked").mkdir(parents=True)
    (tmp_path / "in" / "a.ARW").write_bytes(raw_bytes)
    (tmp_path / "in" / "locked").chmod(0)
    try:
        done = subprocess.run(
            [*before, *rawisp_command, "pack", str(tmp_path / "in"), "-o", str(tmp_path / "out")],
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        (tmp_path / "in" / "locked").chmod(0o700)
    assert (tmp_path / "out" / "a.npy").exists()
    assert done.returncode == 1 and "locked" in done.stderr, done.stderr


def test_a_tree_that_is_both_source_and_output_settles(tmp_path: Path, raw_bytes: bytes) -> None:
    (tmp_path / "a.ARW").write_bytes(raw_bytes)
    shutil.copytree(tmp_path, tmp_path / "sub")
    for expected in ("done", "skipped", "skipped"):
        report = pack_folder(tmp_path, tmp_path, options=ONE)
        assert [r["status"] for r in report.records] == [expected] * 2


@pytest.mark.parametrize("given", ["in", "in/", "./in", "in/sub/../sub", "in/a.NEF", "a.NEF"])
def test_a_source_knows_the_folder_it_is_relative_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    put(tmp_path, "in/a.NEF", "in/sub/b.NEF", "a.NEF")
    monkeypatch.chdir(tmp_path)
    sources = find_sources([given], RAW_SUFFIXES).sources
    for source in sources:
        assert (Path(source.root) / source.relative).samefile(source.path)
    assert sources
