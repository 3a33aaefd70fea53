"""Planted boxes and detections whose precision by attribute is known from paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from rawisp.data.prepared import PreparedImage
from rawisp.evaluation.attributes import by_attribute, masks_of_attributes
from rawisp.evaluation.average_precision import Found, Truth
from rawisp.evaluation.matches import pairs_of

Rows = dict[str, dict[str, float]]
SIDE = 20.0


def box(place: int, side: float = SIDE) -> list[float]:
    """Squares that do not touch."""
    return [place * 200.0, 0.0, place * 200.0 + side, side]


def photograph(boxes: list[list[float]], *attributes: Mapping[str, Any]) -> PreparedImage:
    count = len(boxes)
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    classes, ignore = np.zeros(count, np.int64), np.zeros(count, bool)
    return PreparedImage("n", "n.ARW", "n.npy", (9, 9), corners, classes, ignore, attributes)


def detections(*places_and_scores: tuple[list[float], float]) -> Found:
    boxes = np.array([place for place, _ in places_and_scores]).reshape(-1, 4)
    scores = np.array([score for _, score in places_and_scores])
    return Found(boxes, scores, np.zeros(len(scores), np.int64))


def rows_of(image: PreparedImage, found: Found) -> Rows:
    truth = Truth(image.boxes.astype(np.float64), image.classes, image.ignore)
    pairs = pairs_of([truth], [found], 1)
    return by_attribute([truth], pairs, masks_of_attributes([image]))


def test_boxes_without_the_flag_are_neither_missed_nor_wrong() -> None:
    image = photograph([box(0), box(1), box(2)], {"dark": True}, {"dark": True}, {"dark": False})
    # Best first: the unflagged box (ignored), a flagged one (right), nothing (wrong), the other.
    found = detections((box(2), 0.9), (box(0), 0.8), (box(7), 0.7), (box(1), 0.6))
    row = rows_of(image, found)["dark"]
    # Recall 1/2 at precision 1, recall 1 at precision 2/3: 51 of the 101 recalls and 50.
    assert row["ap50"] == pytest.approx((51 * 1.0 + 50 * 2 / 3) / 101)
    assert row["ar"] == 1.0 and row["boxes"] == 2


def test_a_second_detection_of_an_ignored_box_is_wrong() -> None:
    """As with COCO's sizes; only crowds can be found any number of times."""
    image = photograph([box(0), box(1)], {"dark": True}, {"dark": False})
    found = detections((box(1), 0.9), (box(1), 0.8), (box(0), 0.7))
    assert rows_of(image, found)["dark"]["ap50"] == pytest.approx(1 / 2)


def test_a_detection_prefers_a_box_that_counts() -> None:
    image = photograph([box(0), [0.0, 0, 20, 22]], {"dark": False}, {"dark": True})
    row = rows_of(image, detections((box(0), 0.9)))["dark"]
    assert row["ap50"] == pytest.approx(1.0)  # it overlaps the ignored one better


def test_sizes_are_of_the_evaluated_image_and_other_sizes_do_not_count() -> None:
    image = photograph([box(0, 20), box(1, 50), box(2, 100)], {}, {}, {})
    found = detections((box(5, 50), 0.95), (box(0, 20), 0.9), (box(1, 50), 0.8))
    rows = rows_of(image, found)
    assert list(rows) == ["small", "medium", "large"]
    assert rows["small"]["ap50"] == pytest.approx(1.0)  # the stray one of 50 pixels is not small
    assert rows["medium"]["ap50"] == pytest.approx(1 / 2)
    assert rows["large"] == {"ap": 0, "ap50": 0, "ap75": 0, "ar": 0, "boxes": 1}


def test_limits_of_sizes_belong_to_both_sides() -> None:
    rows = rows_of(photograph([box(0, 32.0)], {}), detections((box(0, 32.0), 0.9)))
    assert rows["small"]["boxes"] == rows["medium"]["boxes"] == 1
    assert "large" not in rows


def names(*attributes: Mapping[str, Any]) -> list[str]:
    boxes = [box(n) for n in range(len(attributes))]
    return list(masks_of_attributes([photograph(boxes, *attributes)]))


def test_which_values_make_an_attribute() -> None:
    assert names({"iscrowd": 1, "difficult": True, "isnoisy": True}) == ["isnoisy"]
    assert names({"noisy": 1}, {"noisy": 0}, {}) == ["noisy"]
    assert names({"noisy": False}) == []
    assert names({"pose": "left"}, {"pose": "rear"}, {}) == ["pose=left", "pose=rear"]
    assert names({"occluded": 0}, {"occluded": 2}) == ["occluded=0", "occluded=2"]
    assert names(*({"track": n} for n in range(9))) == []  # numbers of each box
    assert names({"score": 0.5}, {"points": [1, 2]}, {"none": None}) == []
    assert names({"attributes": {"occluded": True, "x": 1.5}}) == ["occluded"]
    assert names({"small": True}) == ["flag small"]
    assert names() == []


def test_boxes_without_attributes_have_none() -> None:
    plain = photograph([box(0), box(1)])  # YOLO's
    flagged = photograph([box(0)], {"dark": True})
    masks = masks_of_attributes([plain, flagged])["dark"]
    assert [mask.tolist() for mask in masks] == [[False, False], [True]]
