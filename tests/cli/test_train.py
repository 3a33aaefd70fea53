"""`rawisp train` as a command: what goes to stdout and stderr, what is said of mistakes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
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
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["epoch"] for record in records] == [0, 1]
    assert all(0.0 <= record["validation"]["ap50"] <= 1.0 for record in records)
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
    done = CliRunner().invoke(app, [*again, "--epochs", "2", "--extended-lr", "constant"])
    assert done.exit_code == 0
    assert "plan: 2 epochs, 1 of them done" in done.stderr
    assert "epoch 2       the ISP alone learns, lr 0.000" in done.stderr
    assert "(constant, as it ended); the detector is frozen" in done.stderr
    done = CliRunner().invoke(app, [*again, "--epochs", "1"])
    assert "--epochs 1 is less than the 2 that the run was begun with" in str(done.exception)


def test_the_plan_comes_first_and_the_last_line_has_the_precision(
    sample_data: Path, tmp_path: Path
) -> None:
    run, cache = tmp_path / "run", tmp_path / "cache"
    more = ["--val", "0.3", "--phase2", "1", "--epochs", "1"]
    done = CliRunner().invoke(app, command(sample_data, run, cache, *more))
    assert done.exit_code == 0, done.output
    said = done.stderr.splitlines()
    assert said[0] == "plan: 2 epochs"
    plan = "\n".join(said[:10])
    for part in (
        "  ISP           staged, 40 parameters, fed xyz",
        "  detector      tiny, weights random",
        "  epoch 1       the ISP alone learns, lr 0.001",
        "  epoch 2       joint: ISP lr 0.0001 (constant) and detector, lr 0.0001, learn together",
        "  optimizer     adam, steps of 8 photographs",
        f"  run folder    {run}",
        f"  cache         {cache}",
    ):
        assert part in plan
    epochs = [line for line in said if line.startswith("epoch ")]
    assert [line.split(":")[0] for line in epochs] == [
        "epoch 0, before learning",
        "epoch 1",
        "epoch 2, joint",
    ]
    assert re.fullmatch(
        r"train: best epoch \d( \(joint\))? of 2: AP 0\.\d{3}, AP50 0\.\d{3} "
        rf"\(before learning 0\.\d{{3}}, 0\.\d{{3}}\) -> {re.escape(str(run))}/isp.safetensors",
        said[-1],
    )
    assert str(run / "detector.safetensors") in said[-2]


def test_a_dry_run_leaves_nothing_and_goes_to_stdout(sample_data: Path, tmp_path: Path) -> None:
    run, cache = tmp_path / "run", tmp_path / "cache"
    for more in ([], ["--json"]):
        wanted = command(sample_data, run, cache, "--val", "0.3", "--dry-run", *more)
        done = CliRunner().invoke(app, wanted)
        assert done.exit_code == 0
        if more:
            plan = json.loads(done.stdout)
            assert plan["training"] + plan["held_out"] == 14
            assert plan["phases"][0]["frozen"] == ["tiny"]
        else:
            assert done.stdout.startswith("plan: 1 epoch\n")
    assert list(tmp_path.iterdir()) == []


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it is an ImportError
from rawisp.cli.app import main
sys.argv = ["rawisp", "train", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{here}/none", "-o", "{here}/r"], 2, "none: is no folder"),
        (["{here}/empty", "-o", "{here}/r"], 3, "empty: holds no camera RAW files"),
        (["{data}", "-o", "{here}/r", "--fit", "12"], 2, "--fit '12' is no size"),
        (["{data}", "-o", "{here}/r", "--start", "no.safetensors"], 2, "there is no such checkp"),
        (["{data}", "-o", "{here}/r", "--detector-weights", "w.pth"], 2, "no such file of weights"),
        (["{data}", "-o", "{here}/file/r"], 2, "file/r: the run's folder cannot be written"),
        (
            ["{data}", "-o", "{here}/r", "--cache", "{here}/file/c"],
            2,
            "file/c: the cache of packed images cannot be written (Not a directory); name another "
            "folder with --cache",
        ),
    ],
)
def test_mistakes_in_paths_are_told_before_torch_is_imported(
    arguments: list[str], code: int, said: str, sample_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    given = [one.format(here=tmp_path, data=sample_data) for one in arguments]
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_TORCH, *given],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_recipes_are_described_setting_by_setting() -> None:
    done = CliRunner().invoke(app, ["describe", "--recipe", "ta-isp"])
    assert done.exit_code == 0
    rows = {line[2:].split()[0]: line for line in done.stdout.splitlines()[1:]}
    assert rows["weight_decay"].split()[1] == "0.0001" and rows["weight_decay"][0] == " "
    assert rows["detector"].startswith("* ") and "frozen" in rows["detector"]
    done = CliRunner().invoke(app, ["describe", "--recipe", "staged", "--json"])
    settings = {one["name"]: one for one in json.loads(done.stdout)["settings"]}
    assert settings["phase2_detector_lr"]["follows"] is False
    for wrong, said in (
        (["--recipe", "soup"], "no recipe is called 'soup'; there are genisp, ta-isp"),
        (["night", "--recipe", "genisp"], "not both"),
        ([], "name a checkpoint, or a recipe"),
    ):
        assert said in str(CliRunner().invoke(app, ["describe", *wrong]).exception)


def test_a_file_that_is_refused_is_named_and_not_taken_for_stdout(
    call_main: Callable[..., subprocess.CompletedProcess[str]],
    sample_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", "/the/cache")

    monkeypatch.setattr("rawisp.train.run.train", refuse)
    done = call_main("train", sample_data, "-o", tmp_path / "r", "--cache", tmp_path / "c")
    assert done.returncode == 2
    sentence = "rawisp: /the/cache: cannot be used (Read-only file system); choose a place"
    assert done.stderr.startswith(sentence) and done.stderr.count("\n") == 1


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
    for epoch in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        assert (epoch["photographs"], epoch["left_out"]) == (12, 2)


def test_the_tables_rows_say_what_learns() -> None:
    from rawisp.cli.train_report import TrainReporter, epoch_cells
    from rawisp.train.events import TrainEvent

    validation = {"validation": {"ap": 0.25, "ap50": 0.5}}
    before = {"epoch": 0, "phase": 0, "lr": 0.0, "losses": {}, "seconds": 1.0, **validation}
    alone = {**before, "epoch": 1, "phase": 1, "lr": 0.01, "losses": {"a": 2.0}}
    joint = {**alone, "epoch": 2, "phase": 2}
    assert epoch_cells(before, ["a"]) == ["0", "nothing", "-", "-", "0.250", "0.500"]
    assert epoch_cells(alone, ["a"]) == ["1", "ISP", "1.0e-02", "2.000", "0.250", "0.500"]
    assert epoch_cells(joint, ["a"])[:2] == ["2", "joint"]
    reporter = TrainReporter(as_json=False, quiet=True)
    for record in (before, alone, joint):
        reporter(TrainEvent("epoch", values=record))
    table = reporter._table()
    assert [column.header for column in table.columns][:4] == ["epoch", "learns", "lr", "a"]
    assert table.row_count == 3


def test_when_every_photograph_fails_the_exit_code_is_1(sample_data: Path, tmp_path: Path) -> None:
    data = shutil.copytree(sample_data, tmp_path / "night")
    for path in [*data.rglob("*.ARW"), *data.rglob("*.NEF")]:
        path.write_bytes(b"II*\0")
    done = CliRunner().invoke(app, command(data, tmp_path / "run", tmp_path / "cache"))
    assert isinstance(done.exception, RawispError) and done.exception.exit_code == 1
    assert "none of its photographs can be trained on (14 failed)" in str(done.exception)
    assert "0 photographs used, 14 left out" in done.stderr


def test_a_url_in_a_file_of_settings_is_refused(sample_data: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('start = "s3://bucket/isp.safetensors"\n')
    wanted = command(sample_data, tmp_path / "run", tmp_path / "cache")
    done = CliRunner().invoke(app, [*wanted, "--config", str(tmp_path / "settings.toml")])
    assert "start s3://bucket/isp.safetensors: is a URL" in str(done.exception)
