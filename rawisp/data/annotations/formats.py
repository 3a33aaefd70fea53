"""Which of the three formats a file or folder is in."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Protocol

from rawisp.data.annotations.coco_labels import read_coco_labels
from rawisp.data.annotations.labels import LabelSet
from rawisp.data.annotations.voc import read_voc
from rawisp.data.annotations.yolo import is_label_file, read_yolo
from rawisp.errors import AnnotationError, InputError, display_path
from rawisp.raw import open_regular_file
from rawisp.raw.files import Search, find_sources, suffix_of

ANNOTATION_SUFFIXES = frozenset([".json", ".xml", ".txt", ".yaml", ".yml"])
_YAML = (".yaml", ".yml")
# What COCO calls its other tasks on the photographs of instances_val2017.json.
_TASK = re.compile(r"(person_keypoints|stuff|panoptic)_")
_CHUNK, _OVERLAP = 1 << 20, 32  # bytes
_OUR_YAML = b"# Written by rawisp"
_KNOWN = "a COCO .json, VOC .xml, YOLO data.yaml, or a folder of .xml or .txt"


class Reader(Protocol):
    """What each format's reader is."""

    def __call__(self, path: str, *, root: str | None = None) -> LabelSet:
        """The labels; AnnotationError."""
        ...


def reader_of(path: str) -> Reader:
    """The reader for what is named. AnnotationError when it is of no known kind."""
    suffix = suffix_of(path)
    if os.path.isdir(path):
        return _reader_of_folder(path)
    if not os.path.lexists(path):
        raise AnnotationError(f"{display_path(path)}: there is no such annotation file")
    if suffix == ".json":
        return read_coco_labels
    if suffix == ".xml":
        return read_voc
    if suffix in _YAML:
        return read_yolo
    if suffix == ".txt":
        raise AnnotationError(
            f"{display_path(path)}: is one text; name the folder of YOLO labels, or its data.yaml"
        )
    raise AnnotationError(f"{display_path(path)}: is no annotation file; name {_KNOWN}")


def _reader_of_folder(folder: str) -> Reader:
    """VOC if there is any, else YOLO, by its data.yaml if it has one, else the one COCO file."""
    kinds = Kinds(folder)
    if kinds.voc:
        return read_voc
    if configs := kinds.yaml or [name for name in kinds.ours if suffix_of(name) in _YAML]:
        name = configs[0]
        return lambda path, root=None: read_yolo(name, root=root or path)
    if kinds.texts:
        return read_yolo
    if len(kinds.coco) == 1:
        name = kinds.coco[0]
        return lambda path, root=None: read_coco_labels(name, root=root)
    if kinds.coco:
        listed = " and ".join(display_path(name) for name in kinds.coco[:2])
        raise AnnotationError(
            f"{display_path(folder)}: holds {len(kinds.coco)} COCO files ({listed}, ...); name one"
        )
    raise AnnotationError(f"{display_path(folder)}: holds no annotations; name {_KNOWN}")


class Kinds:
    """Annotation files below a folder, by format, told from their first bytes.

    ours: COCO and YOLO files that rawisp wrote, in the pixels of its outputs; siblings: COCO's
    files of captions, and of keypoints or surfaces where the objects of the same photographs have
    a file of their own; texts: those that may be YOLO labels by name; other: no annotation file.
    """

    def __init__(self, folder: str, search: Search | None = None) -> None:
        self.coco: list[str] = []
        self.ours: list[str] = []
        self.siblings: list[str] = []
        self.voc: list[str] = []
        self.yaml: list[str] = []
        self.texts: list[str] = []
        self.other: list[str] = []
        for source in find_sources([folder], ANNOTATION_SUFFIXES, search=search).sources:
            self._kind_of(source.path).append(source.path)
        objects = {path for path in self.coco if _TASK.match(os.path.basename(path)) is None}
        for path in [path for path in self.coco if path not in objects]:
            if _objects_beside(path) in objects:
                self.coco.remove(path)
                self.siblings.append(path)

    def _kind_of(self, path: str) -> list[str]:
        suffix = suffix_of(path)
        if suffix == ".txt":
            return self.texts if is_label_file(path) else self.other
        if suffix == ".json":
            return self._kind_of_json(path)
        kind = self.voc if suffix == ".xml" else self.yaml
        mark = rb"<annotation[\s>]" if suffix == ".xml" else rb"(?m)^(names|nc)\s*:"
        head = next(_chunks(path), b"")
        if suffix in _YAML and head.startswith(_OUR_YAML):
            return self.ours
        return kind if re.search(mark, head) else self.other

    def _kind_of_json(self, path: str) -> list[str]:
        """COCO is told by the names of its two lists, which may be anywhere in the file.

        Its captions have them, too, and no boxes.
        """
        captions = boxes = False
        wanted = [b'"images"', b'"annotations"']
        for number, chunk in enumerate(_chunks(path)):
            if number == 0 and re.match(rb'(\xef\xbb\xbf)?\s*\{\s*"rawisp"\s*:', chunk):
                return self.ours
            wanted = [key for key in wanted if key not in chunk]
            captions, boxes = captions or b'"caption"' in chunk, boxes or b'"bbox"' in chunk
            if not wanted and (boxes or captions):
                return self.coco if boxes else self.siblings
        return self.other if wanted else self.coco


def _objects_beside(path: str) -> str:
    """person_keypoints_val2017.json -> instances_val2017.json"""
    folder, name = os.path.split(path)
    return os.path.join(folder, _TASK.sub("instances_", name))


def _chunks(path: str) -> Iterator[bytes]:
    """The file in overlapping pieces, as ASCII where it is UTF-16; none if it cannot be read."""
    before = b""
    try:
        with open_regular_file(path) as file:
            while chunk := file.read(_CHUNK):
                chunk = chunk.replace(b"\0", b"")
                yield before + chunk
                before = chunk[-_OVERLAP:]
    except (OSError, InputError):
        return
