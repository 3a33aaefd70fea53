"""`rawisp eval`: what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rawisp.cli.evaluate_report import in_parts

RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]

GUIDES = '''
import time
from pathlib import Path
import torch
from rawisp.detect import Detections, Guide


class Blind(Guide):
    """Finds nothing, and may take its time over it; knows no bicycles."""

    categories = (None, "person", "car")

    def detect(self, images):
        if self.slow:
            Path(self.slow).touch()
            time.sleep(0.5)
        none = torch.zeros(0)
        return [Detections(torch.zeros(0, 4), none, none.long()) for _ in images]

    def losses(self, images, targets):
        raise AssertionError


def blind(weights, categories):
    guide = Blind()
    guide.slow = weights
    return guide
'''


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def guides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path that holds the module of --detector."""
    folder = tmp_path / "guides"
    folder.mkdir()
    (folder / "night_guides.py").write_text(GUIDES)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def call_eval(
    call_main: RunCommand, sample_data: Path, cache: Path, guides: Path
) -> Callable[..., Any]:
    """call_eval(*options) in this process, on the sample data at 60x40."""

    def call(*options: object, detector: tuple[str, ...] = ("night_guides:blind",)) -> Any:
        fixed = ("--fit", "60x40", "--cache", cache, "--workers", "1", "--device", "cpu")
        return call_main("eval", sample_data, "--detector", *detector, *fixed, *options)

    return call


def test_the_table_goes_to_stdout_and_the_rest_to_stderr(
    call_eval: RunCommand, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    baselines = [part for n in ("demosaic", "rawpy-default") for part in ("--baseline", n)]
    done = call_eval(*baselines, "--ckpt", "classic", "-o", out)
    assert done.returncode == 0, done.stderr
    head, *lines = (re.split(" {2,}", line) for line in done.stdout.splitlines())
    assert head[:8] == [
        "rendering", "AP", "AP50", "±", "AP75", "AR", "AP50 person", "AP50 car",
    ]  # fmt: skip
    assert [line[0] for line in lines] == ["demosaic", "rawpy-default", "classic", "boxes"]
    assert lines[0][1:6] == ["0.000"] * 5
    assert "all renderings at 60x40" in done.stderr
    assert "the detector does not know bicycle; its 15 boxes are left out" in done.stderr
    assert "eval: 14 photographs of night, split all, 65 boxes, at 60x40" in done.stderr
    assert sorted(os.listdir(out)) == ["curves.png", "evaluation.json", "evaluation.md"]
    document = json.loads((out / "evaluation.json").read_text())
    assert document["left_out"] == {"bicycle": 15}
    assert document["provenance"]["detector"] == "night_guides:blind"
    again = call_eval(*baselines, "-o", out)
    assert again.returncode == 2 and "--overwrite" in again.stderr
    assert call_eval(*baselines, "-o", out, "--overwrite", "-q").stderr == ""


def test_json_is_one_object(call_eval: RunCommand) -> None:
    done = call_eval("--baseline", "demosaic", "--json", "--quiet")
    assert done.returncode == 0 and done.stderr == ""
    (line,) = done.stdout.splitlines()
    document = json.loads(line, parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert document["rows"][0]["ap50"] == 0.0
    assert set(document["rows"][0]["by_class"]) == {"person", "car"}


def test_the_exit_code_says_whether_the_goal_is_reached(call_eval: RunCommand) -> None:
    assert call_eval("--baseline", "demosaic", "--fail-under", "0").returncode == 0
    done = call_eval("--baseline", "demosaic", "--fail-under", "0.1")
    assert done.returncode == 1
    assert "AP50 of demosaic is 0.000, under 0.1" in done.stderr


def test_a_built_in_detector_with_settings(call_eval: RunCommand) -> None:
    tiny = ("tiny", "--detector-weights", "random", "--detector-classes", "car, person")
    done = call_eval("--baseline", "demosaic", "--json", detector=tiny)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["left_out"] == {"bicycle": 15}
    done = call_eval("--baseline", "demosaic", "--detector-size", "60x40", detector=tiny)
    assert done.returncode == 2 and "--detector-size is for torchvision's" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "nothing is to be evaluated; name a --ckpt, a --baseline, or both"),
        (["--baseline", "genisp"], "genisp has parameters to learn"),
        (["--ckpt", "no.safetensors"], "there is no such checkpoint"),
        (["--baseline", "demosaic", "--split", "test"], "has no annotated photographs in test"),
        (["--baseline", "demosaic", "--device", "tpu"], "none of auto, cpu, cuda"),
        (["--baseline", "demosaic", "--annotations", "no.json"], "no.json"),
        (["--baseline", "demosaic", "--val", "7"], "--val"),
    ],
)
def test_what_cannot_work_is_one_sentence(
    call_eval: RunCommand, options: list[str], said: str
) -> None:
    done = call_eval(*options, "-q")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("value", ["45", "-1", "x"])
def test_the_goal_is_a_share(call_eval: RunCommand, value: str) -> None:
    assert call_eval("--baseline", "demosaic", f"--fail-under={value}").returncode == 2


def test_a_detector_that_is_not_there(call_eval: RunCommand) -> None:
    for detector in ("nowhere:guide", "night_guides:nobody", "yolo99"):
        done = call_eval("--baseline", "demosaic", detector=(detector,))
        assert done.returncode == 2 and detector in done.stderr and "\n" not in done.stderr[:-1]


def test_an_interrupt_leaves_nothing_half_done(
    rawisp_command: list[str],
    plain_environment: dict[str, str],
    sample_data: Path,
    guides: Path,
    cache: Path,
    tmp_path: Path,
) -> None:
    out, begun = tmp_path / "out", tmp_path / "begun"
    command = [
        *rawisp_command, "eval", sample_data, "--baseline", "demosaic", "--fit", "60x40",
        "--cache", cache, "--detector", "night_guides:blind", "--detector-weights", begun,
        "-o", out,
    ]  # fmt: skip
    process = subprocess.Popen(
        list(map(str, command)),
        env={**plain_environment, "PYTHONPATH": str(guides)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=20)
    assert process.returncode == 130, talk
    assert "interrupted" in talk and "Traceback" not in talk
    assert not out.exists()
    assert len(list(cache.rglob("*.npy"))) == 14


def test_columns_that_do_not_fit_follow_below() -> None:
    lines = [["name", "a", "bb\nccc", "d" * 9], ["x" * 10, "1", "2", "3"]]
    assert list(in_parts(lines, 100)) == [[0, 1, 2, 3]]
    assert list(in_parts(lines, 25)) == [[0, 1, 2], [0, 3]]
    assert list(in_parts(lines, 5)) == [[0, 1], [0, 2], [0, 3]]


def test_the_example_of_the_manual(
    repository: Path, tmp_path: Path, run_rawisp: RunCommand, plain_environment: dict[str, str]
) -> None:
    (tmp_path / "sample_data").symlink_to(repository / "sample_data")
    page = (repository / "docs" / "evaluation.md").read_text()
    commands = re.findall(r"^(rawisp eval .*)$", page, re.MULTILINE)
    assert commands
    environment = {**plain_environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for command in commands:
        done = run_rawisp(*shlex.split(command)[1:], cwd=tmp_path, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr
        assert [line.split()[0] for line in done.stdout.splitlines()] == [
            "rendering", "demosaic", "rawpy-default", "classic", "boxes",
        ]  # fmt: skip
    written = sorted(os.listdir(tmp_path / "night_eval"))
    assert written == ["curves.png", "evaluation.json", "evaluation.md"]
