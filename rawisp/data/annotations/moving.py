"""Entries of annotation files, moved to the pixels of the pictures that were made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from rawisp.data.annotations.coco import Json
from rawisp.data.annotations.entries import Entry
from rawisp.geometry import Affine, clip_boxes

COUNTED = ("images", "boxes", "empty_boxes_dropped", "masks_dropped")


@dataclass(frozen=True)
class MovedImage:
    """A picture with its objects as COCO writes them, in its own pixels.

    output: the picture's name, relative to the output folder, with "/". file: which annotation
    file it is from. image: the image entry's own fields. objects without the ids of image and
    category; classes: the name of each one's category.
    """

    output: str
    file: str
    width: int
    height: int
    split: str | None
    image: Json
    objects: tuple[Json, ...]
    classes: tuple[str, ...]


def moved(
    entry: Entry,
    to_output: Affine,
    size: tuple[int, int],
    *,
    output: str,
    file: str,
    counts: Counter[str],
) -> MovedImage:
    """The entry in pixels of the picture `output` of `size` (width, height).

    to_output: from the entry's coordinates to the picture's. Boxes are cut to the picture; those
    with nothing left are dropped. An area that is not the box's own is scaled, polygons and
    keypoints move along, run-length masks are dropped. All of it is counted.
    """
    objects, classes = [], []
    counts["empty_boxes_dropped"] += entry.without_area
    there_boxes = to_output.boxes([one["bbox"] for one in entry.objects])
    boxes = clip_boxes(there_boxes, *size).tolist()
    for one, box, name in zip(entry.objects, boxes, entry.classes, strict=True):
        x, y, width, height = (_short(value) for value in box)
        if width <= 0 or height <= 0:
            counts["empty_boxes_dropped"] += 1
            continue
        there = {"iscrowd": 0, **one, "bbox": [x, y, width, height]}
        own = width * height
        there["area"] = _short(one["area"] * to_output.area_scale if "area" in one else own)
        _move_shapes(there, to_output, counts)
        objects.append(there)
        classes.append(name)
    counts["images"] += 1
    counts["boxes"] += len(objects)
    return MovedImage(output, file, *size, entry.split, entry.image, tuple(objects), tuple(classes))


def _move_shapes(there: Json, to_output: Affine, counts: Counter[str]) -> None:
    segmentation = there.get("segmentation")
    if isinstance(segmentation, dict):
        del there["segmentation"]
        counts["masks_dropped"] += 1
    elif isinstance(segmentation, list):
        there["segmentation"] = [
            [_short(v) for v in to_output.points(np.reshape(polygon, (-1, 2))).ravel()]
            for polygon in segmentation
        ]
    keypoints = there.get("keypoints")
    if isinstance(keypoints, list):
        points = np.reshape(np.asarray(keypoints, dtype=np.float64), (-1, 3))
        labelled = points[:, 2] != 0  # COCO writes those that are not as 0, 0, 0
        points[labelled, :2] = to_output.points(points[labelled, :2])
        there["keypoints"] = [_short(v) for v in points.ravel()]


def _short(value: Any) -> float:
    return round(float(value), 4)
