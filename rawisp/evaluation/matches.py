"""Which detection found which box, by pycocotools' rule, and average precision counted from that.

`average_precision` has the totals. Here the same rule is kept image by image and box by box, for
what totals cannot say: precision on the boxes with an attribute, and how it varies over images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rawisp.evaluation.average_precision import IOU_THRESHOLDS, RECALLS, Found, Truth

# Detections of an image and class that count, as COCO has it.
MOST_DETECTIONS = 100

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pair:
    """One image and class: D detections, best first, against G boxes.

    image: its number. boxes: int64 (G,), index into the image's `Truth`. crowd: bool (G,). scores:
    (D,). areas: (D,) in square pixels. overlap: (D, G), IoU; with a crowd, the share of the
    detection that lies inside it.
    """

    image: int
    boxes: npt.NDArray[np.int64]
    crowd: Flags
    scores: Floats
    areas: Floats
    overlap: Floats


@dataclass(frozen=True)
class Matches:
    """The N detections of one class in all images, best first, and what became of them.

    image: int64 (N,). hit: bool (T, N), found a box, at each of IOU_THRESHOLDS. ignored: bool
    (T, N), neither right nor wrong. wanted: int64 (images,), boxes to be found.
    """

    image: npt.NDArray[np.int64]
    hit: Flags
    ignored: Flags
    wanted: npt.NDArray[np.int64]


def pairs_of(truths: Sequence[Truth], found: Sequence[Found], classes: int) -> list[list[Pair]]:
    """By class, each image's detections against its boxes; images that have neither are left out.

    One `Truth` and one `Found` for each image, in the same order.
    """
    by_class: list[list[Pair]] = [[] for _ in range(classes)]
    for image, (truth, one) in enumerate(zip(truths, found, strict=True)):
        crowd = np.zeros(len(truth.classes), bool) if truth.ignore is None else truth.ignore
        for index in set(truth.classes.tolist()) | set(one.classes.tolist()):
            boxes = np.flatnonzero(truth.classes == index)
            mine = np.flatnonzero(one.classes == index)
            best = mine[np.argsort(-one.scores[mine], kind="mergesort")][:MOST_DETECTIONS]
            detections = one.boxes[best]
            by_class[index].append(
                Pair(
                    image,
                    boxes,
                    crowd[boxes],
                    one.scores[best],
                    box_areas(detections),
                    _overlap(detections, truth.boxes[boxes], crowd[boxes]),
                )
            )
    return by_class


def box_areas(boxes: Floats) -> Floats:
    """Square pixels of boxes (N, 4), x1, y1, x2, y2."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _overlap(detections: Floats, boxes: Floats, crowd: Flags) -> Floats:
    """(D, G), with far corners recomputed from extents as pycocotools does, to the last bit."""
    low_a, low_b = detections[:, None, :2], boxes[None, :, :2]
    size_a, size_b = detections[:, None, 2:] - low_a, boxes[None, :, 2:] - low_b
    sides = np.minimum(low_a + size_a, low_b + size_b) - np.maximum(low_a, low_b)
    both = np.prod(np.maximum(sides, 0.0), axis=2)
    area_a, area_b = np.prod(size_a, axis=2), np.prod(size_b, axis=2)
    return np.asarray(both / np.where(crowd, area_a, area_a + area_b - both))


def matched(
    pairs: Sequence[Pair],
    images: int,
    aside: Sequence[Flags] | None = None,
    area: tuple[float, float] = (0.0, float("inf")),
) -> Matches:
    """The fate of each detection of one class.

    aside: for each image bool (boxes,), those that are neither to be found nor wrong when found.
    area: detections outside these limits (square pixels) that find nothing are not wrong either.
    """
    wanted = np.zeros(images, np.int64)
    fates = []
    for pair in pairs:
        out = pair.crowd if aside is None else pair.crowd | aside[pair.image][pair.boxes]
        wanted[pair.image] = np.count_nonzero(~out)
        hit, ignored = _fates(pair, out)
        ignored |= ~hit & ((pair.areas < area[0]) | (pair.areas > area[1]))
        fates.append((np.full(len(pair.scores), pair.image), pair.scores, hit, ignored))
    if not fates:
        none = np.zeros((len(IOU_THRESHOLDS), 0), bool)
        return Matches(np.zeros(0, np.int64), none, none, wanted)
    image, scores, hits, ignoreds = zip(*fates, strict=True)
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    return Matches(
        np.concatenate(image)[order],
        np.concatenate(hits, axis=1)[:, order],
        np.concatenate(ignoreds, axis=1)[:, order],
        wanted,
    )


