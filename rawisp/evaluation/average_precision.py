"""COCO average precision of detections, with whole-number ids whatever the data set has.

Counting is faster-coco-eval's (C++), which agrees with pycocotools to six digits; see the tests.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Truth:
    """The boxes of one image: float64 (N, 4) x1, y1, x2, y2; classes int64 (N,).

    ignore: bool (N,), boxes that are neither to be found nor wrong when found (COCO's iscrowd,
    VOC's difficult); None for none.
    """

    boxes: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]
    ignore: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Found:
    """The detections of one image: boxes as in `Truth`, scores float64 (N,), classes int64 (N,)."""

    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's numbers, 0 to 1; NaN where there is no truth to be found.

    ap: mean over IoU 0.50 to 0.95; ap50, ap75; ar: average recall with 100 detections an image.
    by_class: {category: {"ap", "ap50", "boxes"}}. curves: {category: precision at IoU 0.5 for
    recall 0, 0.01, ..., 1}.
    """

    ap: float
    ap50: float
    ap75: float
    ar: float
    by_class: dict[str, dict[str, float]] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The numbers without the curves, as JSON values (NaN as None)."""
        numbers = {"ap": self.ap, "ap50": self.ap50, "ap75": self.ap75, "ar": self.ar}
        return {
            **{name: _json(value) for name, value in numbers.items()},
            "by_class": {
                name: {key: _json(value) for key, value in row.items()}
                for name, row in self.by_class.items()
            },
        }


def average_precision(
    truths: Sequence[Truth], found: Sequence[Found], categories: Sequence[str]
) -> AveragePrecision:
    """AP and AR of detections in the images, one `Truth` and one `Found` each, in the same order.

    Classes index into `categories`; at most 100 detections of an image and class count. No
    detections at all give zeros, not an error.
    """
    total = dict.fromkeys(categories, 0)
    for truth in truths:
        keep = np.ones(len(truth.classes), bool) if truth.ignore is None else ~truth.ignore
        for index in truth.classes[keep]:
            total[categories[int(index)]] += 1
    if not any(total.values()):
        return AveragePrecision(*(float("nan"),) * 4)
    if not any(len(one.scores) for one in found):
        rows = {n: {"ap": 0.0, "ap50": 0.0, "boxes": c} for n, c in total.items() if c}
        return AveragePrecision(0.0, 0.0, 0.0, 0.0, rows, {n: [0.0] * len(RECALLS) for n in rows})
    return _summed(_evaluated(truths, found, categories), categories, total)


def _evaluated(
    truths: Sequence[Truth], found: Sequence[Found], categories: Sequence[str]
) -> dict[str, Any]:
    """faster-coco-eval's arrays: precision (T, R, K, A, M), recall (T, K, A, M)."""
    from faster_coco_eval import COCO, COCOeval_faster

    annotations: list[dict[str, Any]] = []
    for image, truth in enumerate(truths, 1):
        ignore = truth.ignore if truth.ignore is not None else np.zeros(len(truth.classes), bool)
        for box, index, crowd in zip(truth.boxes, truth.classes, ignore, strict=True):
            annotations.append(
                {
                    **_entry(image, box, int(index)),
                    "id": len(annotations) + 1,
                    "iscrowd": int(crowd),
                }
            )
    results = [
        {**_entry(image, box, int(index)), "score": float(score)}
        for image, one in enumerate(found, 1)
        for box, index, score in zip(one.boxes, one.classes, one.scores, strict=True)
    ]
    document = {
        "images": [{"id": n + 1, "width": 1, "height": 1} for n in range(len(truths))],
        "annotations": annotations,
        "categories": [{"id": n + 1, "name": name} for n, name in enumerate(categories)],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        coco = COCO(document)
        evaluation = COCOeval_faster(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    arrays: dict[str, Any] = evaluation.eval
    return arrays


def _entry(image: int, box: npt.NDArray[np.float64], index: int) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(v) for v in box)
    width, height = x2 - x1, y2 - y1
    return {
        "image_id": image,
        "category_id": index + 1,
        "bbox": [x1, y1, width, height],
        "area": width * height,
    }


def _summed(
    arrays: dict[str, Any], categories: Sequence[str], total: dict[str, int]
) -> AveragePrecision:
    """COCO's summary: all areas, 100 detections; classes without truth (-1) do not count."""
    precision = np.asarray(arrays["precision"])[:, :, :, 0, -1]  # (T, R, K)
    recall = np.asarray(arrays["recall"])[:, :, 0, -1]  # (T, K)
    rows, curves = {}, {}
    for index, name in enumerate(categories):
        if total[name]:
            own = precision[:, :, index]
            rows[name] = {
                "ap": _mean(own),
                "ap50": _mean(own[0]),
                "boxes": total[name],
            }
            curves[name] = [float(v) for v in np.maximum(own[0], 0.0)]
    return AveragePrecision(
        _mean(precision), _mean(precision[0]), _mean(precision[5]), _mean(recall), rows, curves
    )


def _mean(values: npt.NDArray[np.float64]) -> float:
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else float("nan")


def _json(value: float) -> float | None:
    return None if value != value else value
