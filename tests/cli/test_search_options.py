"""--exclude and --follow-links mean the same to every verb that searches a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rawisp.cli.app import app


@pytest.fixture
def folder(sample_data: Path, tmp_path: Path) -> Path:
    """Seven photographs, one of them deleted, and seven behind a link to a folder."""
    root = tmp_path / "night"
    shutil.copytree(sample_data / "Nikon", root / "Nikon")
    shutil.copytree(sample_data / "Sony", tmp_path / "store")
    (root / "Sony").symlink_to(tmp_path / "store")
    shutil.copy(sample_data / "annotations.json", root)
    bin_ = root / "$RECYCLE.BIN"
    bin_.mkdir()
    (root / "Nikon" / "DSC_5266.NEF").rename(bin_ / "DSC_5266.NEF")
    return root


def called(folder: Path, verb: str, *options: str) -> tuple[int, str]:
    """How many photographs are taken, and what is said on stderr."""
    out = str(folder.parent / "out")
    more = {
        "pack": ["-o", out, "--dry-run", "--json"],
        "enhance": ["-o", out, "--dry-run", "--json", "--ckpt", "rawpy-default"],
        "info": ["--json"],
        "validate": ["--json"],
    }
    done = CliRunner().invoke(app, [verb, str(folder), *more[verb], *options])
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    count = records[0]["counts"]["photographs"] if verb == "validate" else len(records)
    return count, done.stderr


@pytest.mark.parametrize("verb", ["pack", "enhance", "info", "validate"])
def test_what_is_passed_over_is_said_and_can_be_chosen(folder: Path, verb: str) -> None:
    count, said = called(folder, verb)
    assert count == 6
    assert "$RECYCLE.BIN: holds what was deleted" in said and "1 files there passed over" in said
    assert "Sony is a link, not followed; --follow-links" in said
    patterns = ["--exclude", "DSC_1*", "--exclude", "Sony/DSC02*"]
    count, said = called(folder, verb, "--follow-links", *patterns)
    assert count == 6 + 7 - 5
    assert "--exclude passes over 5 names" in said and "not followed" not in said