def _fates(pair: Pair, out: Flags) -> tuple[Flags, Flags]:
    """(hit, ignored), each (T, D). Boxes that are `out` come last, when no other one is left."""
    hit = np.zeros((len(IOU_THRESHOLDS), len(pair.scores)), bool)
    ignored = np.zeros_like(hit)
    order = np.argsort(out, kind="mergesort")
    overlap = pair.overlap[:, order]
    near = np.flatnonzero((overlap >= IOU_THRESHOLDS[0]).any(axis=1))  # the rest find nothing
    rows, outs, crowds = overlap[near].tolist(), out[order].tolist(), pair.crowd[order].tolist()
    for t, threshold in enumerate(IOU_THRESHOLDS.tolist()):
        for detection, box in zip(near, _assigned(rows, outs, crowds, threshold), strict=True):
            if box >= 0:
                hit[t, detection], ignored[t, detection] = True, outs[box]
    return hit, ignored


def _assigned(
    rows: list[list[float]], outs: list[bool], crowds: list[bool], threshold: float
) -> list[int]:
    """For each detection, best first, the box that it takes, -1 for none.

    Each takes what it overlaps most of the boxes left; crowds are never used up.
    """
    taken = [False] * len(outs)
    answer = []
    for row in rows:
        least, chosen = min(threshold, 1 - 1e-10), -1
        for box, overlap in enumerate(row):
            if taken[box] and not crowds[box]:
                continue
            if chosen >= 0 and outs[box] and not outs[chosen]:
                break  # boxes that are out come last
            if overlap >= least:
                least, chosen = overlap, box
        if chosen >= 0:
            taken[chosen] = True
        answer.append(chosen)
    return answer


def interpolated(hit: Flags, wanted: float, weights: Floats | None = None) -> tuple[Floats, float]:
    """(precision at RECALLS, the recall reached) of detections, best first, none ignored.

    hit: bool (N,). weights: (N,), how often each counts, once by default.
    """
    if len(hit) == 0:
        return np.zeros(len(RECALLS)), 0.0
    right = np.cumsum(hit if weights is None else weights * hit, dtype=np.float64)
    wrong = np.cumsum(~hit if weights is None else weights * ~hit, dtype=np.float64)
    precision = right / (wrong + right + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = right / wanted
    at = np.searchsorted(recall, RECALLS, side="left")
    reached = at < len(recall)
    values = np.where(reached, precision[np.minimum(at, len(recall) - 1)], 0.0)
    return values, float(recall[-1])


def scored(by_class: Sequence[Matches]) -> dict[str, float]:
    """{"ap", "ap50", "ap75", "ar", "boxes"}: means over the classes that have boxes, else NaN."""
    precisions, recalls = [], []
    for matches in by_class:
        wanted = int(matches.wanted.sum())
        if wanted == 0:
            continue
        for hit, ignored in zip(matches.hit, matches.ignored, strict=True):
            precision, recall = interpolated(hit[~ignored], wanted)
            precisions.append(float(precision.mean()))
            recalls.append(recall)
    boxes = sum(int(matches.wanted.sum()) for matches in by_class)
    if not precisions:
        return {**dict.fromkeys(("ap", "ap50", "ap75", "ar"), float("nan")), "boxes": boxes}
    table = np.reshape(precisions, (-1, len(IOU_THRESHOLDS)))
    return {
        "ap": float(table.mean()),
        "ap50": float(table[:, 0].mean()),
        "ap75": float(table[:, 5].mean()),
        "ar": float(np.mean(recalls)),
        "boxes": boxes,
    }
