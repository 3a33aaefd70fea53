"""Which classes are evaluated: those that the detector can tell apart, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rawisp.data.prepared import PreparedImage
from rawisp.detect.categories import CategoryMap
from rawisp.evaluation.events import Voice


@dataclass(frozen=True)
class Scope:
    """images: by input colour, the same photographs with the boxes of `categories` only.

    boxes: to be found; ignored: crowds and difficult ones. left_out: {class that the detector does
    not know: its boxes}.
    """

    images: dict[str, list[PreparedImage]]
    categories: CategoryMap
    count: int
    boxes: int
    ignored: int
    left_out: dict[str, int]


def scope_of(
    images: dict[str, list[PreparedImage]], categories: CategoryMap, voice: Voice
) -> Scope:
    """Leaves out classes without a label, and joins those that share one ("person/pedestrian").

    A detector that calls both the same cannot be asked which is which; by name, one of them would
    never be found.
    """
    joined, table = _joined(categories)
    first = next(iter(images.values()))
    left_out = {
        name: sum(int((image.classes == index).sum()) for image in first)
        for index, name in enumerate(categories.categories)
        if table[index] < 0 and name not in categories.unused
    }
    kept = {color: [_restricted(image, table) for image in each] for color, each in images.items()}
    mine = next(iter(kept.values()))
    for name, boxes in left_out.items():
        voice.note(f"the detector does not know {name}; its {boxes} boxes are left out", keep=True)
    for name in joined.categories:
        if name not in categories.categories:
            voice.note(f"{name} are one class to the detector, and evaluated as one", keep=True)
    ignored = sum(int(image.ignore.sum()) for image in mine)
    boxes = sum(len(image.boxes) for image in mine) - ignored
    if not boxes:
        voice.note(
            "there are no boxes to be found in these photographs, so there is no precision",
            keep=True,
        )
    return Scope(kept, joined, len(first), boxes, ignored, left_out)


def _joined(categories: CategoryMap) -> tuple[CategoryMap, npt.NDArray[np.int64]]:
    """(categories with different labels, the new class of each old one, -1 for none)."""
    labels = [label for label in dict.fromkeys(categories.labels.tolist()) if label >= 0]
    names = ["/".join(_of_label(categories, label)) for label in labels]
    table = [labels.index(label) if label >= 0 else -1 for label in categories.labels.tolist()]
    new = CategoryMap(tuple(names), np.array(labels, np.int64))
    return new, np.array(table, np.int64)


def _of_label(categories: CategoryMap, label: int) -> Sequence[str]:
    pairs = zip(categories.categories, categories.labels.tolist(), strict=True)
    return [name for name, other in pairs if other == label]


def _restricted(image: PreparedImage, table: npt.NDArray[np.int64]) -> PreparedImage:
    classes = table[image.classes]
    keep = classes >= 0
    kept = zip(image.attributes, keep, strict=True) if len(image.attributes) == len(keep) else ()
    return replace(
        image,
        boxes=image.boxes[keep],
        classes=classes[keep],
        ignore=image.ignore[keep],
        attributes=tuple(attributes for attributes, wanted in kept if wanted),
    )
