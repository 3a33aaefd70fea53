"""Whole evaluations of planted photographs: what is found is known beforehand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rawisp.checkpoint.export import export_checkpoint
from rawisp.checkpoint.metadata import CheckpointMetadata
from rawisp.checkpoint.native import save_native
from rawisp.errors import CheckpointError, NothingUsableError, UsageError
from rawisp.evaluation import Comparison, EvaluationEvent, Rendering, evaluate
from rawisp.evaluation.report import exit_code, record
from rawisp.geometry import Fit
from rawisp.isp.registry import create_isp

from .conftest import CAR, DOG, OTHER_CAR, PERSON, PLANTED, BrightRectangles

Plant = Callable[..., Path]


def right_half_dark(x: Tensor) -> Tensor:
    y = x.clone()
    y[..., x.shape[3] // 2 :] = 0.0
    return y


HALF = Rendering("half", right_half_dark)
NIGHT = Rendering("night", torch.zeros_like)


def compared(data: Path, cache: Path, *renderings: Any, **options: Any) -> Comparison:
    options = {"fit": None, "device": "cpu", "workers": 1, **options}
    return evaluate(data, renderings, BrightRectangles(), cache=cache / data.name, **options)


def save(path: Path, name: str = "staged", fit: Fit | None = (60, 40), **metadata: Any) -> str:
    metadata = {"name": path.stem, "isp": name, "input_color": "xyz", "fit": fit, **metadata}
    save_native(create_isp(name), str(path), CheckpointMetadata(**metadata))
    return str(path)


def test_renderings_differ_as_planted(plant: Plant, cache: Path) -> None:
    comparison = compared(plant(), cache, "demosaic", HALF, NIGHT)
    whole, half, night = comparison.rows
    assert [row.name for row in comparison.rows] == ["demosaic", "half", "night"]
    for value in (whole.precision.ap, whole.precision.ap50, whole.precision.ap75):
        assert value == pytest.approx(1.0)
    assert whole.precision.ar == 1.0
    assert whole.interval == pytest.approx((1.0, 1.0))
    # Of the cars, 60 to 100 of 160 columns and 110 to 140, the first loses half its width and is
    # found at IoU 0.5 no more: it becomes 20 wide and 20 high, a person.
    assert half.by_class["car"] == {"ap": 0, "ap50": 0, "ap75": 0, "ar": 0, "boxes": 4}
    assert half.by_class["person"]["ar"] == 1.0
    # Equal scores: the stray persons are counted in the order of images and columns.
    assert half.precision.ap50 == pytest.approx((51 * 1.0 + 50 * 2 / 3) / 101 / 2)
    assert night.precision.ap50 == 0.0 and night.interval == (0.0, 0.0)
    assert (comparison.images, comparison.boxes, comparison.failed) == (4, 6, 0)
    assert whole.by_attribute["small"]["boxes"] == 6
    assert whole.by_attribute["isextreme"]["boxes"] == 2  # the two persons
    assert whole.by_attribute["isextreme"]["ap50"] == pytest.approx(1.0)
    assert exit_code(comparison) == 0
    assert exit_code(comparison, fail_under=0.1) == 1
    assert exit_code(compared(plant(folder="b"), cache, "demosaic"), fail_under=1.0) == 0


def test_every_rendering_meets_the_same_detector_and_size(plant: Plant, cache: Path) -> None:
    shapes: list[Any] = []

    def seen(x: Tensor) -> Tensor:
        shapes.append(tuple(x.shape))
        return x

    first = Rendering("a", seen, fit=(40, 30))
    other = Rendering("b", seen, input_color="camera", fit=(80, 60))
    comparison = compared(plant(), cache, NIGHT, first, other, fit="checkpoint")
    assert comparison.fit == (40, 30)
    assert set(shapes) == {(1, 3, 30, 40)}
    assert "b was trained at 80x60, not at 40x30" in comparison.notes
    assert [row.input_color for row in comparison.rows] == ["xyz", "xyz", "camera"]
    assert len(list((cache / "photos").iterdir())) == 2  # a folder for each colour
    assert compared(plant(folder="b"), cache, NIGHT, fit="checkpoint").fit == (1333, 800)


def test_the_size_of_the_training_is_told_and_the_default_is_used(
    plant: Plant, cache: Path, tmp_path: Path
) -> None:
    mine = save(tmp_path / "mine.safetensors", fit=(80, 60), training_fit=(40, 30))
    comparison = compared(plant(), cache, mine, fit="checkpoint")
    assert comparison.fit == (80, 60)
    assert "mine was trained at 40x30, not at 80x60" in comparison.notes


def test_a_checkpoint_whose_detector_learned_along_is_not_measured_without_it_in_silence(
    plant: Plant, cache: Path, tmp_path: Path
) -> None:
    def notes(sha256: str) -> str:
        partner = {"file": "detector.safetensors", "detector": "tiny", "sha256": sha256}
        path = tmp_path / f"{sha256[:4]}.safetensors"
        mine = save(path, provenance={"partner": partner})
        comparison = compared(plant(folder=sha256[:4]), cache, mine)
        own.append(comparison.provenance["detector_sha256"])
        return " ".join(comparison.notes)

    own: list[str] = []
    beside = tmp_path / "detector.safetensors"
    said = f"add --detector tiny --detector-weights {beside}"
    told = notes("0" * 64)
    assert "was trained together with its detector and is measured under another one" in told
    assert said in notes("1" * 64)
    assert "together with its detector" not in notes(own[0])


def test_checkpoints_say_what_they_eat(plant: Plant, cache: Path, tmp_path: Path) -> None:
    mine = save(tmp_path / "mine.safetensors", input_color="camera", fit=(80, 60))
    comparison = compared(plant(), cache, "classic", "demosaic", mine, mine, fit="checkpoint")
    assert [row.name for row in comparison.rows] == ["classic", "demosaic", "mine", "mine (2)"]
    assert comparison.fit == (80, 60)  # mine's; classic is a baseline, and says nothing
    assert comparison.rows[2].input_color == "camera"
    assert comparison.rows[0].sha256 and comparison.rows[1].sha256 is None
    assert comparison.rows[2].isp == "staged"
    assert comparison.rows[2].precision == comparison.rows[3].precision


def test_photographs_that_were_trained_on_are_told(
    plant: Plant, cache: Path, tmp_path: Path
) -> None:
    data = plant()
    training = {"data": data.name, "training": {"val": 0.25, "seed": 3}}
    mine = save(tmp_path / "mine.safetensors", provenance=training)
    other = save(tmp_path / "other.safetensors", provenance={**training, "data": "elsewhere"})

    def notes(**options: Any) -> str:
        return " ".join(compared(data, cache, mine, other, **options).notes)

    said = f"mine was trained on photographs of {data.name} that are measured on here"
    assert f"{said}; its held-out part is --val 0.25 --seed 3" in notes()
    assert said in notes(val=0.25, seed=4)
    assert "was trained on photographs" not in notes(val=0.25, seed=3)
    assert "other was trained on photographs" not in notes()


def test_a_program_is_announced_and_may_be_refused(
    plant: Plant, cache: Path, tmp_path: Path
) -> None:
    script = tmp_path / "mine.ts"
    export_checkpoint("classic", script)
    events: list[EvaluationEvent] = []
    data = plant()
    comparison = compared(data, cache, "classic", script, on_event=events.append)
    first, second = comparison.rows
    assert second.precision == first.precision
    assert any("mine.ts: is a program (torchscript)" in event.text for event in events)
    with pytest.raises(CheckpointError, match="can run code when it is opened"):
        compared(data, cache, script, safe=True)


def test_one_rendering_needs_no_list(plant: Plant, cache: Path) -> None:
    comparison = evaluate(plant(), "classic", BrightRectangles(), cache=cache, workers=1)
    assert [row.name for row in comparison.rows] == ["classic"]


def test_the_cache_is_filled_once(plant: Plant, cache: Path) -> None:
    data = plant()
    compared(data, cache, "demosaic")
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}
    assert len(before) == 4
    events: list[EvaluationEvent] = []
    compared(data, cache, "demosaic", "classic", on_event=events.append)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")} == before
    packing = [e for e in events if e.stage == "packing"]
    assert [(e.done, e.total) for e in packing] == [(n, 4) for n in (1, 2, 3, 4)]
    evaluating = [e for e in events if e.stage == "evaluating"]
    assert [(e.done, e.total) for e in evaluating] == [(n, 8) for n in range(1, 9)]
    assert [e.text for e in events if e.kind == "row"] == ["demosaic", "classic"]


def test_an_interrupted_evaluation_begins_again_with_what_was_packed(
    plant: Plant, cache: Path
) -> None:
    def interrupt(event: EvaluationEvent) -> None:
        if event.stage == "evaluating" and event.done == 2:
            raise KeyboardInterrupt

    data = plant()
    with pytest.raises(KeyboardInterrupt):
        compared(data, cache, "demosaic", on_event=interrupt)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}
    assert compared(data, cache, "demosaic").rows[0].precision.ap50 == pytest.approx(1.0)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")} == before


def test_the_split_is_test_else_val_else_all(plant: Plant, cache: Path) -> None:
    three = plant(splits=["train", "val", "test", "test"])
    assert compared(three, cache, NIGHT).split == "test"
    assert compared(three, cache, NIGHT).images == 2
    assert compared(three, cache, NIGHT, split="all").images == 4
    assert compared(three, cache, NIGHT, split="train").images == 1
    two = compared(plant(splits=["train", "train", "val", "train"], folder="b"), cache, NIGHT)
    assert (two.split, two.images) == ("val", 1)
    assert "split val, because there is no test split" in two.notes
    none = plant(folder="c")
    assert (compared(none, cache, NIGHT).split, compared(none, cache, NIGHT).images) == ("all", 4)
    held_out = compared(none, cache, NIGHT, val=0.5, seed=3)
    assert held_out.split == "val" and 1 <= held_out.images < 4
    with pytest.raises(UsageError, match="no annotated photographs in test; it has no split"):
        compared(none, cache, NIGHT, split="test")


def test_classes_that_the_detector_does_not_know_are_left_out(plant: Plant, cache: Path) -> None:
    data = plant([[PERSON, CAR, DOG], [OTHER_CAR, DOG]])
    comparison = compared(data, cache, "demosaic")
    assert comparison.left_out == {"dog": 2}
    assert comparison.categories == ("person", "car")
    assert comparison.rows[0].precision.ap50 == pytest.approx(1.0)  # not two thirds
    assert "dog" not in comparison.rows[0].by_class and comparison.boxes == 3
    assert "the detector does not know dog; its 2 boxes are left out" in comparison.notes
    with pytest.raises(UsageError, match="knows none of the data's categories"):
        evaluate(data, ["demosaic"], BrightRectangles((None, "cat", "cow")), cache=cache)


def test_classes_that_the_detector_calls_the_same_are_one(plant: Plant, cache: Path) -> None:
    data = plant([[PERSON, CAR], [OTHER_CAR]])
    labels = json.loads((data / "labels.json").read_text())
    labels["annotations"][2]["category_id"] = 4
    labels["categories"].append({"id": 4, "name": "people"})
    labels["categories"].append({"id": 5, "name": "pedestrian"})
    labels["annotations"][0]["category_id"] = 5
    (data / "labels.json").write_text(json.dumps(labels))
    row = compared(data, cache, "demosaic").rows[0]
    # A wide person is found as a car: right are the pedestrian and one of two cars.
    assert set(row.by_class) == {"car", "people/pedestrian"}
    assert row.by_class["people/pedestrian"]["boxes"] == 2
    assert row.by_class["people/pedestrian"]["ar"] == 0.5


def test_crowds_are_ignored(plant: Plant, cache: Path) -> None:
    crowd = (PERSON[0], "person", {"iscrowd": 1})
    comparison = compared(plant([[crowd, CAR], [PERSON, CAR]]), cache, "demosaic", HALF)
    assert (comparison.boxes, comparison.ignored) == (3, 1)
    assert comparison.rows[0].precision.ap == pytest.approx(1.0)


def test_photographs_without_boxes_only(plant: Plant, cache: Path) -> None:
    comparison = compared(plant([[], []]), cache, "demosaic")
    assert np.isnan(comparison.rows[0].precision.ap)
    assert comparison.images == 2 and comparison.boxes == 0
    assert json.loads(json.dumps(record(comparison), allow_nan=False))["rows"][0]["ap"] is None
    assert exit_code(comparison) == 0 and exit_code(comparison, 0.0) == 1


def test_a_broken_photograph_is_left_out_of_all_rows(plant: Plant, cache: Path) -> None:
    data = plant([*PLANTED, [PERSON]])
    (data / "DSC00004.ARW").write_bytes(b"II*\0 nothing")
    events: list[EvaluationEvent] = []
    comparison = compared(data, cache, "demosaic", HALF, on_event=events.append)
    assert (comparison.images, comparison.failed, comparison.boxes) == (4, 1, 6)
    assert comparison.rows[0].precision.ap50 == pytest.approx(1.0)
    assert any("DSC00004.ARW: " in event.text for event in events)
    assert exit_code(comparison) == 1


def fails_on_the_third(calls: list[int]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise ValueError("no third\nand last")
        return x

    return run


def test_a_rendering_that_fails_has_a_row_that_says_so(plant: Plant, cache: Path) -> None:
    broken = {
        "raises": (fails_on_the_third([]), "failed (and last)"),
        "not finite": (lambda x: x * float("nan"), "returned NaN or infinite values"),
        "of another size": (lambda x: x[..., 1:], "returned shape (1, 3, 60, 79)"),
        "no tensor": (lambda x: x.numpy(), "returned ndarray"),
    }
    renderings = [Rendering(name, run) for name, (run, _) in broken.items()]
    comparison = compared(plant(), cache, *renderings, "demosaic")
    for row, (_, reason) in zip(comparison.rows, broken.values(), strict=False):
        assert reason in row.error and np.isnan(row.precision.ap50)
        assert f"{row.name}: {row.error}" in comparison.notes
    assert comparison.rows[-1].precision.ap50 == pytest.approx(1.0)
    assert exit_code(comparison) == 1


def test_what_cannot_be_evaluated_is_refused(plant: Plant, cache: Path, tmp_path: Path) -> None:
    data = plant()
    with pytest.raises(UsageError, match="nothing is to be evaluated"):
        compared(data, cache)
    with pytest.raises(UsageError, match="genisp has parameters to learn"):
        compared(data, cache, "genisp")
    with pytest.raises(CheckpointError, match="neither a file nor one of the shipped"):
        compared(data, cache, "nothing")
    with pytest.raises(UsageError, match="none of auto, cpu"):
        compared(data, cache, "demosaic", device="tpu")
    with pytest.raises(UsageError, match="no detector is called 'retina'"):
        evaluate(data, ["demosaic"], "retina", cache=cache)
    for path in data.glob("*.ARW"):
        path.write_bytes(b"no photograph")
    with pytest.raises(NothingUsableError, match="none of its 4 photographs can be used"):
        compared(data, cache, "demosaic")
    assert not list(tmp_path.rglob("*.rawisp-tmp"))


def test_the_record_says_where_the_numbers_come_from(plant: Plant, cache: Path) -> None:
    comparison = compared(plant(), cache, "classic")
    said = record(comparison)
    about = said["provenance"]
    assert about["data"] == "photos" and about["detector"] == "BrightRectangles"
    assert len(about["detector_sha256"]) == len(said["rows"][0]["sha256"]) == 64
    assert {"rawisp", "torch", "torchvision", "faster-coco-eval", "device"} <= set(about)
    row = said["rows"][0]
    assert {"ap", "ap50", "ap75", "ar", "ap50_interval", "by_class", "by_attribute"} <= set(row)
    assert row["error"] is None and row["render_s"] > 0 and row["detect_s"] > 0
    assert set(row["curves"]) == {"person", "car"} and len(row["curves"]["car"]) == 101
    assert str(cache) not in json.dumps(said)


def test_what_is_left_out_is_in_the_report(plant: Plant, cache: Path) -> None:
    folder = plant(splits=["test", "test", "test", "val"])
    (folder / "DSC00001.ARW").write_bytes(b"")
    (folder / "DSC00009.ARW").write_bytes(b"")  # which nobody annotated
    events: list[EvaluationEvent] = []
    comparison = compared(folder, cache, "demosaic", on_event=events.append)
    photographs = record(comparison)["photographs"]
    assert photographs["used"] == 2
    assert photographs["left_out"] == [
        {"why": "is empty", "count": 1, "first": "DSC00001.ARW", "failed": True},
        {
            "why": "has no usable entry in the annotations",
            "count": 1,
            "first": "DSC00009.ARW",
            "failed": False,
        },
    ]
    said = [event.text for event in events if event.kind == "failure"]
    assert str(comparison.photographs) in said and str(comparison.photographs) in comparison.notes
    assert exit_code(comparison) == 1
