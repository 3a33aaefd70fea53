"""Values and checkpoints that cannot work: exit code 2, one sentence, never a traceback."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rawisp.batch import pack_folder
from rawisp.checkpoint import load_isp
from rawisp.errors import CheckpointError, UsageError

RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]

LEVELS = ["", "x", "1,2", "1,2,3,4,5", "nan", "inf", "1,,3,4", "0x10"]
BAD_VALUES = {
    "--fit": ["", "0x0", "-5x5", "1333", "axb", "10x10x10", "\u00b2x3", "1.5x2", "x", "10x",
              "1e3x1"],
    "--matrix": ["", "x", "1,2,3", "0 0 0 0 0 0 0 0 0", "nan " * 9, "inf " * 9,
                 "10315 -4390 -937 -4859 12734 2365 -734 1537 5997", "1 1 1 1 1 1 1 1 1"],
    "--black": LEVELS,
    "--white": LEVELS,
}  # fmt: skip


@pytest.mark.parametrize(("option", "value"), [(o, v) for o, vs in BAD_VALUES.items() for v in vs])
def test_a_bad_value_is_a_sentence(
    photos: Path, tmp_path: Path, call_main: RunCommand, option: str, value: str
) -> None:
    verb = "enhance" if option == "--fit" else "pack"
    done = call_main(verb, photos, "-o", tmp_path / "out", f"{option}={value}")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and option.strip("-") in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


BAD_CHOICES = [
    ("pack", "--format", "png"),
    ("pack", "--dtype", "int8"),
    ("pack", "--color", "rgb"),
    ("pack", "--orient", "left"),
    ("pack", "--workers", "0"),
    ("pack", "--workers", "-j"),
    ("pack", "--max-errors", "0"),
    ("pack", "--timeout", "0"),
    ("pack", "--timeout", "nan"),
    ("pack", "--max-megapixels", "nan"),
    ("pack", "--max-megapixels", "-1"),
    ("enhance", "--format", "npy"),
    ("enhance", "--annotation-frame", "jpeg"),
    ("enhance", "--input-color", "srgb"),
    ("info", "--workers", "0"),
]


@pytest.mark.parametrize(("verb", "option", "value"), BAD_CHOICES)
def test_a_bad_choice_is_a_usage_error(
    photos: Path, tmp_path: Path, call_main: RunCommand, verb: str, option: str, value: str
) -> None:
    out = [] if verb == "info" else ["-o", tmp_path / "out"]
    done = call_main(verb, photos, *out, f"{option}={value}")
    assert done.returncode == 2, done.stderr
    assert option in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


URLS = [
    ("pack", ["s3://bucket/in", "-o", "OUT"]),
    ("pack", ["a.ARW", "gs://bucket/in", "-o", "OUT"]),
    ("pack", ["a.ARW", "-o", "s3://bucket/out"]),
    ("enhance", ["a.ARW", "--out=S3://bucket/out"]),
    ("enhance", ["a.ARW", "-o", "OUT", "--annotations", "https://example.org/a.json"]),
    ("enhance", ["a.ARW", "-o", "OUT", "--ckpt", "hf://me/night"]),
    ("synth", ["file:///photos", "-o", "OUT"]),
    ("info", ["http://example.org/a.ARW"]),
    ("train", ["abfs+x://data", "-o", "OUT"]),
    ("train", ["data", "-o", "az://run"]),
    ("train", ["data", "-o", "OUT", "--cache", "s3://cache"]),
    ("eval", ["s3://data", "--ckpt", "night"]),
    ("validate", ["data", "--overlays", "sftp://host/look"]),
    ("describe", ["https://example.org/isp.safetensors"]),
    ("export", ["isp.safetensors", "-o", "s3://bucket/isp.ts"]),
    ("convert", ["x.pth", "-o", "o.safetensors", "--isp", "genisp", "--value", "s3://b/v.pth"]),
]


@pytest.mark.parametrize(("verb", "arguments"), URLS)
def test_a_url_is_refused_and_makes_no_folder(
    tmp_path: Path, call_main: RunCommand, monkeypatch: pytest.MonkeyPatch, verb: str,
    arguments: list[str],
) -> None:  # fmt: skip
    """As a path it would be a folder called `s3:`."""
    monkeypatch.chdir(tmp_path)
    (url,) = (argument for argument in arguments if "://" in argument)
    done = call_main(verb, *arguments)
    check_refused(done, url.removeprefix("--out="), "is a URL")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("which", ["source", "out"])
def test_the_library_refuses_urls_too(tmp_path: Path, which: str) -> None:
    given = {"source": tmp_path, "out": tmp_path / "out", which: "s3://bucket/x"}
    with pytest.raises(UsageError, match=r"s3://bucket/x: is a URL"):
        pack_folder(given["source"], given["out"])


def test_a_name_with_a_colon_is_no_url(
    photos: Path, tmp_path: Path, call_main: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call_main("pack", photos / "0.ARW", "-o", "18:30/x:y").returncode == 0
    assert (tmp_path / "18:30" / "x:y" / "0.npy").exists()


def test_levels_the_wrong_way_round_say_what_to_do(
    photos: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    given = ["--black", "900", "--white", "800"]
    done = run_rawisp("pack", photos / "0.ARW", "-o", tmp_path / "out", *given)
    assert done.returncode in (1, 2) and "--black" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_a_device_that_is_not_there_is_a_sentence(
    photos: Path, tmp_path: Path, run_rawisp: RunCommand, device: str
) -> None:
    """No silent fall back to the processor."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = run_rawisp(
        "enhance", photos, "-o", tmp_path / "out", "--device", device, env=environment
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and device in done.stderr
    assert list((tmp_path / "out").glob("*.png")) == []


