"""The door of the converters: what is opened, what is refused, and what is written when."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rawisp.checkpoint import load_isp
from rawisp.checkpoint.convert import Settings, convert_checkpoint
from rawisp.checkpoint.describe import described
from rawisp.checkpoint.torchscript import deprecation_silenced
from rawisp.errors import CheckpointError, UsageError

SHAPES = {
    "gain_mlp.0": (64, 6), "gain_mlp.2": (3, 64), "mask_head": (16, 3, 3, 3),
    "weight_mlp.0": (64, 16), "weight_mlp.2": (16, 64), "attn.branch_convs.0": (1, 2, 3, 3),
    "attn.branch_convs.1": (1, 2, 5, 5), "attn.gate_proj": (2, 3, 1, 1),
}  # fmt: skip
RANGE = Settings(weight_range=(1.0, 3.0))


def state_dict() -> dict[str, torch.Tensor]:
    """TA-ISP's sixteen tensors."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in SHAPES.items():
        state[f"{name}.weight"] = 0.1 * torch.randn(shape, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    return state


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "lod.pth"
    torch.save(state_dict(), path)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "mine.safetensors"


def test_the_checkpoint_says_where_it_comes_from(source: Path, out: Path) -> None:
    result = convert_checkpoint(source, out, "ta-isp", RANGE)
    isp = load_isp(out, device="cpu", safe=True)
    assert result["sha256"] == isp.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    assert (isp.metadata.name, isp.metadata.isp, isp.metadata.fit) == ("mine", "ta-isp", (667, 400))
    assert described(isp)["provenance"] == {
        "source": "lod.pth",
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "found_in": "",
        "layout": "TA-ISP",
        "settings": {"weight_range": [1.0, 3.0]},
        "tensors_used": 16,
        "tensors_ignored": 0,
    }
    assert json.loads(json.dumps(result)) == result
    assert sorted(path.name for path in out.parent.iterdir()) == ["lod.pth", "mine.safetensors"]


def test_color_and_fit_can_be_said(source: Path, out: Path) -> None:
    convert_checkpoint(source, out, "ta-isp", RANGE, input_color="xyz", fit=None)
    metadata = load_isp(out, device="cpu").metadata
    assert (metadata.input_color, metadata.fit) == ("xyz", None)


@pytest.mark.parametrize("kind", ["legacy", "half", "double", "nested"])
def test_other_ways_to_save_tensors(tmp_path: Path, out: Path, kind: str) -> None:
    state: Any = state_dict()
    source = tmp_path / "weights.bin"
    if kind == "half":
        state = {name: tensor.half() for name, tensor in state.items()}
    elif kind == "double":
        state = {name: torch.nn.Parameter(tensor.double()) for name, tensor in state.items()}
    elif kind == "nested":
        ema = {name: tensor + 1 for name, tensor in state.items()}
        state = {"epoch": 1, "model": {"state_dict": state}, "ema": ema}
    torch.save(state, source, _use_new_zipfile_serialization=kind != "legacy")
    result = convert_checkpoint(source, out, "ta-isp", RANGE)
    assert result["found_in"] == ("model.state_dict" if kind == "nested" else "")
    run: Any = load_isp(out, device="cpu").run
    expected = state_dict()["gain_mlp.0.weight"]
    torch.testing.assert_close(run.gain_mlp[0].weight, expected, atol=1e-3, rtol=0)
    assert run.gain_mlp[0].weight.dtype == torch.float32


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("new", [True, False])
def test_pickled_objects_are_refused_and_not_run(tmp_path: Path, out: Path, new: bool) -> None:
    trap = tmp_path / "trap"
    contents = {"model": state_dict(), "args": Evil(trap)}
    torch.save(contents, tmp_path / "evil.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointError) as caught:
        convert_checkpoint(tmp_path / "evil.pt", out, "ta-isp", RANGE)
    assert "holds Python objects besides tensors (" in str(caught.value)
    assert "mkdir" in str(caught.value)
    assert "write torch.save(model.state_dict(), FILE) and convert FILE" in str(caught.value)
    assert not trap.exists()
    assert not out.exists()


def test_a_whole_module_is_refused(tmp_path: Path, out: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match=r"model\.state_dict"):
        convert_checkpoint(tmp_path / "module.pt", out, "ta-isp", RANGE)


def torchscript(path: Path) -> None:
    with deprecation_silenced():
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


def cut_short(path: Path) -> None:
    torch.save(state_dict(), path)
    path.write_bytes(path.read_bytes()[:3000])


def converted_already(path: Path) -> None:
    torch.save(state_dict(), path.with_suffix(".pt"))
    convert_checkpoint(path.with_suffix(".pt"), path, "ta-isp", RANGE)


def cut_safetensors(path: Path) -> None:
    converted_already(path)
    path.write_bytes(path.read_bytes()[:-40])


def dict_in_itself(path: Path) -> None:
    contents: dict[str, Any] = {"weight": 1}
    contents["model"] = contents["other"] = contents
    torch.save(contents, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "there is no such file of weights"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is neither a safetensors file nor"),
        (lambda path: path.write_text("weights, honestly"), "is neither a safetensors file nor"),
        (lambda path: path.write_bytes(b"\x80\x02junk" * 9), "holds Python objects|is damaged"),
        (cut_short, "is damaged or cut short"),
        (cut_safetensors, "is damaged or cut short"),
        (torchscript, "is TorchScript, which rawisp runs as it is"),
        (converted_already, "is rawisp's own already"),
        (dict_in_itself, "holds no tensors by name"),
        (lambda path: torch.save([1, 2], path), "holds no tensors by name"),
        (lambda path: torch.save({"model": {"epoch": 1}}, path), "holds no tensors by name"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, out: Path, write: Callable[[Path], Any], message: str
) -> None:
    source = tmp_path / "weights.safetensors"
    write(source)
    with pytest.raises(CheckpointError, match=message) as caught:
        convert_checkpoint(source, out, "ta-isp", RANGE)
    assert str(caught.value).startswith(f"{source}: ")
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_the_input_is_never_replaced(tmp_path: Path) -> None:
    source = tmp_path / "weights.safetensors"
    torch.save(state_dict(), source)
    linked = tmp_path / "linked.safetensors"
    linked.symlink_to(source)
    before = source.read_bytes()
    for out in (source, linked, tmp_path / "." / "weights.safetensors"):
        with pytest.raises(UsageError, match="would replace the weights that are read"):
            convert_checkpoint(source, out, "ta-isp", RANGE)
    value = tmp_path / "out.value.safetensors"
    value.write_bytes(before)
    settings = Settings(value=str(value))
    with pytest.raises(UsageError, match=r"out\.value\.safetensors: would replace the weights"):
        convert_checkpoint(source, tmp_path / "out.safetensors", "adaptive-isp", settings)
    assert source.read_bytes() == value.read_bytes() == before


def test_an_older_output_stays_until_a_newer_one_is_there(source: Path, out: Path) -> None:
    out.write_text("older")
    with pytest.raises(CheckpointError):
        convert_checkpoint(source, out, "adaptive-isp")
    assert out.read_text() == "older"
    convert_checkpoint(source, out, "ta-isp", RANGE)
    assert load_isp(out, device="cpu").metadata.isp == "ta-isp"


def test_weights_that_make_no_usable_isp_are_not_written(tmp_path: Path, out: Path) -> None:
    state = state_dict()
    state["mask_head.bias"][3] = float("nan")
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(CheckpointError, match=r"nan.pt: mask_head.bias holds NaN or infinite"):
        convert_checkpoint(tmp_path / "nan.pt", out, "ta-isp", RANGE)
    torch.save({name: tensor.to(torch.int8) for name, tensor in state.items()}, tmp_path / "q.pt")
    with pytest.raises(CheckpointError, match=r"attn.branch_convs.0.bias is torch.int8; take"):
        convert_checkpoint(tmp_path / "q.pt", out, "ta-isp", RANGE)
    state["mask_head.bias"][3] = 3e38
    state["mask_head.weight"][3] = 3e38
    torch.save(state, tmp_path / "huge.pt")
    with pytest.raises(CheckpointError, match=r"huge.pt: its weights make no usable ISP, it "):
        convert_checkpoint(tmp_path / "huge.pt", out, "ta-isp", RANGE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["huge.pt", "nan.pt", "q.pt"]


def test_outputs_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"name it \.safetensors"):
        convert_checkpoint(source, tmp_path / "mine.pt", "ta-isp", RANGE)
    with pytest.raises(UsageError, match="cannot be written"):
        convert_checkpoint(source, tmp_path / "no" / "mine.safetensors", "ta-isp", RANGE)
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(UsageError, match=r"folder\.safetensors: is a folder"):
        convert_checkpoint(source, tmp_path / "folder.safetensors", "ta-isp", RANGE)


@pytest.mark.parametrize(
    ("isp", "settings", "message"),
    [
        ("genisp", RANGE, "--weight-range is for ta-isp; leave it away for genisp"),
        ("ta-isp", Settings(preset="capsar"), "--preset is for genisp"),
        ("ta-isp", Settings(value="x.pt"), "--value is for adaptive-isp"),
        ("adaptive-isp", Settings(channels="bgr"), "--channels is for genisp"),
        ("adaptive-isp", Settings(pre_gain=2.0), "--pre-gain is for genisp"),
        ("genisp", Settings(pre_gain=0.0), "--pre-gain 0.0 is not a number above 0"),
        ("genisp", Settings(pre_gain=float("nan")), "--pre-gain nan is not a number above 0"),
        (
            "genisp",
            Settings(preset="delft"),
            "--preset 'delft' is none of paper, capsar, jptolen, revilla",
        ),
        ("genisp", Settings(channels="gbr"), "--channels 'gbr' is none of rgb, bgr"),
        ("diap", Settings(), "only weights of adaptive-isp, genisp, ta-isp can be converted"),
    ],
)
def test_settings_are_checked_before_anything_is_opened(
    tmp_path: Path, out: Path, isp: Any, settings: Settings, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        convert_checkpoint(tmp_path / "missing.pt", out, isp, settings)
