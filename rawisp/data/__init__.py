"""Annotated data: reading annotations, moving boxes along with images, finding data sets.

dataset = find_dataset("night_photos", val=0.1)
for sample in dataset.split("train"):
    sample.path, sample.labels.boxes, sample.labels.classes  # classes index dataset.categories
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rawisp.data.annotations import read_annotations
    from rawisp.data.annotations.labels import LabeledImage, LabelSet, Problem
    from rawisp.data.folder import DataSet, Sample, find_dataset

_HOME = {
    "DataSet": "rawisp.data.folder",
    "LabelSet": "rawisp.data.annotations.labels",
    "LabeledImage": "rawisp.data.annotations.labels",
    "Problem": "rawisp.data.annotations.labels",
    "Sample": "rawisp.data.folder",
    "find_dataset": "rawisp.data.folder",
    "read_annotations": "rawisp.data.annotations",
}

__all__ = [
    "DataSet",
    "LabelSet",
    "LabeledImage",
    "Problem",
    "Sample",
    "find_dataset",
    "read_annotations",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'rawisp.data' has no attribute {name!r}")
