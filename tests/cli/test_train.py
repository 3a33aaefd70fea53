"""`rawisp train` as a command: what goes to stdout and stderr, what is said of mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rawisp.cli.app import app
from rawisp.errors import RawispError


def command(sample_data: Path, out: Path, cache: Path, *more: str) -> list[str]:
    small = ["--detector-weights", "random", "--fit", "60x40", "--epochs", "1", "--device", "cpu"]
    where = ["train", str(sample_data), "-o", str(out), "--cache", str(cache)]
    return [*where, "--isp", "staged", "--detector", "tiny", *small, *more]


def test_numbers_go_to_stdout_and_talk_to_stderr(sample_data: Path, tmp_path: Path) -> None:
    run, cache = tmp_path / "run", tmp_path / "cache"
    done = CliRunner().invoke(app, command(sample_data, run, cache, "--val", "0.3", "--json"))
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    record = json.loads(line)
    assert record["epoch"] == 1 and 0.0 <= record["validation"]["ap50"] <= 1.0
    told = CliRunner().invoke(app, command(sample_data, tmp_path / "b", cache, "--val", "0.3"))
    assert told.exit_code == 0
    assert str(tmp_path / "b") in told.output.replace("\n", "")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--isp", "stagedd"], "no ISP is called 'stagedd'"),
        (["--detector", "tinyy"], "tinyy"),
        (["--isp-config", "gamma"], "not of the form NAME=VALUE"),
        (["--resume", "--epochs", "3"], "no run to continue"),
    ],
)
def test_mistakes_are_one_sentence(
    more: list[str], said: str, sample_data: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, command(sample_data, tmp_path / "r", tmp_path / "c", *more))
    assert isinstance(done.exception, RawispError)
    sentence = str(done.exception)
    assert said in sentence and "\n" not in sentence


def test_a_continued_run_needs_no_settings_and_names_only_those_that_differ(
    sample_data: Path, tmp_path: Path
) -> None:
    run, cache = tmp_path / "run", tmp_path / "cache"
    assert CliRunner().invoke(app, command(sample_data, run, cache)).exit_code == 0
    again = ["train", str(sample_data), "-o", str(run), "--cache", str(cache), "--resume"]
    assert CliRunner().invoke(app, again).exit_code == 0
    assert CliRunner().invoke(app, [*again, "--workers", "1"]).exit_code == 0
    done = CliRunner().invoke(app, [*again, "--lr", "0.5"])
    assert "the run was begun with another lr; leave" in str(done.exception)


def test_photographs_that_fail_are_said_even_when_quiet_and_the_exit_code_is_1(
    sample_data: Path, tmp_path: Path
) -> None:
    """Two empty files of 14: the checkpoint is there, and nobody can believe that it is of 14."""
    data, run = shutil.copytree(sample_data, tmp_path / "night"), tmp_path / "run"
    for path in sorted((data / "Sony").glob("*.ARW"))[:2]:
        path.write_bytes(b"")
    done = CliRunner().invoke(app, command(data, run, tmp_path / "cache", "-q"))
    assert done.exit_code == 1
    (line,) = [text for text in done.stderr.splitlines() if "photographs used" in text]
    assert line.startswith("12 photographs used, 2 left out: Sony/")
    assert (run / "isp.safetensors").exists()
    told = json.loads((run / "config.json").read_text())["photographs"]
    assert told["used"] == 12 and [g["count"] for g in told["left_out"]] == [2]
    (epoch,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert (epoch["photographs"], epoch["left_out"]) == (12, 2)
