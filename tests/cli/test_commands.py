"""Exit codes, and what goes to stdout and to stderr."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]


def json_lines(text: str) -> list[dict[str, Any]]:
    """Every line of `text`, strictly parsed."""

    def reject(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=reject) for line in text.splitlines()]


@pytest.fixture
def with_a_bad_one(photos: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    shutil.copytree(photos, folder)
    (folder / "3.ARW").write_text("no photo")
    return folder


@pytest.mark.parametrize("verb", ["info", "pack"])
def test_exit_codes(
    photos: Path, with_a_bad_one: Path, tmp_path: Path, run_rawisp: RunCommand, verb: str
) -> None:
    (tmp_path / "empty").mkdir()
    out = ["-o", tmp_path / "out"] if verb == "pack" else []
    expected = [
        (0, [photos]),
        (1, [with_a_bad_one]),
        (1, [tmp_path / "missing.NEF"]),
        (2, [photos, "--no-such-option"]),
        (2, []),
        (3, [tmp_path / "empty"]),
    ]
    for code, arguments in expected:
        done = run_rawisp(verb, *arguments, *out, *(["--overwrite"] if out else []))
        assert done.returncode == code, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.stderr or code == 0


@pytest.mark.parametrize("arguments", [["frobnicate"], ["pack", "x"], ["--nope"], ["enhance"]])
def test_usage_errors_are_2_and_go_to_stderr(run_rawisp: RunCommand, arguments: list[str]) -> None:
    done = run_rawisp(*arguments)
    assert done.returncode == 2 and done.stdout == "" and done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupted_info_is_130(
    photos: Path, tmp_path: Path, rawisp_command: list[str]
) -> None:
    for n in range(400):
        os.link(photos / "0.ARW", tmp_path / f"{n}.ARW")
    with subprocess.Popen(
        [*rawisp_command, "info", "--json", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in talk and talk.count("\n") <= 1


@pytest.mark.parametrize("verb", ["info", "pack", "enhance"])
def test_json_is_all_of_stdout_and_none_of_stderr(
    with_a_bad_one: Path, tmp_path: Path, run_rawisp: RunCommand, verb: str
) -> None:
    out = [] if verb == "info" else ["-o", tmp_path / "out"]
    done = run_rawisp(verb, with_a_bad_one, *out, "--json")
    assert done.returncode == 1
    records = json_lines(done.stdout)
    assert len(records) == 6 and done.stdout.count("\n") == 6
    assert sorted(Path(r["source"]).name for r in records) == [f"{n}.ARW" for n in range(6)]
    assert {r["status"] for r in records} == {"done", "failed"}
    assert "does not begin like any camera RAW" in done.stderr
    assert not any(line.lstrip().startswith(("{", "[")) for line in done.stderr.splitlines())
    if out:
        manifest = (tmp_path / "out" / "manifest.jsonl").read_text()
        in_manifest = {r["source"]: r for r in json_lines(manifest)}
        for record in records:
            record.pop("detail", None)
            assert in_manifest[record["source"]] == record


def test_json_of_a_dry_run_and_of_a_rerun(
    photos: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    out = ["-o", tmp_path / "out", "--json"]
    states = []
    for extra in (["--dry-run"], [], [], ["--overwrite"]):
        done = run_rawisp("pack", photos, *out, *extra)
        assert done.returncode == 0
        states.append({r["status"] for r in json_lines(done.stdout)})
    assert states == [{"planned"}, {"done"}, {"skipped"}, {"done"}]


def test_json_of_a_usage_error_is_nothing(tmp_path: Path, run_rawisp: RunCommand) -> None:
    done = run_rawisp("pack", tmp_path, "-o", tmp_path / "out", "--json")
    assert (done.returncode, done.stdout) == (3, "")


def test_without_json_pack_writes_nothing_to_stdout(
    photos: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    done = run_rawisp("pack", photos, "-o", tmp_path / "out")
    assert done.stdout == ""
    assert done.stderr.startswith("pack: 6 done in ") and done.stderr.count("\n") == 1
    assert "files/s" in done.stderr and str(tmp_path / "out") in done.stderr


def test_quiet_says_only_failures(
    photos: Path, with_a_bad_one: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    assert run_rawisp("pack", photos, "-o", tmp_path / "a", "-q").stderr == ""
    done = run_rawisp("pack", with_a_bad_one, "-o", tmp_path / "b", "--quiet")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "3.ARW: " in done.stderr


def test_verbose_has_a_line_per_file(
    with_a_bad_one: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    done = run_rawisp("pack", with_a_bad_one, "-o", tmp_path / "out", "-v")
    for n in (0, 1, 2, 4, 5):
        assert f"{n}.ARW -> {n}.npy: done (" in done.stderr
    (failed,) = [line for line in done.stderr.splitlines() if "3.ARW: " in line]
    assert re.search(r"does not begin like any camera RAW.* \(\d+\.\d\d s\)$", failed)
    assert done.stdout == ""


def test_a_dry_run_lists_what_it_would_do(
    photos: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    done = run_rawisp("enhance", photos, "-o", tmp_path / "out", "--dry-run")
    assert done.returncode == 0 and not (tmp_path / "out").exists()
    for n in range(6):
        assert f"{n}.ARW -> {n}.png: planned\n" in done.stdout
    assert done.stdout.count("\n") == 6
    assert done.stderr.count("\n") == 1 and "6 planned" in done.stderr


def test_a_dry_run_lists_only_what_it_would_do_and_says_nothing_when_quiet(
    photos: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    out = ["-o", tmp_path / "out"]
    assert run_rawisp("pack", photos / "1.ARW", photos / "2.ARW", *out).returncode == 0
    done = run_rawisp("pack", photos, *out, "--dry-run", "-q")
    assert done.returncode == 0 and done.stderr == ""
    planned = [line.partition(" -> ")[2] for line in done.stdout.splitlines()]
    assert planned == [f"{n}.npy: planned" for n in (0, 3, 4, 5)]


def test_what_is_not_a_terminal_gets_no_escape_codes(
    with_a_bad_one: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    for arguments in (["info", with_a_bad_one], ["pack", with_a_bad_one, "-o", tmp_path / "o"]):
        done = run_rawisp(*arguments)
        assert "\x1b" not in done.stdout + done.stderr and "\r" not in done.stdout + done.stderr


def on_a_terminal(command: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """(exit code, stdout, what a terminal as stderr received)."""
    ours, theirs = pty.openpty()
    received = bytearray()

    def read() -> None:
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            received.extend(data)

    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
        env={**environment, "TERM": "xterm-256color", "COLUMNS": "100"},
    ) as process:  # fmt: skip
        os.close(theirs)
        reader = threading.Thread(target=read)
        reader.start()
        stdout, _ = process.communicate(timeout=60)
        reader.join(timeout=10)
    os.close(ours)
    return process.returncode, stdout.decode(), received.decode("utf-8", "replace")


def test_a_terminal_gets_a_progress_bar(
    with_a_bad_one: Path,
    tmp_path: Path,
    rawisp_command: list[str],
    plain_environment: dict[str, str],
) -> None:
    arguments = ["pack", str(with_a_bad_one), "-o", str(tmp_path / "out")]
    code, stdout, terminal = on_a_terminal([*rawisp_command, *arguments], plain_environment)
    assert (code, stdout) == (1, "")
    assert "\x1b[" in terminal and "━" in terminal
    assert "6/6" in terminal and "files/s" in terminal and "left" in terminal
    assert "3.ARW: does not begin" in terminal.replace("\r\n", "")
    assert "pack: 5 done, 1 failed in" in terminal
    assert "Traceback" not in terminal


def test_json_goes_to_stdout_beside_a_progress_bar(
    photos: Path, tmp_path: Path, rawisp_command: list[str], plain_environment: dict[str, str]
) -> None:
    """As in `rawisp pack ... --json > log.jsonl`, typed by a person."""
    arguments = ["pack", str(photos), "-o", str(tmp_path / "out"), "--json"]
    code, stdout, terminal = on_a_terminal([*rawisp_command, *arguments], plain_environment)
    assert code == 0
    assert "6/6" in terminal
    assert [r["status"] for r in json_lines(stdout)] == ["done"] * 6
    assert '"status"' not in terminal


def test_quiet_has_no_bar_on_a_terminal(
    photos: Path, tmp_path: Path, rawisp_command: list[str], plain_environment: dict[str, str]
) -> None:
    arguments = ["pack", str(photos), "-o", str(tmp_path / "out"), "-q"]
    code, _, terminal = on_a_terminal([*rawisp_command, *arguments], plain_environment)
    assert (code, terminal) == (0, "")


SAMPLE_FACTS = {
    "camera": {"make": "SONY", "model": "DSC-RX100M7", "lens": ""},
    "pattern": "RGGB",
    "black": [800.0] * 4,
    "white": [16383.0] * 4,
    "levels_source": "LibRaw",
    "matrix_source": "LibRaw's table",
    "xyz_to_camera": [
        [1.0315, -0.439, -0.0937], [-0.4859, 1.2734, 0.2365], [-0.0734, 0.1537, 0.5997],
    ],
    "flip_libraw": 0,
    "exif_orientation": 1,
    "status": "done",
}  # fmt: skip


def test_info_json_of_a_sample_file(sample_data: Path, run_rawisp: RunCommand) -> None:
    (record,) = json_lines(
        run_rawisp("info", "--json", sample_data / "Sony" / "DSC01316.ARW").stdout
    )
    for key, value in SAMPLE_FACTS.items():
        assert record[key] == value, key
    exposure = record["exposure"]
    assert exposure["iso"] == 3200 and exposure["focal_length_mm"] == 9
    assert exposure["shutter_s"] == pytest.approx(0.02, rel=1e-6)
    assert exposure["aperture_f"] == pytest.approx(2.8, rel=1e-6)
    assert exposure["captured_at"].startswith("2020-11-")
    for name in ("raw", "visible", "upright"):
        frame = record["frames"][name]
        assert (frame["width"], frame["height"]) == (600, 400)
    assert record["camera_to_xyz"][0] == pytest.approx([1.15784, 0.39619, 0.02467], abs=1e-5)
    assert sorted(record["samples"]) == ["B", "G1", "G2", "R"]
    for statistics in record["samples"].values():
        assert statistics["min"] <= statistics["median"] <= statistics["max"] == 16383
        assert 0 < statistics["clipped_share"] < 0.01


def test_info_for_people_says_the_same(sample_data: Path, run_rawisp: RunCommand) -> None:
    done = run_rawisp("info", sample_data / "Nikon" / "DSC_0674.NEF")
    assert done.returncode == 0 and done.stderr == ""
    for words in (
        "NIKON D750", "ISO 3200, 1/50 s, f/1.8, 35 mm", "RGGB",
        "600 600 600 600", "65535", "LibRaw's table", "0.90200 -0.28900 -0.07150",
        "1.25625", "frame visible", "600x400", "median", "clipped", "gains in daylight",
    ):  # fmt: skip
        assert words in done.stdout, words


def test_info_takes_given_levels_and_matrix(photos: Path, run_rawisp: RunCommand) -> None:
    given = ["--black", "100", "--white", "1000,2000,3000,4000", "--matrix", "1 0 0 0 2 0 0 0 4"]
    (record,) = json_lines(run_rawisp("info", "--json", photos / "0.ARW", *given).stdout)
    assert record["black"] == [100] * 4 and record["white"] == [1000, 2000, 3000, 4000]
    assert record["levels_source"] == "given" and record["matrix_source"] == "given"
    assert record["camera_to_xyz"] == [[1, 0, 0], [0, 0.5, 0], [0, 0, 0.25]]
