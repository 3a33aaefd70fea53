"""Our own checkpoints: what goes in comes out, and nothing else loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rawisp.checkpoint import CheckpointMetadata, load_isp
from rawisp.checkpoint.load import describe_checkpoint
from rawisp.checkpoint.native import rewrite_metadata, save_native
from rawisp.errors import CheckpointError
from rawisp.isp.base import Isp
from rawisp.isp.registry import create_isp

METADATA = CheckpointMetadata(
    name="mine", isp="", input_color="camera", fit=(640, 400), provenance={"seed": 7}
)


def shaken() -> Isp:
    """The same staged ISP each time, its weights away from their start."""
    torch.manual_seed(0)
    isp = create_isp("staged", input_color="camera", exposure_percentile=0.8, sharpening=0.1)
    with torch.no_grad():
        for parameter in isp.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return isp


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    isp = shaken()
    path = tmp_path / "mine.safetensors"
    save_native(isp, str(path), METADATA)
    return path


def test_the_same_picture_comes_out_of_the_file(saved: Path) -> None:
    isp = shaken()
    with torch.no_grad():
        x = torch.rand(1, 3, 30, 40) * 0.02
        loaded = load_isp(saved, device="cpu")
        assert torch.equal(loaded.run(x), isp.eval()(x))
    assert loaded.metadata.fit == (640, 400)
    assert loaded.metadata.provenance == {"seed": 7}
    assert loaded.metadata.config["exposure_percentile"] == 0.8
    image = loaded(np.full((500, 800, 3), 0.01, np.float32))
    assert image.shape == (400, 640, 3)


def test_training_fit_and_default_fit_are_two_facts(saved: Path) -> None:
    _, metadata = describe_checkpoint(saved)
    assert metadata.fit == metadata.training_fit == (640, 400)
    before = load_file(saved)
    rewrite_metadata(str(saved), replace(metadata, fit=(1333, 800)))
    _, metadata = describe_checkpoint(saved)
    assert (metadata.fit, metadata.training_fit) == ((1333, 800), (640, 400))
    after = load_file(saved)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    full = replace(metadata, training_fit=None)
    assert CheckpointMetadata.from_json(full.to_json(), "x").training_fit is None


def test_older_files_tell_their_training_fit_too() -> None:
    def older(**provenance: Any) -> CheckpointMetadata:
        text = replace(METADATA, provenance=provenance).to_json()
        assert "training_fit" not in json.loads(text)
        return CheckpointMetadata.from_json(text, "x")

    assert older().training_fit == (640, 400)
    assert older(trained_at_fit=[400, 300]).training_fit == (400, 300)
    assert older(trained_at_fit=None).training_fit is None


def test_the_file_is_plain_safetensors_with_json(saved: Path) -> None:
    with safe_open(saved, "np") as file:
        metadata = json.loads(file.metadata()["rawisp"])
        assert "color_matrix" in file.keys()  # noqa: SIM118 - no mapping
    assert metadata["format_version"] == 1
    assert metadata["isp"] == "staged"


def test_equal_isps_are_equal_bytes(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    save_native(load_isp(saved, device="cpu").run, str(again), METADATA)  # type: ignore[arg-type]
    assert again.read_bytes() == saved.read_bytes()


def rewritten(saved: Path, metadata: dict[str, object] | None, drop: str = "") -> Path:
    weights = {name: value for name, value in load_file(saved).items() if name != drop}
    text = describe_checkpoint(saved)[0].metadata_json
    assert text is not None
    values = json.loads(text) | (metadata or {})
    save_file(weights, saved, metadata={"rawisp": json.dumps(values)})
    return saved


@pytest.mark.parametrize(
    ("metadata", "drop", "said"),
    [
        ({"isp": "nonesuch"}, "", "no ISP is called 'nonesuch'"),
        ({"config": {"gama": 2}}, "", "staged has no setting 'gama'"),
        ({}, "color_matrix", "do not fit staged"),
        ({"format_version": 2}, "", "format version 2"),
        ({"input_color": "rgb"}, "", "input_color 'rgb'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_sentence(
    saved: Path, metadata: dict[str, object], drop: str, said: str
) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        load_isp(rewritten(saved, metadata, drop))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_file_ends_in_one_sentence_or_works(saved: Path, seed: int) -> None:
    whole = saved.read_bytes()
    rng = np.random.default_rng(seed)
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 12))):
            data[int(rng.integers(min(len(data), 2000)))] = int(rng.integers(256))
        saved.write_bytes(bytes(data[: int(rng.integers(8, len(data) + 1))]))
        try:
            load_isp(saved, device="cpu", input_color=None)
        except CheckpointError as error:
            assert "\n" not in str(error)


def test_an_isp_for_four_channels_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "four.safetensors"
    metadata = CheckpointMetadata("four", "ta-isp", "camera")
    save_native(create_isp("ta-isp", in_channels=4), str(path), metadata)
    with pytest.raises(CheckpointError, match="takes 4 channels, but packed images have 3"):
        load_isp(path)
