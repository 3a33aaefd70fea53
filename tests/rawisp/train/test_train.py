"""A whole run on the sample data: what it writes, that it continues, that frozen is frozen."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from rawisp.checkpoint import describe_checkpoint, load_isp
from rawisp.data.augment import AugmentSettings
from rawisp.detect import Guide, weights_hash
from rawisp.errors import CheckpointError, OutputError, TrainingError, UsageError
from rawisp.train import TrainConfig, train
from rawisp.train.events import TrainEvent
from rawisp.train.loop import Trainer

from .conftest import Run


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in found:
        del record["seconds"]  # the one number that differs
    return found


def test_a_run_leaves_what_the_manual_says(small_run: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = small_run(run)
    assert result.epochs == 2
    assert result.checkpoint == str(run / "isp.safetensors")
    for name in ("config.json", "metrics.jsonl", "metrics.csv", "state.pt", "isp.ts"):
        assert (run / name).stat().st_size > 0
    assert not list(run.rglob("*.rawisp-tmp"))
    records = lines(run)
    assert [r["epoch"] for r in records] == [0, 1, 2]
    assert set(records[1]["losses"]) == {"classification", "bbox_regression"}
    for record in records:
        assert set(record["validation"]) >= {"ap", "ap50", "ap75", "ar", "by_class"}
        assert len(record["parameters"]["tone_logits"]) == 16
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["losses.classification"]) == records[1]["losses"]["classification"]
    assert (rows[0]["losses.classification"], rows[0]["learns"]) == ("", "nothing")
    with Image.open(run / "previews" / "epoch_002.jpg") as preview:
        assert preview.size == (150, 100)


def test_the_checkpoint_says_where_it_comes_from_and_renders(
    small_run: Run, tmp_path: Path
) -> None:
    small_run(tmp_path / "mine", epochs=1)
    archive, metadata = describe_checkpoint(tmp_path / "mine" / "isp.safetensors", safe=True)
    assert archive.kind == "safetensors"
    assert (metadata.name, metadata.isp, metadata.fit) == ("mine", "staged", (150, 100))
    about = metadata.provenance
    assert about["data"] == "night"
    assert about["detector"] == "tiny"
    assert about["training"]["seed"] == 0
    assert about["metrics"]["epoch"] == 1
    xyz = np.random.default_rng(0).uniform(0, 0.02, (100, 150, 3)).astype(np.float32)
    native = load_isp(tmp_path / "mine" / "isp.safetensors", device="cpu")
    scripted = load_isp(tmp_path / "mine" / "isp.ts", device="cpu")
    assert np.abs(native(xyz).astype(int) - scripted(xyz)).max() <= 1


def test_learning_lowers_the_loss(small_run: Run, tmp_path: Path) -> None:
    still = AugmentSettings(flip=0, crop=0, exposure_stops=0, illuminant=0)
    small_run(tmp_path / "run", epochs=6, augment=still, lr=3e-2)
    losses = [r["loss"] for r in lines(tmp_path / "run")[1:]]
    assert losses[-1] < losses[0]


class Stop(KeyboardInterrupt):
    """A user's Ctrl-C at a chosen step."""


@pytest.mark.parametrize("at", [(1, 1), (1, 2), (2, 1), (2, 3)])
def test_an_interrupted_run_continues_bit_for_bit(
    at: tuple[int, int], small_run: Run, tmp_path: Path
) -> None:
    def stop(event: TrainEvent) -> None:
        if event.kind == "step" and (event.values["epoch"], event.values["step"]) == at:
            raise Stop

    whole, parts = tmp_path / "a" / "run", tmp_path / "b" / "run"
    small_run(whole, save_every_s=0.0)
    with pytest.raises(Stop):
        small_run(parts, save_every_s=0.0, on_event=stop)
    small_run(parts, save_every_s=0.0, resume=True)
    assert lines(parts) == lines(whole)
    assert (parts / "isp.safetensors").read_bytes() == (whole / "isp.safetensors").read_bytes()


def test_accumulated_halves_are_the_whole_batch(small_run: Run, tmp_path: Path) -> None:
    still = AugmentSettings(flip=0, crop=0, exposure_stops=0, illuminant=0)
    common = {"epochs": 1, "augment": still, "clip_norm": 0.0, "cosine": False}
    small_run(tmp_path / "whole", batch_size=4, optimizer="sgd", lr=1e-3, **common)
    small_run(tmp_path / "halves", batch_size=2, accumulate=2, optimizer="sgd", lr=1e-3, **common)
    a, b = (lines(tmp_path / name)[1] for name in ("whole", "halves"))
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)


