"""Annotation files of three formats -> one form in memory, `LabelSet`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rawisp.data.annotations.labels import LabelSet


def read_annotations(path: str | os.PathLike[str], *, root: str | None = None) -> LabelSet:
    """Reads a COCO .json, a VOC .xml or a folder of them, a YOLO data.yaml or a folder of .txt.

    root: the folder that names are made relative to (default: the annotated folder itself). Rows
    that cannot be used are left out and become `LabelSet.problems`; AnnotationError for what cannot
    be read at all, in one sentence that names the file.
    """
    from rawisp.data.annotations.formats import reader_of

    name = os.fspath(path)
    return reader_of(name)(name, root=root)
