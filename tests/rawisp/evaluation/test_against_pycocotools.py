"""The numbers are pycocotools' numbers, whichever of our two ways counts them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rawisp.evaluation.attributes import by_attribute
from rawisp.evaluation.average_precision import Found, Truth, average_precision
from rawisp.evaluation.matches import matched, pairs_of, scored

from .conftest import random_case

NAMES = ("person", "bicycle", "car")


def by_pycocotools(truths: Sequence[Truth], found: Sequence[Found]) -> dict[str, Any]:
    """COCO's twelve numbers by name, and precision (T, R, K) of all areas, -1 for no truth."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entry(image: int, box: Any, kind: Any) -> dict[str, Any]:
        x1, y1, x2, y2 = map(float, box)
        sides = x2 - x1, y2 - y1
        bbox = [x1, y1, *sides]
        area = sides[0] * sides[1]
        return {"image_id": image, "category_id": int(kind) + 1, "bbox": bbox, "area": area}

    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image, (truth, one) in enumerate(zip(truths, found, strict=True), 1):
        crowd = truth.ignore if truth.ignore is not None else np.zeros(len(truth.classes), bool)
        for box, kind, ignored in zip(truth.boxes, truth.classes, crowd, strict=True):
            more = {"id": len(annotations) + 1, "iscrowd": int(ignored)}
            annotations.append({**entry(image, box, kind), **more})
        for box, kind, score in zip(one.boxes, one.classes, one.scores, strict=True):
            results.append({**entry(image, box, kind), "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": n + 1, "width": 1, "height": 1} for n in range(len(truths))],
            "annotations": annotations,
            "categories": [{"id": n + 1, "name": name} for n, name in enumerate(NAMES)],
            "info": {},
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    keys = ("ap", "ap50", "ap75", "small", "medium", "large", "ar1", "ar10", "ar")
    numbers = {key: np.nan if v < 0 else v for key, v in zip(keys, evaluation.stats, strict=False)}
    return {**numbers, "precision": evaluation.eval["precision"][:, :, :, 0, -1]}


@pytest.mark.parametrize("seed", range(25))
def test_totals_classes_curves_and_sizes(seed: int) -> None:
    truths, found = random_case(seed)
    expected = by_pycocotools(truths, found)
    ours = average_precision(truths, found, NAMES)
    pairs = pairs_of(truths, found, len(NAMES))
    matches = [matched(one, len(truths)) for one in pairs]
    counted = scored(matches)
    for key in ("ap", "ap50", "ap75", "ar"):
        assert getattr(ours, key) == pytest.approx(expected[key], abs=1e-9), key
        assert counted[key] == pytest.approx(expected[key], abs=1e-9), key
    for index, name in enumerate(NAMES):
        own = expected["precision"][:, :, index]
        if name in ours.by_class:
            assert ours.by_class[name]["ap"] == pytest.approx(own.mean(), abs=1e-9)
            assert scored([matches[index]])["ap50"] == pytest.approx(own[0].mean(), abs=1e-9)
            assert ours.curves[name] == pytest.approx(own[0], abs=1e-9)
        else:
            assert (own == -1).all()
    sizes = by_attribute(truths, pairs, {})
    for name in ("small", "medium", "large"):
        ap = sizes[name]["ap"] if name in sizes else np.nan
        assert ap == pytest.approx(expected[name], abs=1e-9, nan_ok=True), name


def test_more_than_a_hundred_detections_of_an_image() -> None:
    rng = np.random.default_rng(3)
    boxes = np.array([[10.0, 10, 50, 50]])
    many = np.repeat(boxes, 150, axis=0) + rng.normal(0, 4, (150, 4))
    truths = [Truth(boxes, np.array([0]))]
    found = [Found(many, np.linspace(0.9, 0.1, 150), np.zeros(150, np.int64))]
    expected = by_pycocotools(truths, found)["ap"]
    assert average_precision(truths, found, NAMES).ap == pytest.approx(expected)
    pairs = pairs_of(truths, found, 3)
    assert scored([matched(one, 1) for one in pairs])["ap"] == pytest.approx(expected)


def test_nothing_found_is_zero_and_nothing_to_find_is_none() -> None:
    empty = Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    truth = Truth(np.array([[0.0, 0, 5, 5]]), np.array([1]))
    zero = average_precision([truth, truth], [empty, empty], NAMES)
    assert (zero.ap, zero.ap50, zero.ap75, zero.ar) == (0, 0, 0, 0)
    counted = scored([matched(one, 2) for one in pairs_of([truth] * 2, [empty] * 2, 3)])
    assert counted == {"ap": 0, "ap50": 0, "ap75": 0, "ar": 0, "boxes": 2}
    crowd = Truth(truth.boxes, truth.classes, np.array([True]))
    for case in ([], [crowd]):
        none = average_precision(case, [empty] * len(case), NAMES)
        assert np.isnan([none.ap, none.ap50, none.ap75, none.ar]).all()
        pairs = pairs_of(case, [empty] * len(case), 3)
        counted = scored([matched(one, len(case)) for one in pairs])
        assert np.isnan(counted["ap"]) and counted["boxes"] == 0
    assert none.record()["ap"] is None
