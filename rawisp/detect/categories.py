"""From a data set's classes to a detector's labels and back, by name, in one explicit object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rawisp.detect.base import Guide
from rawisp.errors import UsageError

# What data sets of driving call COCO's classes.
SYNONYMS = {
    "pedestrian": "person",
    "people": "person",
    "bike": "bicycle",
    "motorbike": "motorcycle",
}


@dataclass(frozen=True)
class CategoryMap:
    """categories: of the data set. labels: int64 (C,), the guide's label of each, -1 for none.

    unused: categories that no box of the data set is of; they have no label.
    """

    categories: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    unused: tuple[str, ...] = ()

    @property
    def unknown(self) -> list[str]:
        """Categories that boxes are of and that the detector does not know."""
        pairs = zip(self.categories, self.labels, strict=True)
        return [name for name, label in pairs if label < 0 and name not in self.unused]

    def classes_of(self, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The data set's class of each label, -1 for labels that it does not have."""
        largest = max(int(self.labels.max(initial=0)), int(labels.max(initial=0)))
        table = np.full(largest + 1, -1, np.int64)
        for index, label in enumerate(self.labels):
            if label >= 0:
                table[label] = index
        return table[labels]


def category_map(
    categories: Sequence[str], guide: Guide, unused: Sequence[str] = ()
) -> CategoryMap:
    """By name, case aside, also through SYNONYMS. UsageError when nothing fits at all.

    unused: categories that are listed and that no box is of; what a detector finds of them is
    passed over, as are its other labels.
    """
    labels = []
    for category in categories:
        label = guide.label_of(category) if category not in unused else -1
        if label is None:
            label = guide.label_of(SYNONYMS.get(category.strip().casefold(), ""))
        labels.append(-1 if label is None else label)
    used = [category for category in categories if category not in unused]
    if used and all(label < 0 for label in labels):
        known = [name for name in guide.categories if name is not None]
        raise UsageError(
            f"the detector knows none of the data's categories ({', '.join(used[:5])}); it "
            f"knows {', '.join(known[:5])}{', ...' if len(known) > 5 else ''}"
        )
    return CategoryMap(tuple(categories), np.asarray(labels, np.int64), tuple(unused))
