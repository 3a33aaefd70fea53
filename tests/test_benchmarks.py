"""Benchmarks run dry, so that they cannot rot; timing decides nothing here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "name", ["pack_kernel", "pack_folder", "start_up", "stages_kernel", "train_speed"]
)
def test_a_dry_run_measures_and_writes_nothing(name: str, repository: Path) -> None:
    results = repository / "benchmarks" / "results"
    before = {p: p.read_bytes() for p in results.glob("*")}
    answer = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--dry-run"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(answer.stdout)
    assert report["benchmark"] == name
    assert report["machine"]["cores"] >= 1
    assert all(t["median_ms"] > 0 for t in report["times"].values())
    assert {p: p.read_bytes() for p in results.glob("*")} == before
