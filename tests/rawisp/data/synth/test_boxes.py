"""Boxes of photographs on the nights made of them: scaled, ids by the label file alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rawisp.data.annotations.entries import Annotations, entries_of
from rawisp.data.annotations.labels import LabeledImage, LabelSet
from rawisp.data.annotations.moving import moved
from rawisp.data.annotations.write_coco import coco_document
from rawisp.data.synth.boxes import check_size
from rawisp.errors import FrameMismatchError
from rawisp.geometry import Affine


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


def document(
    found: Annotations, placed: list[tuple[int, int, tuple[int, int]]], copies: int = 1
) -> tuple[dict[str, Any], Counter[str]]:
    """placed: (entry number, copy, size of the night)."""
    counts: Counter[str] = Counter()
    images = []
    for number, copy, size in placed:
        entry = found.entries[number].of_copy(copy, copies)
        drawn = entry.size or (1, 1)
        scale = Affine.scaling(size[0] / drawn[0], size[1] / drawn[1])
        name = f"{number}_{copy}.ARW"
        images.append(moved(entry, scale, size, output=name, file="labels.json", counts=counts))
    return coco_document(found.origin, images), counts


def test_boxes_are_scaled_and_the_rest_is_kept() -> None:
    written, counts = document(entries_of(LABELS), [(0, 1, (200, 98)), (2, 1, (400, 200))])
    assert written["images"] == [
        {"id": 1, "original_id": 7, "file_name": "0_1.ARW", "width": 200, "height": 98},
        {"id": 3, "original_id": "b", "file_name": "2_1.ARW", "width": 400, "height": 200},
    ]
    first, second, third = written["annotations"]
    assert first == {
        "iscrowd": 0, "note": 0, "id": 1, "image_id": 1, "category_id": 1,
        "bbox": [20, 9.8, 40, 19.6], "area": 784,
    }  # fmt: skip
    assert (second["bbox"], second["iscrowd"], second["category_id"]) == ([0, 0, 200, 98], 1, 2)
    assert (third["bbox"], third["iscrowd"], third["image_id"]) == ([40, 40, 200, 50], 0, 3)
    assert written["categories"] == [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]
    assert (counts["images"], counts["boxes"], counts["empty_boxes_dropped"]) == (2, 3, 0)


def test_ids_do_not_depend_on_what_else_was_made() -> None:
    alone, _ = document(entries_of(LABELS), [(2, 1, (400, 200))])
    assert [one["id"] for one in alone["annotations"]] == [3]
    assert [one["id"] for one in alone["images"]] == [3]


def test_copies_have_ids_of_their_own() -> None:
    placed = [(number, copy, (100, 50)) for number in (0, 2) for copy in (1, 2)]
    written, _ = document(entries_of(LABELS), placed, 2)
    assert [one["id"] for one in written["images"]] == [1001, 1002, 3001, 3002]
    assert [one["original_id"] for one in written["images"]] == [7, 7, "b", "b"]
    assert [one["id"] for one in written["annotations"]] == [1001, 2001, 1002, 2002, 3001, 3002]
    json.dumps(written)


def test_a_box_that_vanishes_is_counted() -> None:
    tiny = image("a", 1, [[10, 10, 1e-5, 5]])
    labels = LabelSet("x", "VOC", ("person", "car"), (tiny,))
    written, counts = document(entries_of(labels), [(0, 1, (100, 50))])
    assert (written["annotations"], counts["empty_boxes_dropped"]) == ([], 1)


def test_a_coco_files_own_category_ids_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    categories = [{"id": 44, "name": "person"}, {"id": 3, "name": "car"}]
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    labels = LabelSet(str(path), "COCO", ("person", "car"), ())
    assert entries_of(labels).origin.categories == tuple(categories)
    other = entries_of(LabelSet("folder", "YOLO", ("person", "car"), ()))
    assert [one["id"] for one in other.origin.categories] == [1, 2]


def test_boxes_must_be_drawn_on_the_picture_as_displayed() -> None:
    check_size("a.jpg", None, (50, 100))
    check_size("a.jpg", (50, 100), (50, 100))
    with pytest.raises(FrameMismatchError, match="100x50, it shows 50x100 "):
        check_size("a.jpg", (100, 50), (50, 100))
    with pytest.raises(FrameMismatchError, match="say 100x60, it shows 50x100; annotate"):
        check_size("a.jpg", (100, 60), (50, 100))
