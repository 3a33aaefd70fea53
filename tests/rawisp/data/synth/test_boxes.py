"""The COCO document of nights: boxes scaled, ids that depend on the label file alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rawisp.data.annotations.labels import LabeledImage, LabelSet
from rawisp.data.synth.boxes import PlacedNight, category_ids_of, check_size, nights_document
from rawisp.errors import FrameMismatchError


def image(
    name: str, identity: int | str, boxes: list[list[float]], **changes: object
) -> LabeledImage:
    values = {
        "size": (100, 50),
        "classes": np.arange(len(boxes), dtype=np.int64) % 2,
        "attributes": tuple({"iscrowd": n % 2, "note": n} for n in range(len(boxes))),
        **changes,
    }
    return LabeledImage(name, identity, boxes=np.array(boxes, float).reshape(-1, 4), **values)  # type: ignore[arg-type]


A = image("a", 7, [[10, 5, 20, 10], [0, 0, 100, 50]])
B = image("b", "b", [[0.1, 0.2, 0.5, 0.25]], size=None, attributes=())
EMPTY = image("c", 9, [])
LABELS = LabelSet("labels.json", "COCO", ("person", "car"), (A, EMPTY, B))


def test_boxes_are_scaled_and_the_rest_is_kept() -> None:
    placed = [PlacedNight(A, 1, "a.ARW", 200, 98), PlacedNight(B, 1, "b.NEF", 400, 200)]
    document, counts = nights_document(LABELS, placed, 1, [1, 3])
    assert document["images"] == [
        {"id": 7, "file_name": "a.ARW", "width": 200, "height": 98},
        {"id": "b", "file_name": "b.NEF", "width": 400, "height": 200},
    ]
    first, second, third = document["annotations"]
    assert first == {
        "iscrowd": 0, "note": 0, "id": 1, "image_id": 7, "category_id": 1,
        "bbox": [20, 9.8, 40, 19.6], "area": 784,
    }  # fmt: skip
    assert (second["bbox"], second["iscrowd"], second["category_id"]) == ([0, 0, 200, 98], 1, 3)
    assert (third["bbox"], third["iscrowd"], third["image_id"]) == ([40, 40, 200, 50], 0, "b")
    assert document["categories"] == [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    assert (counts["images"], counts["boxes"], counts["empty_boxes_dropped"]) == (2, 3, 0)


def test_ids_do_not_depend_on_what_else_was_made() -> None:
    alone, _ = nights_document(LABELS, [PlacedNight(B, 1, "b.NEF", 400, 200)], 1, [1, 2])
    assert [one["id"] for one in alone["annotations"]] == [3]


def test_copies_have_ids_of_their_own() -> None:
    placed = [PlacedNight(one, copy, "x", 100, 50) for one in (A, B) for copy in (1, 2)]
    document, _ = nights_document(LABELS, placed, 2, [1, 2])
    assert [one["id"] for one in document["images"]] == [7001, 7002, "b-1", "b-2"]
    assert [one["id"] for one in document["annotations"]] == [1001, 2001, 1002, 2002, 3001, 3002]
    json.dumps(document)


def test_a_box_that_vanishes_is_counted() -> None:
    tiny = image("a", 1, [[10, 10, 1e-5, 5]])
    labels = LabelSet("x", "VOC", ("person", "car"), (tiny,))
    document, counts = nights_document(labels, [PlacedNight(tiny, 1, "a", 100, 50)], 1, [1, 2])
    assert (document["annotations"], counts["empty_boxes_dropped"]) == ([], 1)


def test_a_coco_files_own_category_ids_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    categories = [{"id": 44, "name": "person"}, {"id": 3, "name": "car"}]
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    labels = LabelSet(str(path), "COCO", ("person", "car"), ())
    assert category_ids_of(labels) == [44, 3]
    assert category_ids_of(LabelSet("folder", "YOLO", ("person", "car"), ())) == [1, 2]


def test_boxes_must_be_drawn_on_the_picture_as_displayed() -> None:
    check_size("a.jpg", None, (50, 100))
    check_size("a.jpg", (50, 100), (50, 100))
    with pytest.raises(FrameMismatchError, match="100x50, it shows 50x100 "):
        check_size("a.jpg", (100, 50), (50, 100))
    with pytest.raises(FrameMismatchError, match="say 100x60, it shows 50x100; annotate"):
        check_size("a.jpg", (100, 60), (50, 100))