def zip_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0\0\0\0"


def metadata(**changes: Any) -> str:
    values = {
        "format_version": 1, "name": "mine", "isp": "staged", "input_color": "xyz",
        "normalisation": "black-white", "fit": [1333, 800], "config": {}, "provenance": {},
    }  # fmt: skip
    return json.dumps({**values, **changes})


# name -> (code of forward, metadata or None)
MODULES: dict[str, tuple[str, str | None]] = {
    "identity": ("return x", None),
    "known": ("return x", metadata()),
    "not a number": ("return x / (x - x)", None),
    "smaller": ("return x[:, :, 1:, 1:]", None),
    "one channel": ("return x[:, :1]", None),
    "whole numbers": ("return x.long()", None),
    "a tuple": ("return x, x", None),
    "raises": ("assert x.shape[2] == 1, 'only one line'\n        return x", None),
    "needs two inputs": ("return x", None),
    "newer metadata": ("return x", metadata(format_version=2)),
    "odd color": ("return x", metadata(input_color="lab")),
    "odd fit": ("return x", metadata(fit=[0, -1])),
    "fit is text": ("return x", metadata(fit="big")),
    "metadata is a list": ("return x", "[]"),
    "metadata is no JSON": ("return x", "{"),
    "metadata lacks a name": ("return x", json.dumps({"format_version": 1})),
}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of TorchScript files, one for each of MODULES."""
    import torch

    from rawisp.checkpoint.torchscript import deprecation_silenced

    folder = tmp_path_factory.mktemp("modules")
    source = "import torch\nfrom typing import Tuple\n"
    for number, (name, (body, _)) in enumerate(MODULES.items()):
        inputs = "x: torch.Tensor" + (", z: torch.Tensor" if name == "needs two inputs" else "")
        returned = "Tuple[torch.Tensor, torch.Tensor]" if name == "a tuple" else "torch.Tensor"
        source += f"\n\nclass Module{number}(torch.nn.Module):\n"
        source += f"    def forward(self, {inputs}) -> {returned}:\n        {body}\n"
    (folder / "foreign.py").write_text(source)
    spec = importlib.util.spec_from_file_location("foreign", folder / "foreign.py")
    assert spec is not None and spec.loader is not None
    foreign = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(foreign)
    for number, (name, (_, text)) in enumerate(MODULES.items()):
        extra = {} if text is None else {"rawisp.json": text}
        with deprecation_silenced():
            scripted = torch.jit.script(getattr(foreign, f"Module{number}")().eval())
            torch.jit.save(scripted, str(folder / f"{name}.ts"), _extra_files=extra)
    return folder


def check_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    # A file that is a program is announced before it is loaded.
    said = [line for line in done.stderr.splitlines() if "is a program" not in line]
    assert len(said) == 1 and "Traceback" not in done.stderr, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "text": (b"hello, this is no model\n" * 9, "no checkpoint"),
    "pickle": (pickle.dumps({"w": [1.0]}), "pickle"),
    "old pickle": (pickle.dumps({"w": [1.0]}, protocol=0), "no checkpoint"),
    "safetensors": (safetensors(), "safetensors"),
    "zip of photos": (zip_of(a__photo=b"x"), "no TorchScript"),
    "weights": (zip_of(archive__data__pkl=b"x", **{"archive__data.pkl": b"\x80\x02."}), "pickle"),
    "export": (zip_of(model__archive_format=b"pt2"), "does not say what input"),
    "aoti": (zip_of(model__data__aotinductor__x=b"x"), "AOTInductor"),
    "zip without end": (zip_of(a=b"x" * 1000)[:500], "damaged or cut short"),
    "ONNX": (b"\x08\x07\x12\x07pytorch" + b"\0" * 50, "no checkpoint"),
    "JPEG": (b"\xff\xd8\xff\xe0" + b"\0" * 50, "no checkpoint"),
    "zeros": (bytes(100_000), "no checkpoint"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_is_no_checkpoint_is_named(
    photos: Path, tmp_path: Path, call_main: RunCommand, kind: str
) -> None:
    data, words = BAD_FILES[kind]
    (tmp_path / "model.ts").write_bytes(data)
    done = call_main("enhance", photos, "-o", tmp_path / "out", "--ckpt", tmp_path / "model.ts")
    check_refused(done, "model.ts", words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["nosuch", "/nowhere/x.ts", ".", "", "classic.ts", "x\ny"])
def test_a_checkpoint_that_is_not_there(
    photos: Path, tmp_path: Path, call_main: RunCommand, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call_main("enhance", photos, "-o", tmp_path / "out", f"--ckpt={value}")
    check_refused(done)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_truncated_checkpoint_is_damaged(
    photos: Path, tmp_path: Path, call_main: RunCommand, modules: Path, share: float
) -> None:
    data = (modules / "known.ts").read_bytes()
    (tmp_path / "cut.ts").write_bytes(data[: int(share * len(data))])
    done = call_main("enhance", photos, "-o", tmp_path / "out", "--ckpt", tmp_path / "cut.ts")
    check_refused(done, "cut.ts", "damaged")


@pytest.mark.parametrize(
    "name", [name for name, (_, text) in MODULES.items() if text and name != "known"]
)
def test_metadata_that_cannot_be_used_is_named(
    photos: Path, tmp_path: Path, call_main: RunCommand, modules: Path, name: str
) -> None:
    done = call_main("enhance", photos, "-o", tmp_path / "out", "--ckpt", modules / f"{name}.ts")
    check_refused(done, "metadata is not usable")


def test_a_foreign_checkpoint_needs_its_input_color(
    photos: Path, tmp_path: Path, run_rawisp: RunCommand, modules: Path
) -> None:
    arguments = ["enhance", photos, "-o", tmp_path / "out", "--ckpt", modules / "identity.ts"]
    check_refused(run_rawisp(*arguments), "--input-color")
    done = run_rawisp(*arguments, "--input-color", "camera", "--json")
    assert done.returncode == 0, done.stderr
    for record in map(json.loads, done.stdout.splitlines()):
        assert record["settings"]["color"] == "camera"
        assert record["checkpoint"]["name"] == "identity"


def test_an_input_color_that_contradicts_the_checkpoint_is_refused(
    photos: Path, tmp_path: Path, call_main: RunCommand, modules: Path
) -> None:
    arguments = ["--ckpt", modules / "known.ts", "--input-color", "camera"]
    check_refused(call_main("enhance", photos, "-o", tmp_path / "out", *arguments), "xyz")


UNFIT = {
    "not a number": "NaN",
    "smaller": "shape",
    "one channel": "shape",
    "whole numbers": "int64",
    "a tuple": "tuple",
    "raises": "only one line",
    "needs two inputs": "z",
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_module_that_is_no_isp_is_refused_when_loaded(modules: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=UNFIT[name]) as caught:
        load_isp(modules / f"{name}.ts", device="cpu", input_color="xyz")
    assert f"{name}.ts" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["not a number", "smaller"])
def test_a_module_that_is_no_isp_is_refused_before_any_picture(
    photos: Path, tmp_path: Path, run_rawisp: RunCommand, modules: Path, name: str
) -> None:
    arguments = ["--ckpt", modules / f"{name}.ts", "--input-color", "xyz"]
    done = run_rawisp("enhance", photos, "-o", tmp_path / "out", *arguments)
    check_refused(done, f"{name}.ts", UNFIT[name])
    assert list((tmp_path / "out").glob("*.png")) == []
