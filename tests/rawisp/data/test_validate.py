"""What `validate` says of RAW files, frames and duplicates, and how labels reach the sensor."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rawisp.data import DataSet, LabeledImage, Sample, find_dataset
from rawisp.data.frames import frame_of, to_visible
from rawisp.data.validate import counts, validate
from rawisp.errors import CorruptFileError, FrameMismatchError
from rawisp.geometry import Frame, sensor_frames
from rawisp.raw import open_raw, read_frames

WriteRaw = Callable[..., Path]

FRAMES = sensor_frames(
    raw_size=(64, 44),
    visible_origin=(2, 2),
    visible_size=(60, 40),
    crop_origin=(4, 4),
    crop_size=(54, 36),
    flip=6,
)


def labeled(
    boxes: Any, size: tuple[int, int] | None = (60, 40), classes: Any = None
) -> LabeledImage:
    array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    numbers = np.zeros(len(array), np.int64) if classes is None else np.array(classes, np.int64)
    where = tuple(f"line {n + 1}" for n in range(len(array)))
    return LabeledImage("a", 1, size, array, numbers, ({},) * len(array), where, file="a.txt")


def dataset_of(labels: LabeledImage) -> DataSet:
    return DataSet("data", ("person", "car"), (Sample("data/a.ARW", labels),))


def said(labels: LabeledImage, **options: Any) -> list[str]:
    return [str(p) for p in validate(dataset_of(labels), frames_of=lambda _: FRAMES, **options)]


@pytest.mark.parametrize(
    ("size", "name"), [((60, 40), "visible"), ((54, 36), "crop"), ((36, 54), "upright-crop")]
)
def test_a_size_that_is_a_frames_is_fine(size: tuple[int, int], name: str) -> None:
    labels = labeled([[1, 2, 3, 4]], size)
    assert said(labels) == []
    assert frame_of("a.ARW", labels, FRAMES, "auto").name == name


def test_a_size_that_is_no_frames_is_named_with_the_file_and_what_there_is() -> None:
    (text,) = said(labeled([[1, 2, 3, 4]], (61, 40)))
    assert text.startswith("a.txt: data/a.ARW: the annotations say 61x40, which is no frame")
    assert "visible 60x40" in text
    assert said(labeled([[1, 2, 3, 4]], (50, 30)), annotation_frame="center") == []


def test_relative_boxes_need_a_frame_where_there_are_several() -> None:
    labels = labeled([[0.25, 0.5, 0.5, 0.25]], None)
    (text,) = said(labels)
    assert "its boxes are relative and say no size" in text and "--annotation-frame" in text
    assert said(labels, annotation_frame="crop") == []
    with pytest.raises(FrameMismatchError, match="has no packed frame"):
        frame_of("a.ARW", labels, FRAMES, "packed")
    plain = {name: FRAMES[name] for name in ("raw", "visible")}
    assert frame_of("a.ARW", labels, plain, "auto").name == "visible"


def test_relative_boxes_reach_the_sensor_through_their_frame() -> None:
    labels = labeled([[0.25, 0.5, 0.5, 0.25]], None)
    crop = frame_of("a.ARW", labels, FRAMES, "crop")
    moved = to_visible(labels, crop).boxes(labels.boxes)
    np.testing.assert_allclose(moved, [[2 + 13.5, 2 + 18, 27, 9]])
    pixels = replace(labels, size=(54, 36), boxes=labels.boxes * [54, 36, 54, 36])
    np.testing.assert_allclose(to_visible(pixels, crop).boxes(pixels.boxes), moved)
    upright = frame_of("a.ARW", labels, FRAMES, "upright-crop")
    turned = to_visible(labels, upright).boxes([[0, 0, 1, 1]])
    np.testing.assert_allclose(turned, [[2, 2, 54, 36]])


def test_boxes_that_are_nearly_the_same_are_named() -> None:
    boxes = [[10, 10, 20, 20], [30, 10, 5, 5], [10.2, 10.2, 20, 20], [10, 10, 20, 20]]
    texts = said(labeled(boxes, classes=[0, 0, 0, 1]))
    assert texts == ["a.txt, line 3: a person much like the one at line 1 (IoU 0.961)"]
    assert said(labeled([[10, 10, 20, 20], [10.5, 10.5, 20, 20]])) == []


def test_many_boxes_are_compared_in_no_time_and_as_by_hand() -> None:
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(0, 30, (150, 2)), rng.uniform(2, 20, (150, 2))], axis=1)
    boxes = np.concatenate([boxes, boxes[:40] + rng.normal(0, 0.05, (40, 4))])
    classes = rng.integers(0, 2, len(boxes))
    expected = 0
    for i in range(len(boxes)):
        for j in range(i):
            low = np.maximum(boxes[i, :2], boxes[j, :2])
            high = np.minimum(boxes[i, :2] + boxes[i, 2:], boxes[j, :2] + boxes[j, 2:])
            common = np.prod(np.clip(high - low, 0, None))
            whole = np.prod(boxes[i, 2:]) + np.prod(boxes[j, 2:]) - common
            expected += common / whole > 0.95 and classes[i] == classes[j]
    assert expected > 5
    assert len(said(labeled(boxes, classes=classes))) == expected


def test_raw_files_that_cannot_be_opened_are_named(write_raw: WriteRaw) -> None:
    good, bad = write_raw("a.ARW"), write_raw("b.ARW")
    bad.write_bytes(bad.read_bytes()[:100])
    images = [
        {"id": n, "file_name": name, "width": 60, "height": 40} for n, name in enumerate("ab")
    ]
    document = {"images": images, "annotations": [], "categories": []}
    (good.parent / "x.json").write_text(json.dumps(document))
    dataset = find_dataset(good.parent)
    (problem,) = validate(dataset)
    assert problem.file == str(bad) and not problem.mended
    found = counts(dataset, [problem])
    assert (found["photographs"], found["negatives"], found["problems"]) == (2, 2, 1)


def test_the_night_set_has_nothing_wrong(sample_data: Path) -> None:
    dataset = find_dataset(sample_data, val=0.2)
    assert validate(dataset) == []
    found = counts(dataset, [])
    assert found["boxes"] == 80 == sum(found["classes"].values())
    assert sum(found["splits"].values()) == 14 and set(found["splits"]) == {"train", "val"}


def test_frames_from_the_header_are_those_of_the_decoded_file(sample_data: Path) -> None:
    for path in [*sample_data.rglob("*.ARW"), *sample_data.rglob("*.NEF")]:
        frames: dict[str, Frame] = read_frames(path)
        assert frames == open_raw(path).frames, path


@pytest.mark.real_files
def test_frames_of_real_files_from_the_header(real_raw: Path) -> None:
    for name in ("colorchart.dng", "kodak_dc50.KDC"):
        assert read_frames(real_raw / name) == open_raw(real_raw / name).frames, name
    with pytest.raises(CorruptFileError):
        read_frames(real_raw / "truncated_zv-e10.arw")