def test_a_frozen_detector_stays_bit_for_bit(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guides: list[Guide] = []
    real = Trainer.__init__

    def spy(self: Trainer, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        guides.append(self.guide)

    monkeypatch.setattr(Trainer, "__init__", spy)
    small_run(tmp_path / "run", epochs=1)
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert weights_hash(guides[0]) == state["frozen_hash"]
    assert all(p.grad is None for p in guides[0].parameters())

    def meddle(event: TrainEvent) -> None:
        if event.kind == "step":
            with torch.no_grad():
                next(guides[-1].parameters()).add_(1.0)

    with pytest.raises(AssertionError, match="frozen detector has changed"):
        small_run(tmp_path / "other", epochs=1, on_event=meddle)


def test_the_second_phase_moves_the_detector_too(small_run: Run, tmp_path: Path) -> None:
    small_run(tmp_path / "run", epochs=1, phase2_epochs=1)
    told = [(r["phase"], r["learns"], "detector_lr" in r) for r in lines(tmp_path / "run")]
    assert told == [(0, "nothing", False), (1, "isp", False), (2, "isp+detector", True)]
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert "detector" in state["modules"]


def test_a_second_phase_continues_bit_for_bit(small_run: Run, tmp_path: Path) -> None:
    def stop(event: TrainEvent) -> None:
        if event.kind == "step" and (event.values["epoch"], event.values["step"]) == (2, 2):
            raise Stop

    whole, parts = tmp_path / "a" / "run", tmp_path / "b" / "run"
    phases = {"epochs": 1, "phase2_epochs": 1, "save_every_s": 0.0}
    small_run(whole, **phases)
    with pytest.raises(Stop):
        small_run(parts, on_event=stop, **phases)
    small_run(parts, resume=True, **phases)
    assert lines(parts) == lines(whole)


def test_a_loss_that_is_not_finite_names_the_files(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rawisp.data.prepared import PreparedImage

    real = PreparedImage.load

    def poisoned(self: PreparedImage) -> Any:
        array = real(self)
        return array * np.float32(np.nan) if "DSC01345" in self.source else array

    monkeypatch.setattr(PreparedImage, "load", poisoned)
    with pytest.raises(TrainingError, match=r"not finite in epoch 1, step \d.*DSC01345.ARW;"):
        small_run(tmp_path / "run", val=0.0)


def test_running_out_of_memory_gives_advice_with_numbers(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "_gradients_of", full)
    with pytest.raises(TrainingError, match=r"batches of 4 .*--batch-size 2 --accumulate 2"):
        small_run(tmp_path / "run")


def test_a_folder_with_a_run_is_not_begun_again(small_run: Run, tmp_path: Path) -> None:
    small_run(tmp_path / "run", epochs=1)
    with pytest.raises(OutputError, match="holds a run already; continue it with --resume"):
        small_run(tmp_path / "run", epochs=1)
    with pytest.raises(UsageError, match="begun with another lr, val; leave"):
        small_run(tmp_path / "run", epochs=1, lr=0.5, val=0.4, resume=True)
    with pytest.raises(CheckpointError, match="no run to continue"):
        small_run(tmp_path / "none", resume=True)


def test_a_run_is_continued_with_the_same_photographs_only(
    small_run: Run, tmp_path: Path, sample_data: Path
) -> None:
    small_run(tmp_path / "run", epochs=1)
    fewer = tmp_path / "fewer"
    shutil.copytree(sample_data, fewer)
    document = json.loads((fewer / "annotations.json").read_text())
    document["annotations"] = document["annotations"][:-1]
    (fewer / "annotations.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="begun with other photographs or boxes"):
        train(fewer, tmp_path / "run", cache=tmp_path / "cache", resume=True)


def test_the_day_cannot_teach_where_there_is_none(small_run: Run, tmp_path: Path) -> None:
    for wish in ({"day_weight": 1.0}, {"day_response": 1.0}):
        with pytest.raises(UsageError, match="need nights that rawisp synth made"):
            small_run(tmp_path / "run", **wish)


def test_a_start_must_be_of_the_same_kind(small_run: Run, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="classic, not staged"):
        small_run(tmp_path / "run", start="classic")
    small_run(tmp_path / "first", epochs=1)
    start = str(tmp_path / "first" / "isp.safetensors")
    small_run(tmp_path / "second", epochs=1, start=start)


def test_an_isp_without_parameters_is_refused(small_run: Run, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="classic has no parameters to learn"):
        small_run(tmp_path / "run", isp="classic", isp_config={})


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"batch_size": 0}, {"lr": 0.0}, {"val": 1.0}, {"optimizer": "lion"}):
        with pytest.raises(UsageError):
            TrainConfig(**wrong)  # type: ignore[arg-type]


def test_tensorboard_gets_the_loss_where_it_is_installed(small_run: Run, tmp_path: Path) -> None:
    board = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    small_run(tmp_path / "run", epochs=2)
    events = board.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    told = [event.value for event in events.Scalars("loss")]
    losses = [record["loss"] for record in lines(tmp_path / "run")[1:]]
    assert told == pytest.approx(losses, rel=1e-5)


def test_amp_learns_nearly_the_same(small_run: Run, tmp_path: Path) -> None:
    for name in ("exact", "rounded"):
        small_run(tmp_path / name, epochs=1, amp=name == "rounded")
    exact, rounded = (load_file(tmp_path / n / "isp.safetensors") for n in ("exact", "rounded"))
    for key, tensor in exact.items():
        torch.testing.assert_close(tensor, rounded[key], atol=0.05, rtol=0)
    losses = [lines(tmp_path / name)[1]["loss"] for name in ("exact", "rounded")]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.02)


def test_many_parameters_are_told_as_a_norm_for_each_part(small_run: Run, tmp_path: Path) -> None:
    small_run(tmp_path / "run", isp="staged-unet", epochs=1, val=0.0, previews=0)
    told = lines(tmp_path / "run")[1]["parameters"]
    assert set(told) == {"staged", "half_in", "quarter_in", "eighth", "quarter_out", "half_out"} | {
        "last"
    }
    assert all(isinstance(value, float) and value >= 0.0 for value in told.values())


def test_the_state_of_another_version_is_no_traceback(small_run: Run, tmp_path: Path) -> None:
    small_run(tmp_path / "run", epochs=1)
    path = tmp_path / "run" / "state.pt"
    state = torch.load(path, weights_only=True)
    del state["data_hash"]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"another version, without data_hash\); start the"):
        small_run(tmp_path / "run", epochs=1, resume=True)
