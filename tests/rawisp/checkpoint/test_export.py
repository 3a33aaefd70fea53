"""Exported files run like the original, and `describe` and `list` say what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rawisp.checkpoint import CheckpointMetadata, load_isp, save_native
from rawisp.checkpoint.describe import described, predicted_for_raw
from rawisp.checkpoint.export import export_checkpoint
from rawisp.cli.app import app
from rawisp.errors import CheckpointError, UsageError
from rawisp.isp.registry import create_isp


@pytest.fixture
def native(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    isp = create_isp("staged", exposure_percentile=0.75, grey_world=True, sharpening=0.2)
    with torch.no_grad():
        for parameter in isp.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    path = tmp_path / "native.safetensors"
    save_native(isp, str(path), CheckpointMetadata("native", "", "xyz", fit=(320, 240)))
    return path


@pytest.mark.parametrize("suffix", [".ts", ".pt2"])
def test_an_exported_file_renders_the_same_picture(native: Path, suffix: str) -> None:
    out = native.with_suffix(suffix)
    result = export_checkpoint(native, out)
    assert result["largest_difference"] < 1e-5
    xyz = np.random.default_rng(0).uniform(0, 0.02, (123, 211, 3)).astype(np.float32)
    original, loaded = load_isp(native, device="cpu"), load_isp(out, device="cpu")
    assert loaded.metadata == original.metadata
    assert np.abs(loaded(xyz).astype(int) - original(xyz).astype(int)).max() <= 1
    assert not list(native.parent.glob("*.rawisp-tmp"))


def test_what_cannot_be_exported_says_why(native: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"name it \.ts, \.pt2 or \.onnx, or say --to"):
        export_checkpoint(native, tmp_path / "isp.pb")
    export_checkpoint(native, tmp_path / "isp.ts")
    with pytest.raises(CheckpointError, match="is torchscript already"):
        export_checkpoint(tmp_path / "isp.ts", tmp_path / "isp.pt2")
    with pytest.raises(UsageError, match="cannot be written"):
        export_checkpoint(native, tmp_path / "no" / "isp.ts")


def test_safe_and_hash_are_enforced_before_anything_is_opened(native: Path) -> None:
    script = native.with_suffix(".ts")
    export_checkpoint(native, script)
    assert load_isp(native, device="cpu", safe=True).metadata.name == "native"
    with pytest.raises(CheckpointError, match="--safe accepts only rawisp's safetensors"):
        load_isp(script, safe=True)
    good = load_isp(script, device="cpu").sha256
    assert load_isp(script, device="cpu", expect_sha256=good.upper()).sha256 == good
    with pytest.raises(CheckpointError, match=f"its sha256 is {good}, not 00ff"):
        load_isp(script, expect_sha256="00ff")


def test_a_description_has_the_numbers(native: Path, sample_data: Path) -> None:
    isp = load_isp(native, device="cpu")
    result = json.loads(json.dumps(described(isp)))
    assert (result["kind"], result["isp"], result["parameters"]) == ("safetensors", "staged", 40)
    # A 3x3 depthwise blur of three channels, 27 a pixel, and the 3x3 matrix, 9.
    assert result["macs_at_640x640"] == pytest.approx(36 * 640 * 640, rel=0.02)
    raw = sample_data / "Sony" / "DSC01316.ARW"
    gains = predicted_for_raw(isp, str(raw))["gain"]
    assert len(gains) == 3
    assert all(gain > 1 for gain in gains)


def test_the_commands_print_it(native: Path, tmp_path: Path, sample_data: Path) -> None:
    run = CliRunner().invoke
    listed = run(app, ["list", "isps", "--json"])
    assert "staged" in [json.loads(line)["name"] for line in listed.output.splitlines()]
    assert run(app, ["list", "checkpoints"]).output.startswith("night")
    raw = str(sample_data / "Nikon" / "DSC_1203.NEF")
    shown = json.loads(run(app, ["describe", str(native), raw, "--json"]).output)
    assert shown["name"] == "native"
    assert len(shown["predicted"]["gain"]) == 3
    out = tmp_path / "again.ts"
    written = json.loads(run(app, ["export", str(native), "-o", str(out), "--json"]).output)
    assert written["to"] == "torchscript"
    assert out.exists()


# adaptive-isp branches, see below; mw-ispnet has 36 MB and takes half a minute.
SMALL = {
    "classic": {},
    "rawpy-default": {},
    "staged": {},
    "staged-unet": {},
    "film-unet": {},
    "genisp": {},
    "ta-isp": {},
    "diap": {},
    "raw-adapter": {},
    "simrod": {},
    "invisp": {"steps": 1},
}


# film-unet is made of the same parts.
LONG = {"staged-unet": pytest.mark.soak}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LONG[name]) if name in LONG else name for name in SMALL]
)
@pytest.mark.parametrize("suffix", [".ts", ".pt2", ".onnx"])
def test_every_isp_is_exported_to_every_format(name: str, suffix: str, tmp_path: Path) -> None:
    old = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 15)
    if name in ("staged-unet", "film-unet") and (suffix == ".pt2" or (old and suffix == ".onnx")):
        pytest.skip("torch.export cannot prove that its padded sizes fit")
    torch.manual_seed(0)
    path = tmp_path / f"{name}.safetensors"
    save_native(create_isp(name, **SMALL[name]), str(path), CheckpointMetadata(name, "", "xyz"))
    result = export_checkpoint(path, tmp_path / f"out{suffix}")
    assert result["largest_difference"] < 4e-5
    assert b"site-packages" not in (tmp_path / f"out{suffix}").read_bytes()


def test_an_isp_that_branches_is_exported_to_torchscript_only(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_native(create_isp("adaptive-isp", steps=1), str(path), CheckpointMetadata("a", "", "xyz"))
    for suffix, kind in ((".pt2", "pt2"), (".onnx", "onnx")):
        with pytest.raises(CheckpointError, match=f"which a {kind} file cannot hold"):
            export_checkpoint(path, tmp_path / f"a{suffix}")
    assert export_checkpoint(path, tmp_path / "a.ts")["largest_difference"] < 1e-5


def test_an_onnx_file_says_what_it_is_and_takes_any_size(native: Path, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    out = tmp_path / "isp.onnx"
    export_checkpoint(native, out)
    properties = {p.key: p.value for p in onnx.load(str(out)).metadata_props}
    metadata = CheckpointMetadata.from_json(properties["rawisp"], "isp.onnx")
    original = load_isp(native, device="cpu")
    assert metadata == original.metadata
    session = onnxruntime.InferenceSession(str(out))
    x = torch.rand(1, 3, 75, 131) * 0.02
    (y,) = session.run(["rendered_image"], {"raw_image": x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(y), original.run(x), atol=1e-5, rtol=0)


def test_without_the_extra_onnx_says_how_to_get_it(
    native: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"pip install .*'onnxruntime>="):
        export_checkpoint(native, tmp_path / "isp.onnx")
    assert not (tmp_path / "isp.onnx").exists()


@pytest.mark.parametrize("options", [{}, {"opset": 17}, {"opset": 17, "half": True}])
def test_an_onnx_file_for_a_device_has_opset_batch_and_precision(
    options: dict[str, Any], native: Path, tmp_path: Path
) -> None:
    import onnx
    import onnxruntime

    out = tmp_path / "isp.onnx"
    result = export_checkpoint(native, out, dynamic_batch=True, **options)
    assert result["largest_difference"] < (4 / 255 if options.get("half") else 4e-5)
    model = onnx.load(str(out))
    if "opset" in options:
        assert [o.version for o in model.opset_import if o.domain == ""] == [17]
    (given,), (made,) = model.graph.input, model.graph.output
    for value in (given, made):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert all(d.dim_param for n, d in enumerate(value.type.tensor_type.shape.dim) if n != 1)
    kinds = {t.data_type for t in model.graph.initializer if len(t.dims) > 0}
    assert (onnx.TensorProto.FLOAT16 in kinds) == bool(options.get("half"))
    assert {p.key for p in model.metadata_props} == {"rawisp"}
    session = onnxruntime.InferenceSession(str(out))
    original = load_isp(native, device="cpu")
    x = torch.rand(3, 3, 75, 131) * 0.02
    x[1] *= 0.1  # each image has its own exposure
    (y,) = session.run(["rendered_image"], {"raw_image": x.numpy()})
    with torch.no_grad():
        each = torch.cat([original.run(one[None]) for one in x])
    torch.testing.assert_close(torch.from_numpy(y), each, atol=4 / 255, rtol=0)


def test_without_dynamic_batch_the_file_takes_one_image(native: Path, tmp_path: Path) -> None:
    import onnx

    export_checkpoint(native, tmp_path / "isp.onnx")
    shape = onnx.load(str(tmp_path / "isp.onnx")).graph.input[0].type.tensor_type.shape
    assert shape.dim[0].dim_value == 1


@pytest.mark.parametrize("options", [{"opset": 17}, {"dynamic_batch": True}, {"half": True}])
def test_onnxs_options_are_refused_elsewhere(
    options: dict[str, Any], native: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="are for ONNX, not for torchscript"):
        export_checkpoint(native, tmp_path / "isp.ts", **options)
    with pytest.raises(UsageError, match="opset 9 cannot be written; 17 to 23 can"):
        export_checkpoint(native, tmp_path / "isp.onnx", opset=9)


def test_what_exporters_say_stays_inside(
    native: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The suite makes warnings errors, so one that came out would fail the export."""
    import logging
    import warnings

    from rawisp.checkpoint import torchscript

    save = torchscript.save_module

    def talkative(*arguments: Any) -> None:
        warnings.warn("torch.something is deprecated", FutureWarning, stacklevel=1)
        logging.getLogger("torch.something").warning("leaked")
        save(*arguments)

    monkeypatch.setattr(torchscript, "save_module", talkative)
    answer = CliRunner().invoke(app, ["export", str(native), "-o", str(tmp_path / "isp.ts")])
    assert answer.exit_code == 0, answer.output
    out, err = capfd.readouterr()
    assert "leaked" not in out + err + answer.output
    assert "deprecated" not in out + err + answer.output
    assert logging.root.manager.disable == logging.NOTSET
