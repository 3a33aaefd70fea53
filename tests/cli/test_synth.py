"""`rawisp synth`: what it prints, what it leaves, and its exit codes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three of them, YOLO labels for two."""
    rng = np.random.default_rng(0)
    for name in "abc":
        path = tmp_path / "photographs" / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)).save(path)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "labels" / "b.txt").write_text("")
    return path.parent


def test_it_makes_raw_files_that_the_other_commands_read(
    photographs: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    nights, labels = tmp_path / "nights", tmp_path / "labels"
    arguments = ["synth", photographs, "-o", nights, "--annotations", labels, "--stops", 3, 4]
    done = run_rawisp(*arguments, "--camera", "dng", "--camera", "NIKON D750", "--json")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {record["status"] for record in records} == {"done"} and len(records) == 3
    assert all(3 <= record["night"]["stops"] <= 4 for record in records)
    assert "2 of 3 photographs have an entry" in done.stderr
    assert "annotations: 1 boxes in 2 images" in done.stderr
    again = run_rawisp(*arguments, "--camera", "dng", "--camera", "NIKON D750", "-q")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    out = tmp_path / "out"
    boxes = nights / "annotations.json"
    done = run_rawisp("enhance", nights, "-o", out, "--annotations", boxes, timeout=120)
    assert done.returncode == 0, done.stderr
    (annotation,) = json.loads((out / "annotations.json").read_text())["annotations"]
    assert annotation["bbox"] == [12, 6, 8, 12]


def test_a_broken_photograph_is_a_sentence_and_exit_code_1(
    photographs: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    (photographs / "b.jpg").write_text("no picture")
    done = run_rawisp("synth", photographs, "-o", tmp_path / "nights", "-q")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{photographs}/b.jpg: is damaged or no photograph")
    assert done.stderr.count("\n") == 1 and len(list((tmp_path / "nights").glob("*.ARW"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--camera", "D750"], "camera 'D750' is none of DSC-RX100M7, NIKON D750, dng"),
        (["--stops", 7, 3], "stops 7 3 is not within"),
        (["--annotations", "nowhere.json"], "nowhere.json: there is no such annotation file"),
    ],
)
def test_errors_are_one_sentence_and_exit_code_2(
    photographs: Path, tmp_path: Path, run_rawisp: RunCommand, arguments: list[str], message: str
) -> None:
    done = run_rawisp("synth", photographs, "-o", tmp_path / "nights", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rawisp: ") and done.stderr.count("\n") == 1
    assert message in done.stderr and not (tmp_path / "nights").exists()


def test_impossible_numbers_are_usage_errors(photographs: Path, run_rawisp: RunCommand) -> None:
    for wrong in (["--copies", "0"], ["--scale", "99"], ["--stops", "3"], ["--seed", "-1"]):
        done = run_rawisp("synth", photographs, "-o", "nights", *wrong)
        assert done.returncode == 2 and "Traceback" not in done.stderr


def test_it_never_loads_torch(photographs: Path, tmp_path: Path) -> None:
    import sys

    code = (
        "import sys\n"
        "from rawisp.cli.app import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print('LOADED', 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "synth", photographs, "-o", tmp_path / "nights", "-q"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "LOADED False", done.stderr
