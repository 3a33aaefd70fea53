"""The detector that learns along in joint epochs: saved, named, and missed when it is not there."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rawisp.checkpoint import describe_checkpoint
from rawisp.detect import Guide, create_guide, weights_hash
from rawisp.detect.settings import GuideSettings
from rawisp.evaluation import evaluate
from rawisp.evaluation.renderings import partner_of
from rawisp.evaluation.run import evaluate_rendering
from rawisp.train.judge import Judge
from rawisp.train.loop import Trainer

from .conftest import Run
from .test_train import lines


@pytest.fixture
def own_detector(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """tiny from a factory of the user's own."""

    def build(weights: str | None, categories: Any) -> Guide:
        return create_guide("tiny", weights, categories=categories)

    module = types.ModuleType("own_tiny")
    module.build = build  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_tiny", module)
    yield "own_tiny:build"


def partner(checkpoint: Path) -> dict[str, Any] | None:
    _, metadata = describe_checkpoint(checkpoint, safe=True)
    return partner_of(str(checkpoint), metadata)


def planted(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Epochs are judged as these, one after the other, whatever they have learned."""
    left = list(values)
    real = Judge._look

    def look(self: Judge, record: dict[str, Any]) -> None:
        real(self, record)
        if record["epoch"]:
            record["validation"]["ap50"] = left.pop(0)

    monkeypatch.setattr(Judge, "_look", look)


@pytest.mark.parametrize("own", [False, True])
def test_validation_is_found_again_by_eval_with_the_partner_and_missed_without(
    own: bool, own_detector: str, small_run: Run, sample_data: Path, cache: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    detector = own_detector if own else "tiny"
    settings = {"detector": detector, "phase2_detector_lr": 1e-3, "detector_weights": None}
    result = small_run(run, epochs=1, phase2_epochs=2, **settings)
    checkpoint = run / "isp_joint.safetensors"
    found = partner(checkpoint)
    assert found is not None and found["file"] == result.partner == str(
        run / "detector.safetensors"
    )
    assert found["detector"] == detector
    _, metadata = describe_checkpoint(checkpoint)
    epoch = metadata.provenance["metrics"]["epoch"]
    assert result.joint == (result.best_epoch == epoch)
    assert result.after["ap50"] == max(r["validation"]["ap50"] for r in lines(run)[1:])
    validated = lines(run)[epoch]["validation"]

    def measured(weights: str | None) -> Any:
        guide = GuideSettings(detector, weights)
        return evaluate(
            sample_data, str(checkpoint), guide, split="val", val=0.3, cache=cache, device="cpu"
        )

    with_it, without = measured(found["file"]), measured(None)
    assert with_it.rows[0].precision.ap == pytest.approx(validated["ap"], abs=1e-6)
    assert with_it.rows[0].precision.ap50 == pytest.approx(validated["ap50"], abs=1e-6)
    assert not any("together with its detector" in note for note in with_it.notes)
    assert without.rows[0].precision.ap != pytest.approx(validated["ap"], abs=1e-3)
    (warning,) = [note for note in without.notes if "together with its detector" in note]
    assert f"--detector {detector} --detector-weights {found['file']}" in warning


def test_the_partner_is_saved_when_phase_1_held_the_best_epoch_too(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, 0.9, 0.2, 0.5, 0.3)
    run = tmp_path / "run"
    hashes: list[str] = []
    real = Judge.after

    def after(self: Judge, record: dict[str, Any], position: Any) -> None:
        hashes.append(weights_hash(self.guide))
        real(self, record, position)

    monkeypatch.setattr(Judge, "after", after)
    result = small_run(run, epochs=1, phase2_epochs=3)
    assert (result.best_epoch, result.joint) == (1, False)
    assert partner(run / "isp.safetensors") is None  # it goes with the detector as it was
    found = partner(run / "isp_joint.safetensors")
    assert found is not None and result.partner == found["file"]
    _, metadata = describe_checkpoint(run / "isp_joint.safetensors")
    assert metadata.provenance["metrics"]["epoch"] == 3
    assert metadata.provenance["metrics"]["phase"] == 2
    assert len(set(hashes)) == 4  # it learns in each joint epoch
    assert found["sha256"] == hashes[2]
    assert weights_hash(create_guide("tiny", found["file"])) == hashes[2]


def test_a_run_of_one_phase_has_no_partner(small_run: Run, tmp_path: Path) -> None:
    result = small_run(tmp_path / "run", epochs=1)
    assert result.partner is None and not result.joint
    assert partner(tmp_path / "run" / "isp.safetensors") is None
    assert not (tmp_path / "run" / "detector.safetensors").exists()


def test_before_learning_is_the_isp_that_a_run_begins_with(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers are those of the untouched ISP, and looking at them changes nothing."""
    first: list[float] = []
    real = Trainer.run

    def run(self: Trainer) -> Any:
        judge = self.judge
        images, device = judge.held_out, judge.device
        self.isp.eval()
        found = evaluate_rendering(self.isp, self.guide, images, judge.judged, device)
        self.isp.train()
        first.append(found.precision.ap50)
        return real(self)

    monkeypatch.setattr(Trainer, "run", run)
    result = small_run(tmp_path / "run", epochs=1, detector_weights=None)
    record = lines(tmp_path / "run")[0]
    assert record["validation"]["ap50"] == result.before["ap50"] == first[0] > 0.0
    monkeypatch.setattr(Judge, "before", lambda _: {"epoch": 0, "seconds": 0})
    small_run(tmp_path / "other", epochs=1, detector_weights=None)
    assert lines(tmp_path / "other")[1] == lines(tmp_path / "run")[1]


def test_where_nothing_is_held_out_the_loss_before_learning_is_told(
    small_run: Run, tmp_path: Path
) -> None:
    from rawisp.data.augment import AugmentSettings

    still = AugmentSettings(flip=0, crop=0, exposure_stops=0, illuminant=0)
    small_run(tmp_path / "run", epochs=1, val=0.0, lr=1e-9, augment=still)
    before, after = lines(tmp_path / "run")
    assert before["losses"].keys() == after["losses"].keys()
    assert before["loss"] == pytest.approx(after["loss"], rel=1e-4)
