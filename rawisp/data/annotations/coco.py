"""The reader of COCO detection JSON: every field is judged here, once, for whoever uses it.

Training and validation take the labels; `enhance` takes the entries behind them, too, to write them
again with all that they say. Rows that cannot be used are left out and named; ids may be numbers or
text, categories sparse, `info` and `licenses` missing.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from rawisp.data.annotations.judge import Evidence, judge
from rawisp.data.annotations.labels import LabelSet, name_of, raw_suffix_of
from rawisp.data.annotations.rows import Box, BoxRows, Classes, ProblemList, finite, short
from rawisp.data.annotations.text import read_text
from rawisp.errors import AnnotationError, display_path

Json = dict[str, Any]
Id = int | str
Value = TypeVar("Value")

MAX_BYTES = 2 << 30  # COCO's own training set has 0.45 GB; Python takes some five times the text

# What is geometry or an id; everything else an annotation says is kept as an attribute.
_NO_ATTRIBUTES = frozenset(
    ("id", "image_id", "category_id", "bbox", "area", "segmentation", "keypoints", "num_keypoints")
)


@dataclass(frozen=True)
class CocoFile:
    """A COCO file that was read.

    labels: what can be used of it. document: as it was read. images, annotations: the entries that
    `labels` uses, by their place ("images[3]"), with shapes and areas that cannot be used taken
    out. categories: the first entry of each class, by its index. without_area: how many boxes
    without an area were left out, by their image's place.
    """

    labels: LabelSet
    document: Json
    images: dict[str, Json] = field(default_factory=dict)
    annotations: dict[str, Json] = field(default_factory=dict)
    categories: tuple[Json, ...] = ()
    without_area: Counter[str] = field(default_factory=Counter)


def read_coco(path: str, *, root: str | None = None) -> CocoFile:
    """Reads a COCO detection file. AnnotationError when it cannot be read at all.

    root: file names that are absolute become relative to it where they lie below it.
    """
    document = read_document(path)
    problems = ProblemList(path)
    classes, class_of = _classes(document, problems)
    if document["annotations"] and not classes:
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
        elif not (is_id(identity) and identity in named):  # else its image was left out, as said
            problems.wrong(place, f"no image has its image_id {short(repr(identity))}")
    labeled = []
    evidence = Evidence()
    coco_images: dict[str, Json] = {}
    kept: dict[str, Json] = {}
    without_area: Counter[str] = Counter()
    for number, image in images.items():
        boxes = BoxRows((int(image["width"]), int(image["height"])), problems)
        for place, annotation in rows[number]:
            _add(boxes, place, annotation, class_of, evidence)
        name = name_of(_relative(image["file_name"], root))
        one = boxes.image(name, image["id"], place=f"images[{number}]")
        if one is None:
            continue
        suffix, others = raw_suffix_of(image["file_name"]), _other_names(image)
        labeled.append(replace(one, suffix=suffix, other_names=others))
        coco_images[one.place] = image
        used = set(one.where)
        for place, annotation in rows[number]:
            if place in used:
                kept[place] = _usable_shapes(place, annotation, problems)
            else:
                without_area[one.place] += _has_no_area(_box(annotation.get("bbox")))
    judge(path, evidence, "xywh")
    _say_what_was_mended(document["annotations"], numbers, class_of, problems)
    names = tuple(str(entry["name"]).strip() for entry in classes)
    labels = LabelSet(path, "COCO", names, tuple(labeled), tuple(problems.problems))
    return CocoFile(labels, document, coco_images, kept, classes, without_area)


def read_document(path: str) -> Json:
    """The JSON of a COCO detection file, with its two lists; their entries are not looked at."""
    shown = display_path(path)
    try:
        document = json.loads(read_text(path, MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{shown}: is no JSON ({short(error, 80)})") from None
    except MemoryError:
        raise AnnotationError(f"{shown}: does not fit into memory; split it") from None
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), list) for key in ("images", "annotations")
    ):
        raise AnnotationError(
            f'{shown}: is no COCO detection file; it needs the lists "images" and "annotations"'
        )
    return document


class _Lookup(Generic[Value]):
    """Values by id. An id that is text where the other side has numbers is found all the same."""

    def __init__(self, values: Mapping[Id, Value]) -> None:
        self._values = values
        self._by_text = {str(key): value for key, value in values.items()}
        self.by_text = 0  # how many were found that way

    def find(self, key: Any) -> Value | None:
        if not is_id(key):
            return None
        if key in self._values:
            return self._values[key]
        value = self._by_text.get(str(key))
        self.by_text += value is not None
        return value


def is_id(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int | str) and not isinstance(value, bool)


def _has_id(entry: Any) -> bool:
    return isinstance(entry, dict) and is_id(entry.get("id"))


def _classes(document: Json, problems: ProblemList) -> tuple[tuple[Json, ...], _Lookup[int]]:
    """The first entry of each class, in the file's order, and the class index by category id."""
    if "categories" not in document:
        return _unnamed_classes(document["annotations"], problems)
    listed = document["categories"]
    classes = Classes()
    entries: list[Json] = []
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
        index = classes.index(str(name).strip())
        known = index < len(entries)
        if not known:
            entries.append(category)
        other = index_of.setdefault(category["id"], index)
        if other != index:
            problems.wrong(
                place,
                f"its id {short(category['id'])} is {short(classes.names[other])}'s already; boxes "
                f"of that id are taken as {short(classes.names[other])}",
            )
        elif known:
            problems.mended(place, f"a second category called {short(name)}; taken as the same")
    return tuple(entries), _Lookup(index_of)


