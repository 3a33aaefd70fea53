"""COCO detection JSON as labels to train on; `coco.py` reads it."""

from __future__ import annotations

from rawisp.data.annotations.coco import read_coco
from rawisp.data.annotations.labels import LabelSet


def read_coco_labels(path: str, *, root: str | None = None) -> LabelSet:
    """The boxes of a COCO file. AnnotationError when it cannot be read at all.

    root: file names that are absolute become relative to it where they lie below it.
    """
    return read_coco(path, root=root).labels
