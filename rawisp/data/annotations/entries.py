"""What annotation files say of single pictures, in one form whatever the format.

An `Entry` holds the objects of one picture as COCO writes them, with whole-number ids, so that they
can be kept beside the pictures, moved to other pixels, and written in any format.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from rawisp.data.annotations.coco import CocoFile, Json, read_coco
from rawisp.data.annotations.formats import reader_of
from rawisp.data.annotations.labels import LabeledImage, LabelSet
from rawisp.data.annotations.rows import finite
from rawisp.data.splits import split_of_file
from rawisp.errors import AnnotationError
from rawisp.raw.files import suffix_of

# Lists that are made anew, and the mark of files that rawisp wrote itself.
_NOT_CARRIED = frozenset(("images", "annotations", "categories", "rawisp"))
_OF_THE_FILE = frozenset(("file_name", "width", "height"))


@dataclass(frozen=True)
class Origin:
    """An annotation file or folder, and what it says of all its pictures.

    path: absolute. format: "COCO", "VOC" or "YOLO". categories: COCO's, with whole-number ids, the
    name of each different. top: the other keys of a COCO file ("info", "licenses").
    """

    path: str
    format: str
    categories: tuple[Json, ...] = ()
    top: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """What one annotation file says of one picture.

    size: (width, height) of the frame that the boxes were drawn on, None where the format does not
    say, and boxes are relative to it. split: "train", "val" or "test" where something says.
    image: the fields of COCO's image entry but its name and size. objects: COCO's annotations
    without the ids of image and category; "bbox" is x, y, width, height within the frame. classes:
    the name of each object's category.
    without_area: how many boxes were left out because they have no area.
    """

    size: tuple[int, int] | None
    split: str | None
    image: Json
    objects: tuple[Json, ...] = ()
    classes: tuple[str, ...] = ()
    without_area: int = 0

    def of_copy(self, copy: int, copies: int) -> Entry:
        """The entry of one of several pictures of one photograph: 7 becomes 7001, 7002, ..."""
        if copies == 1:
            return self
        objects = tuple({**one, "id": one["id"] * 1000 + copy} for one in self.objects)
        number = self.image["id"]
        image = {"original_id": number, **self.image, "id": number * 1000 + copy, "copy": copy}
        return replace(self, image=image, objects=objects)


@dataclass(frozen=True)
class Annotations:
    """An annotation file that was read: `entries` are those of `labels.images`, in that order."""

    labels: LabelSet
    origin: Origin
    entries: tuple[Entry, ...]


def read_entries(path: str) -> Annotations:
    """Reads whatever `read_annotations` reads. AnnotationError, also when nothing can be used."""
    coco = None
    if suffix_of(path) == ".json" and not os.path.isdir(path):
        coco = read_coco(path)
        labels = coco.labels
    else:
        labels = reader_of(path)(path)
        if labels.format == "COCO":  # the only one in a folder
            coco = read_coco(labels.path, root=path)
            labels = coco.labels
    wrong = [problem for problem in labels.problems if not problem.mended]
    if wrong and not labels.images:
        raise AnnotationError(f"{wrong[0]}; nothing else in it can be used either")
    return entries_of(labels, coco)


def entries_of(labels: LabelSet, coco: CocoFile | None = None) -> Annotations:
    """The entries of labels that were read; coco: the file behind them, if it is COCO's."""
    if coco is not None:
        return _coco_entries(coco)
    categories = _categories(labels)
    origin = Origin(os.path.abspath(labels.path), labels.format, categories)
    without_area = _without_area(labels)
    entries = []
    first = 1
    ids = integer_ids([image.id for image in labels.images])
    for number, (image, identity) in enumerate(zip(labels.images, ids, strict=True)):
        entries.append(_plain_entry(labels, image, identity, first, without_area[number]))
        first += len(image.boxes)
    return Annotations(labels, origin, tuple(entries))


def _categories(labels: LabelSet) -> tuple[Json, ...]:
    """Those of the COCO file that labels were read from, else numbered as COCO's begin."""
    if labels.format == "COCO":
        with suppress(AnnotationError):
            listed = _coco_categories(read_coco(labels.path))
            if tuple(entry["name"] for entry in listed) == labels.categories:
                return listed
    return tuple({"id": number, "name": name} for number, name in enumerate(labels.categories, 1))