def _unnamed_classes(
    annotations: list[Any], problems: ProblemList
) -> tuple[tuple[Json, ...], _Lookup[int]]:
    """As a YOLO folder without names: classes are called by their numbers."""
    ids: set[Id] = {
        one["category_id"]
        for one in annotations
        if isinstance(one, dict) and is_id(one.get("category_id"))
    }
    ordered = sorted(ids, key=lambda value: (isinstance(value, str), value))
    if ordered:
        problems.mended("", "lists no categories; classes are called by their ids")
    entries = tuple({"id": value, "name": str(value)} for value in ordered)
    return entries, _Lookup({value: index for index, value in enumerate(ordered)})


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
    if not is_id(image["id"]):
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
    boxes.add_rotated(place, box, label, attributes, _rotation(annotation))


def _rotation(annotation: Json) -> float:
    """Degrees by which CVAT's rectangle is turned."""
    more = annotation.get("attributes")
    return (finite(more.get("rotation")) if isinstance(more, dict) else None) or 0.0


def _other_names(image: Json) -> tuple[str, ...]:
    """Roboflow keeps the name of before its export in extra.name."""
    extra = image.get("extra")
    name = extra.get("name") if isinstance(extra, dict) else None
    return (name_of(name),) if isinstance(name, str) and name.strip() else ()


def _box(value: Any) -> Box | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    numbers = [number for number in map(finite, value) if number is not None]
    return (numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == 4 else None


def _usable_shapes(place: str, annotation: Json, problems: ProblemList) -> Json:
    """The entry without polygons and keypoints that are none; its box is used all the same."""
    kept = dict(annotation)
    polygons = annotation.get("segmentation")
    if isinstance(polygons, dict):
        good = True  # a run-length mask
    else:
        good = polygons is None or (isinstance(polygons, list) and all(map(_is_polygon, polygons)))
    if not good:
        del kept["segmentation"]
        problems.mended(
            place, "its segmentation is no list of polygons [x, y, x, y, ...]; left out"
        )
    keypoints = annotation.get("keypoints")
    if keypoints is not None and not (_are_numbers(keypoints) and len(keypoints) % 3 == 0):
        del kept["keypoints"]
        kept.pop("num_keypoints", None)
        problems.mended(place, "its keypoints are no numbers [x, y, v, x, y, v, ...]; left out")
    if "area" in kept and finite(kept["area"]) is None:
        del kept["area"]  # the box's own stands in for it
    if _rotation(annotation):  # the box is the upright one around it from here on
        kept["attributes"] = {**kept["attributes"], "rotation": 0.0}
    return kept


def _is_polygon(value: Any) -> bool:
    return _are_numbers(value) and len(value) % 2 == 0


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(finite(value) is not None for value in values)


def _has_no_area(box: Box | None) -> bool:
    """As `BoxRows.add` tells it."""
    if box is None or min(box[2:]) < 0:
        return False
    x, y, width, height = box
    return x + width == x or y + height == y


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
