"""Rows that are possible one by one, and a set that is wrong: the sentence says how."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rawisp.data import LabelSet, read_annotations
from rawisp.data.annotations.judge import Evidence, judge
from rawisp.errors import AnnotationError

WIDTH, HEIGHT = 6000, 4000
Box = tuple[float, float, float, float]


def true_boxes(count: int = 80, seed: int = 0) -> list[Box]:
    """x, y, width, height of objects all over a frame of 6000x4000."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.02, 0.3, (count, 2)) * (WIDTH, HEIGHT)
    corner = rng.uniform(0, 1, (count, 2)) * ((WIDTH, HEIGHT) - size)
    rows = np.concatenate([corner, size], axis=1).round(2).tolist()
    return [(x, y, w, h) for x, y, w, h in rows]


def as_corners(box: Box) -> Box:
    x, y, w, h = box
    return x, y, x + w, y + h


def relative(box: Box) -> Box:
    x, y, w, h = box
    return x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT


def centred(box: Box) -> Box:
    x, y, w, h = relative(box)
    return x + w / 2, y + h / 2, w, h


def percent(box: Box) -> Box:
    x, y, w, h = relative(box)
    return 100 * x, 100 * y, 100 * w, 100 * h


def corners_relative(box: Box) -> Box:
    x, y, w, h = relative(box)
    return x, y, x + w, y + h


def coco(folder: Path, boxes: list[Box]) -> LabelSet:
    path = folder / "labels.json"
    images = [{"id": 1, "file_name": "a.ARW", "width": WIDTH, "height": HEIGHT}]
    rows = [{"id": n, "image_id": 1, "category_id": 1, "bbox": b} for n, b in enumerate(boxes)]
    document = {
        "images": images, "annotations": rows, "categories": [{"id": 1, "name": "car"}],
    }  # fmt: skip
    path.write_text(json.dumps(document))
    return read_annotations(path)


def voc(folder: Path, boxes: list[Box]) -> LabelSet:
    objects = "".join(
        f"<object><name>car</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
        f"<ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d in boxes
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    (folder / "a.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    return read_annotations(folder / "a.xml")


def yolo(folder: Path, boxes: list[Box]) -> LabelSet:
    (folder / "classes.txt").write_text("car\n")
    (folder / "a.txt").write_text("".join(f"0 {' '.join(map(str, b))}\n" for b in boxes))
    return read_annotations(folder)


Write = Callable[[Path, list[Box]], LabelSet]
WRONG: dict[str, tuple[Write, Callable[[Box], Any], str]] = {
    "COCO, relative": (coco, relative, "80 of its 80 boxes lie between 0 and 1"),
    "COCO, percent": (coco, percent, "look like percent"),
    "COCO, corners": (coco, as_corners, "would fit as x1, y1, x2, y2"),
    "COCO, larger picture": (
        coco, lambda box: tuple(3 * v for v in box), "drawn on a picture of another size",
    ),
    "VOC, relative": (voc, corners_relative, "80 of its 80 boxes lie between 0 and 1"),
    "VOC, x y w h": (voc, tuple, "would fit as x, y, width, height"),
    "YOLO, pixels": (yolo, tuple, "these look like pixels"),
    "YOLO, percent": (yolo, lambda box: percent(centred_pixels(box)), "these look like percent"),
    "YOLO, corners": (yolo, corners_relative, "would fit as x1, y1, x2, y2"),
    "YOLO, upper left": (yolo, relative, "with the upper left corner"),
}  # fmt: skip


def centred_pixels(box: Box) -> Box:
    x, y, w, h = box
    return x + w / 2, y + h / 2, w, h


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_set_that_is_wrong_is_an_error_that_names_the_mistake(
    tmp_path: Path, case: str, seed: int
) -> None:
    write, wrong, words = WRONG[case]
    with pytest.raises(AnnotationError, match=words) as caught:
        write(tmp_path, [wrong(box) for box in true_boxes(seed=seed)])
    assert str(tmp_path) in str(caught.value)


RIGHT: dict[str, tuple[Write, Callable[[Box], Any]]] = {
    "COCO": (coco, tuple),
    "VOC": (voc, lambda box: (box[0] + 1, box[1] + 1, box[0] + box[2], box[1] + box[3])),
    "YOLO": (yolo, centred),
}


@pytest.mark.parametrize("case", RIGHT)
@pytest.mark.parametrize("bad", [0, 2])
def test_a_few_bad_rows_in_a_good_set_are_problems_of_rows(
    tmp_path: Path, case: str, bad: int
) -> None:
    write, right = RIGHT[case]
    past = [(5990.0, 3990.0, 100.0, 100.0), (10.0, 10.0, 0.2, 0.3)][:bad]
    labels = write(tmp_path, [right(box) for box in [*true_boxes(), *past]])
    (image,) = labels.images
    assert len(image.boxes) >= 80
    assert len(labels.problems) <= bad


def test_bodies_that_are_annotated_past_the_frame_are_not_a_mistake(tmp_path: Path) -> None:
    """Whole bodies: a third of the boxes reach past the frame, and are cut as ever."""
    boxes = true_boxes(60)
    boxes += [(WIDTH - 100, y, 300, 200) for _, y, _, _ in true_boxes(25, seed=1)]
    labels = coco(tmp_path, boxes)
    assert sum(problem.mended for problem in labels.problems) >= 25


def test_large_objects_in_the_middle_are_not_corners() -> None:
    evidence = Evidence()
    for n in range(50):
        evidence.add((100 + n, 50 + n, 5000, 3000), (WIDTH, HEIGHT))
    judge("labels.json", evidence, "xywh")


def test_frames_with_exchanged_sides_are_told() -> None:
    evidence = Evidence()
    for box in true_boxes():
        evidence.add(box, (HEIGHT // 2, WIDTH))
    with pytest.raises(AnnotationError, match="reach past their frame"):
        judge("labels.json", evidence, "xywh")
