"""docs/results.md shows what was measured, and the scripts that measure run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def test_the_page_shows_the_results_as_they_are(repository: Path) -> None:
    check = [sys.executable, "-m", "benchmarks.results_table", "--check"]
    assert subprocess.run(check, cwd=repository).returncode == 0


def test_every_learned_row_says_how_it_was_made(repository: Path) -> None:
    for name in ("streets", "coco_nights", "cameras"):
        result = json.loads((repository / "benchmarks" / "results" / f"{name}.json").read_text())
        assert result["command"].startswith("python -m benchmarks.results_")
        assert {"commit", "machine", "versions", "epochs"} <= set(result)


@pytest.mark.soak
def test_the_scripts_of_streets_and_cameras_run(repository: Path, tmp_path: Path) -> None:
    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=repository,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    twins = str(tmp_path / "twins")
    run("sample_data.twins", twins, "--train", "4", "--val", "2", "--test", "2")
    few = ("--epochs", "1", "--isps", "staged", "--dry-run")
    said = run("benchmarks.results_streets", twins, str(tmp_path / "a"), "--seeds", "1", *few)
    assert "staged 0 " in said
    said = run("benchmarks.results_cameras", twins, str(tmp_path / "b"), *few)
    assert said.count("'trained_on'") >= 4
