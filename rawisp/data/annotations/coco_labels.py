"""COCO detection JSON as labels to train on: rows that cannot be used are left out and named.

`coco.py` reads the same files to write them again, so it refuses what this one passes over.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from rawisp.data.annotations.coco import Json, read_document
from rawisp.data.annotations.judge import Evidence, judge
from rawisp.data.annotations.labels import LabelSet, name_of, raw_suffix_of
from rawisp.data.annotations.rows import Box, BoxRows, Classes, ProblemList, finite, short
from rawisp.errors import AnnotationError, display_path

Id = int | str
Value = TypeVar("Value")

# What is geometry or an id; everything else an annotation says is kept as an attribute.
_NO_ATTRIBUTES = frozenset(
    ("id", "image_id", "category_id", "bbox", "area", "segmentation", "keypoints", "num_keypoints")
)


def read_coco_labels(path: str, *, root: str | None = None) -> LabelSet:
    """The boxes of a COCO file. AnnotationError when it cannot be read at all.

    root: file names that are absolute become relative to it where they lie below it.
    """
    document = read_document(path)
    problems = ProblemList(path)
    names, class_of = _categories(document.get("categories"), problems)
    if document["annotations"] and not names:
        raise AnnotationError(
            f'{display_path(path)}: lists no categories; add "categories", each with id and name'
        )
    images = _images(document["images"], problems)
    numbers = _Lookup({image["id"]: number for number, image in images.items()})
    rows: dict[int, list[tuple[str, Json]]] = defaultdict(list)
    named = {image["id"] for image in document["images"] if _has_id(image)}
    for place, annotation in _annotations(document["annotations"], problems):
        identity = annotation.get("image_id")
        number = numbers.find(identity)
        if number is not None:
            rows[number].append((place, annotation))
        elif not (_is_id(identity) and identity in named):  # else its image was left out, as said
            problems.wrong(place, f"no image has its image_id {short(repr(identity))}")
    labeled = []
    evidence = Evidence()
    for number, image in images.items():
        boxes = BoxRows((int(image["width"]), int(image["height"])), problems)
        for place, annotation in rows[number]:
            _add(boxes, place, annotation, class_of, evidence)
        name = name_of(_relative(image["file_name"], root))
        one = boxes.image(name, image["id"], place=f"images[{number}]")
        if one is not None:
            suffix, others = raw_suffix_of(image["file_name"]), _other_names(image)
            labeled.append(replace(one, suffix=suffix, other_names=others))
    judge(path, evidence, "xywh")
    _say_what_was_mended(document["annotations"], numbers, class_of, problems)
    return LabelSet(path, "COCO", names, tuple(labeled), tuple(problems.problems))


class _Lookup(Generic[Value]):
    """Values by id. An id that is text where the other side has numbers is found all the same."""

    def __init__(self, values: Mapping[Id, Value]) -> None:
        self._values = values
        self._by_text = {str(key): value for key, value in values.items()}
        self.by_text = 0  # how many were found that way

    def find(self, key: Any) -> Value | None:
        if not _is_id(key):
            return None
        if key in self._values:
            return self._values[key]
        value = self._by_text.get(str(key))
        self.by_text += value is not None
        return value


def _is_id(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int | str) and not isinstance(value, bool)


def _has_id(entry: Any) -> bool:
    return isinstance(entry, dict) and _is_id(entry.get("id"))


def _categories(listed: Any, problems: ProblemList) -> tuple[tuple[str, ...], _Lookup[int]]:
    """The names in the file's order, and the index of each category id."""
    classes = Classes()
    index_of: dict[Id, int] = {}
    for number, category in enumerate(listed if isinstance(listed, list) else []):
        place = f"categories[{number}]"
        name = category.get("name") if isinstance(category, dict) else None
        if not isinstance(name, int | str) or isinstance(name, bool) or not str(name).strip():
            problems.wrong(place, "has no name; boxes of it are left out")
            continue
        if not _has_id(category):
            problems.wrong(place, f"{short(name)} has no id; boxes of it are left out")
            continue
        known = len(classes.names)
        index = classes.index(str(name).strip())
        other = index_of.setdefault(category["id"], index)
        if other != index:
            problems.wrong(
                place,
                f"its id {short(category['id'])} is {short(classes.names[other])}'s already; boxes "
                f"of that id are taken as {short(classes.names[other])}",
            )
        elif index < known:
            problems.mended(place, f"a second category called {short(name)}; taken as the same")
    return classes.names, _Lookup(index_of)


