"""Average precision on the boxes that have an attribute: a flag of the annotations, or a size.

Boxes without it are ignored: neither to be found, nor wrong when found. Detections that find no
box at all have no attribute and count as wrong for each: compare renderings, not attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rawisp.data.prepared import PreparedImage
from rawisp.evaluation.average_precision import Truth
from rawisp.evaluation.matches import Flags, Pair, box_areas, matched, scored

# COCO's limits of the area in square pixels, both ends included.
SIZES = {
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
# Boxes with these are ignored throughout.
_NOT_ATTRIBUTES = frozenset(("iscrowd", "difficult", "ignore"))
# What takes more values than this is a number or a text of each box, not a group of boxes.
_MOST_VALUES = 8

Masks = list[Flags]


def masks_of_attributes(images: Sequence[PreparedImage]) -> dict[str, Masks]:
    """For each attribute and image, bool (boxes,): which boxes have it.

    Flags (true or false, 1 or 0) are called as they are; of texts and whole numbers with few values
    each value is an attribute, "pose=left". Entries of a table "attributes" (as CVAT writes them)
    count like those beside it.
    """
    rows = [[_flat(one) for one in image.attributes] for image in images]
    values: dict[str, set[Any]] = {}
    for row in rows:
        for box in row:
            for name, value in box.items():
                values.setdefault(name, set()).add(value)
    masks = {}
    for name in sorted(values):
        for called, wanted in _groups(name, values[name]):
            each = [
                _mask(image, row, name, wanted) for image, row in zip(images, rows, strict=True)
            ]
            if any(mask.any() for mask in each):
                masks[called] = each
    return masks


def _flat(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Values that can be compared, by name."""
    inner = attributes.get("attributes")
    merged = {**attributes, **(inner if isinstance(inner, dict) else {})}
    return {
        str(name): value
        for name, value in merged.items()
        if isinstance(value, bool | int | str) and name not in _NOT_ATTRIBUTES
    }


def _groups(name: str, values: set[Any]) -> list[tuple[str, Any]]:
    """(what the group is called, its value)."""
    safe = name if name not in SIZES else f"flag {name}"
    if values <= {True, False}:  # also 1 and 0
        return [(safe, True)]
    if len(values) > _MOST_VALUES:
        return []
    return [(f"{safe}={value}", value) for value in sorted(values, key=str)]


def _mask(image: PreparedImage, row: Sequence[dict[str, Any]], name: str, wanted: Any) -> Flags:
    if len(row) != len(image.boxes):
        return np.zeros(len(image.boxes), bool)
    return np.array([box.get(name) == wanted for box in row], bool)


def by_attribute(
    truths: Sequence[Truth], pairs: Sequence[Sequence[Pair]], masks: Mapping[str, Masks]
) -> dict[str, dict[str, float]]:
    """{attribute: {"ap", "ap50", "ap75", "ar", "boxes"}}; the three sizes first.

    Sizes are of the boxes in `truths`, in pixels of the evaluated image; as in COCO, detections of
    another size that find nothing are not wrong. pairs: by class, of `pairs_of`.
    """
    rows = {}
    areas = [box_areas(truth.boxes) for truth in truths]
    for name, limits in SIZES.items():
        aside = [(area < limits[0]) | (area > limits[1]) for area in areas]
        rows[name] = scored([matched(one, len(truths), aside, limits) for one in pairs])
    for name, each in masks.items():
        aside = [~mask for mask in each]
        rows[name] = scored([matched(one, len(truths), aside) for one in pairs])
    return {name: row for name, row in rows.items() if row["boxes"]}
