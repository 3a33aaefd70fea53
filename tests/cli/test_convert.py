"""`rawisp convert`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rawisp.isp.registry import create_isp

RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]
# Ours to the published names of TA-ISP.
NAMES = {
    "attention3": "attn.branch_convs.0",
    "attention5": "attn.branch_convs.1",
    "gate": "attn.gate_proj",
}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """TA-ISP's in a detector's checkpoint."""
    state = {"backbone.stem.weight": torch.zeros(4)}
    for name, tensor in create_isp("ta-isp").state_dict().items():
        layer, _, leaf = name.rpartition(".")
        shape = (2, 3, 1, 1) if name == "gate.weight" else tensor.shape
        state[f"backbone.TAISP.{NAMES.get(layer, layer)}.{leaf}"] = tensor.reshape(shape)
    path = tmp_path / "lod.pth"
    torch.save({"state_dict": state}, path)
    return path


def test_it_says_what_it_wrote(weights: Path, tmp_path: Path, run_rawisp: RunCommand) -> None:
    out = tmp_path / "ta.safetensors"
    arguments = ["convert", weights, "-o", out, "--isp", "ta-isp", "--weight-range", "2,4"]
    done = run_rawisp(*arguments)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"{out}: ta-isp for camera input, 16 tensors used, 1 ignored\n"
    done = run_rawisp(*arguments, "--json", "--fit", "none", "--input-color", "xyz")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert (result["path"], result["ignored"]) == (str(out), ["backbone.stem.weight"])
    assert result["found_in"] == "state_dict"
    shown = json.loads(run_rawisp("describe", out, "--json").stdout)
    assert (shown["isp"], shown["fit"], shown["input_color"]) == ("ta-isp", None, "xyz")
    assert (shown["config"]["w_min"], shown["config"]["w_max"]) == (2.0, 4.0)
    assert shown["provenance"]["source"] == "lod.pth"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--isp", "ta-isp"], "give its training's as --weight-range LOW,HIGH"),
        (["--isp", "ta-isp", "--weight-range", "2"], "is not two numbers; write it like 2,4"),
        (["--isp", "ta-isp", "--weight-range", "4,2"], "4,2 is not a range of numbers above 0"),
        (["--isp", "genisp"], "has no ConvWB"),
        (["--isp", "adaptive-isp"], "belongs to AdaptiveISP v1.0"),
        (["--isp", "genisp", "--value", "x.pt"], "--value is for adaptive-isp"),
        (["--isp", "ta-isp", "--weight-range", "2,4", "--fit", "big"], "--fit 'big' is no size"),
    ],
)
def test_errors_are_one_sentence_and_exit_code_2(
    weights: Path, tmp_path: Path, run_rawisp: RunCommand, arguments: list[str], message: str
) -> None:
    done = run_rawisp("convert", weights, "-o", tmp_path / "out.safetensors", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rawisp: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lod.pth"]


def test_unknown_values_are_usage_errors(weights: Path, run_rawisp: RunCommand) -> None:
    for wrong in (["--isp", "diap"], [], ["--isp", "genisp", "--pre-gain", "0"]):
        done = run_rawisp("convert", weights, "-o", "out.safetensors", *wrong)
        assert done.returncode == 2 and "Traceback" not in done.stderr