def _coco_categories(coco: CocoFile) -> tuple[Json, ...]:
    ids = integer_ids([entry["id"] for entry in coco.categories])
    return tuple(
        {**_with_id(entry, number), "name": str(entry["name"]).strip()}
        for entry, number in zip(coco.categories, ids, strict=True)
    )


def _plain_entry(
    labels: LabelSet, image: LabeledImage, identity: int, first: int, without_area: int
) -> Entry:
    objects = []
    for row, box in enumerate(image.boxes.tolist()):
        attributes = dict(image.attributes[row]) if image.attributes else {}
        objects.append({**attributes, "id": first + row, "bbox": box})
    split = image.split or split_of_file(labels.path)
    # Names are the ids of the other formats, and file_name says them.
    original = {"original_id": image.id} if labels.format == "COCO" and image.id != identity else {}
    named: Json = {"id": identity, **original}
    return Entry(
        image.size, split, named, tuple(objects), _class_names(labels, image), without_area
    )


def _class_names(labels: LabelSet, image: LabeledImage) -> tuple[str, ...]:
    return tuple(labels.categories[number] for number in image.classes)


def _without_area(labels: LabelSet) -> Counter[int]:
    """How many boxes of each image were left out because they have no area."""
    number_of = {image.file: number for number, image in enumerate(labels.images)}
    return Counter(
        number_of[problem.file]
        for problem in labels.problems
        if problem.mended and "has no area" in problem.what and problem.file in number_of
    )


def _coco_entries(coco: CocoFile) -> Annotations:
    labels, document = coco.labels, coco.document
    categories = _coco_categories(coco)
    top = {key: value for key, value in document.items() if key not in _NOT_CARRIED}
    origin = Origin(os.path.abspath(labels.path), "COCO", categories, top)
    image_ids = _ids_by_place(document["images"], "images")
    # pycocotools takes a box with the id 0 for one that was not found.
    object_ids = _ids_by_place(document["annotations"], "annotations", least=1)
    split = split_of_file(labels.path)
    entries = []
    for image in labels.images:
        raw = _with_id(coco.images[image.place], image_ids[image.place])
        objects = []
        for place, box in zip(image.where, image.boxes, strict=True):
            annotation = _with_id(coco.annotations[place], object_ids[place])
            objects.append(_coco_object(annotation, box.tolist()))
        fields = {key: value for key, value in raw.items() if key not in _OF_THE_FILE}
        names, dropped = _class_names(labels, image), coco.without_area[image.place]
        entries.append(Entry(image.size, split, fields, tuple(objects), names, dropped))
    return Annotations(labels, origin, tuple(entries))


def _ids_by_place(entries: Sequence[Any], name: str, least: int | None = None) -> dict[str, int]:
    """Whole-number ids of a COCO list, by each entry's place; they depend on nothing else."""
    ids = [entry.get("id") if isinstance(entry, dict) else None for entry in entries]
    return {f"{name}[{n}]": number for n, number in enumerate(integer_ids(ids, least))}


def _with_id(entry: Json, number: int) -> Json:
    before = entry.get("id")
    if type(before) is int and before == number:
        return entry
    kept = {} if before is None or isinstance(before, float) else {"original_id": before}
    return {**entry, "id": number, **kept}


def _coco_object(annotation: Json, box: list[float]) -> Json:
    own = annotation["bbox"][2] * annotation["bbox"][3]
    kept = {k: v for k, v in annotation.items() if k not in ("image_id", "category_id")}
    if "area" in kept and math.isclose(kept["area"], own, rel_tol=1e-3):
        del kept["area"]  # the box's own, which is reckoned anew where it goes
    return {**kept, "bbox": box}


def integer_ids(ids: Sequence[Any], least: int | None = None) -> list[int]:
    """The ids themselves where all are different whole numbers, else 1, 2, 3, ...

    Those below `least` become numbers above all others.
    """
    numbers = [int(n) for n in ids if type(n) is not bool and _is_whole(n)]
    if not len(numbers) == len(ids) == len(set(numbers)):
        return list(range(1, len(ids) + 1))
    if least is not None and numbers and min(numbers) < least:
        above = count(max(*numbers, least - 1) + 1)
        return [number if number >= least else next(above) for number in numbers]
    return numbers


def _is_whole(value: Any) -> bool:
    number = finite(value)
    return number is not None and number.is_integer()