def _images(entries: list[Any], problems: ProblemList) -> dict[int, Json]:
    """The image entries that can be used, by their number."""
    shared = _shared_ids(entries)
    usable: dict[int, Json] = {}
    first: dict[Id, int] = {}
    for number, image in enumerate(entries):
        place = f"images[{number}]"
        complaint = _complaint(image)
        if complaint:
            problems.wrong(place, f"{complaint}; left out, with its boxes")
        elif image["id"] in shared:
            problems.wrong(
                place,
                f"its id {short(repr(image['id']))} is given to {shared[image['id']]} images; all "
                "are left out, since nobody can tell whose the boxes are",
            )
        elif image["id"] in first:
            problems.mended(place, f"repeats images[{first[image['id']]}]; taken once")
        else:
            first[image["id"]] = number
            usable[number] = image
    return usable


def _shared_ids(entries: list[Any]) -> dict[Id, int]:
    """Ids that different images have, and how many."""
    named = defaultdict(set)
    for image in entries:
        if _has_id(image):
            named[image["id"]].add(str(image.get("file_name")))
    return {key: len(names) for key, names in named.items() if len(names) > 1}


def _complaint(image: Any) -> str:
    """What makes an image entry unusable, "" if nothing does."""
    if not isinstance(image, dict):
        return "is no object"
    for key in ("id", "file_name", "width", "height"):
        if key not in image:
            return f'has no "{key}"'
    if not _is_id(image["id"]):
        return f"its id {short(repr(image['id']))} is neither a whole number nor text"
    if not isinstance(image["file_name"], str) or not image["file_name"].strip():
        return f"its file_name {short(repr(image['file_name']))} is no name"
    for key in ("width", "height"):
        value = finite(image[key])
        if value is None or value < 1 or not value.is_integer():
            return f"its {key} {short(repr(image[key]))} is no whole number above 0"
    return ""


def _annotations(entries: list[Any], problems: ProblemList) -> list[tuple[str, Json]]:
    usable = []
    for number, annotation in enumerate(entries):
        place = f"annotations[{number}]"
        if isinstance(annotation, dict):
            usable.append((place, annotation))
        else:
            problems.wrong(place, "is no object; left out")
    return usable


def _add(
    boxes: BoxRows, place: str, annotation: Json, class_of: _Lookup[int], evidence: Evidence
) -> None:
    if "bbox" not in annotation:
        boxes.refuse(place, 'has no "bbox"')
        return
    box = _box(annotation["bbox"])
    if box is None:
        boxes.refuse(
            place, f"its bbox {short(repr(annotation['bbox']))} is not four finite numbers"
        )
        return
    evidence.add(box, boxes.size)
    label = class_of.find(annotation.get("category_id"))
    if label is None:
        listed = short(repr(annotation.get("category_id")))
        boxes.refuse(place, f"its category_id {listed} is not among the categories listed")
        return
    attributes = {key: value for key, value in annotation.items() if key not in _NO_ATTRIBUTES}
    more = annotation.get("attributes")
    degrees = finite(more.get("rotation")) if isinstance(more, dict) else None
    boxes.add_rotated(place, box, label, attributes, degrees or 0.0)


def _box(value: Any) -> Box | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    numbers = [number for number in map(finite, value) if number is not None]
    return (numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == 4 else None


def _other_names(image: Json) -> tuple[str, ...]:
    """Roboflow keeps the name of before its export in extra.name."""
    extra = image.get("extra")
    name = extra.get("name") if isinstance(extra, dict) else None
    return (name_of(name),) if isinstance(name, str) and name.strip() else ()


def _relative(file_name: str, root: str | None) -> str:
    if root is None or not os.path.isabs(file_name):
        return file_name
    relative = os.path.relpath(file_name, os.path.abspath(root))
    return file_name if relative.startswith("..") else relative


def _say_what_was_mended(
    entries: list[Any], images: _Lookup[int], classes: _Lookup[int], problems: ProblemList
) -> None:
    """Habits of a file, once each rather than for every row."""
    for key, lookup in (("image_id", images), ("category_id", classes)):
        if lookup.by_text:
            problems.mended(
                "annotations",
                f"{lookup.by_text} have a {key} that is text where the other side has a number, or "
                "the reverse; taken as the same",
            )
    ids = Counter(entry["id"] for entry in entries if _has_id(entry))
    twice = [key for key, count in ids.items() if count > 1]
    if twice:
        problems.mended(
            "annotations",
            f"{len(twice)} ids occur more than once (first {short(repr(twice[0]))}); boxes are not "
            "told apart by them",
        )
