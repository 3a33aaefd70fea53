"""COCO detection JSON: read as it is found in the wild, matched to files, moved to new frames.

Ids may be integers or strings, categories sparse, `info` and `licenses` missing; everything that
is not geometry is carried over untouched.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rawisp.data.annotations.labels import folded, name_of
from rawisp.data.annotations.text import read_text
from rawisp.errors import AnnotationError, display_path, printable
from rawisp.geometry import Affine, clip_boxes

Json = dict[str, Any]

MAX_BYTES = 2 << 30  # COCO's own training set has 0.45 GB; Python takes some five times the text


@dataclass
class CocoFile:
    """The parsed file: `document` as read, images by path and by name, annotations by image id."""

    path: str
    document: Json
    images_by_path: dict[str, list[Json]] = field(default_factory=lambda: defaultdict(list))
    images_by_name: dict[str, list[Json]] = field(default_factory=lambda: defaultdict(list))
    annotations_by_image: dict[Any, list[Json]] = field(default_factory=lambda: defaultdict(list))

    def image_for(self, relative: str) -> Json | None:
        """The image entry of an input, by its relative path without suffix, else by its stem.

        Case and suffix do not count (a JSON made for JPEGs fits the RAW files). AnnotationError
        when several entries fit.
        """
        path, name = _key(relative), _key(os.path.basename(relative))
        for key, entries in (
            (path, self.images_by_path.get(path, [])),
            (name, self.images_by_name.get(name, [])),
        ):
            if len(entries) > 1:
                raise AnnotationError(
                    f"{display_path(self.path)}: {len(entries)} images are called {key!r}; "
                    "write their folders into file_name"
                )
            if entries:
                return entries[0]
        return None


def read_coco(path: str) -> CocoFile:
    """Parses and checks a COCO detection file. AnnotationError says what is wrong and where."""
    shown = display_path(path)
    document = read_document(path)
    coco = CocoFile(path, document)
    known = set()
    for number, image in enumerate(document["images"]):
        _check_image(image, f"{shown}: images[{number}]")
        if image["id"] in known:
            raise AnnotationError(f"{shown}: the image id {image['id']!r} occurs twice")
        known.add(image["id"])
        coco.images_by_path[_key(image["file_name"])].append(image)
        coco.images_by_name[_key(os.path.basename(image["file_name"]))].append(image)
    for number, annotation in enumerate(document["annotations"]):
        where = f"{shown}: annotations[{number}]"
        _check_annotation(annotation, where)
        if annotation["image_id"] not in known:
            raise AnnotationError(
                f"{where}: no image has the id {_short_text(repr(annotation['image_id']))}"
            )
        coco.annotations_by_image[annotation["image_id"]].append(annotation)
    return coco


def read_document(path: str) -> Json:
    """The JSON of a COCO detection file, with its two lists; their entries are not looked at."""
    shown = display_path(path)
    try:
        document = json.loads(read_text(path, MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{shown}: is no JSON ({_short_text(error)})") from None
    except MemoryError:
        raise AnnotationError(f"{shown}: does not fit into memory; split it") from None
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), list) for key in ("images", "annotations")
    ):
        raise AnnotationError(
            f'{shown}: is no COCO detection file; it needs the lists "images" and "annotations"'
        )
    return document


def _check_image(image: Any, where: str) -> None:
    if not isinstance(image, dict):
        raise AnnotationError(f"{where}: is no object")
    for key in ("id", "file_name", "width", "height"):
        if key not in image:
            raise AnnotationError(f'{where}: has no "{key}"')
    if not isinstance(image["id"], int | str) or not isinstance(image["file_name"], str):
        raise AnnotationError(f"{where}: its id must be a number or text, its file_name text")
    if not all(type(image[key]) is int and image[key] > 0 for key in ("width", "height")):
        raise AnnotationError(f"{where}: width and height must be whole numbers above 0")


def _check_annotation(annotation: Any, where: str) -> None:
    if not isinstance(annotation, dict) or "image_id" not in annotation:
        raise AnnotationError(f'{where}: has no "image_id"')
    if not isinstance(annotation["image_id"], int | float | str):
        raise AnnotationError(f"{where}: its image_id must be a number or text")
    box = annotation.get("bbox")
    if not _numbers(box, 4):
        raise AnnotationError(
            f"{where}: its bbox {_short_text(repr(box))} is not four finite numbers"
        )
    polygons = annotation.get("segmentation")
    if isinstance(polygons, list) and not all(_numbers(p) and len(p) % 2 == 0 for p in polygons):
        raise AnnotationError(f"{where}: its segmentation is no list of polygons [x, y, x, y, ...]")
    keypoints = annotation.get("keypoints")
    if isinstance(keypoints, list) and not (_numbers(keypoints) and len(keypoints) % 3 == 0):
        raise AnnotationError(f"{where}: its keypoints are no numbers [x, y, v, x, y, v, ...]")


def _numbers(values: Any, count: int | None = None) -> bool:
    """Whether `values` is a list of finite numbers (so many, if `count` is given)."""
    if not isinstance(values, list) or (count is not None and len(values) != count):
        return False
    return all(_finite(value) for value in values)


def _finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # a whole number beyond float's range
        return False


def _short_text(value: object) -> str:
    """`value` as a phrase of at most 80 characters, for a message."""
    return printable(str(value))[:80]


def _key(file_name: str) -> str:
    return folded(name_of(file_name))


@dataclass(frozen=True)
class Placed:
    """Where an image entry went: the output's name and size, and the map to its pixels."""

    image: Json
    output: str
    width: int
    height: int
    to_output: Affine


def moved_document(coco: CocoFile, placed: Sequence[Placed]) -> tuple[Json, dict[str, int]]:
    """A COCO document of the placed images, boxes in output pixels, and what was counted.

    Boxes are cut to the image; those with nothing left, and those that had no area to begin with,
    are dropped and counted. `area` of a box is recomputed when it was the box's own, scaled
    otherwise; polygons and keypoints move along; run-length masks are dropped and counted.
    """
    counts = {"images": 0, "boxes": 0, "empty_boxes_dropped": 0, "masks_dropped": 0}
    images, annotations = [], []
    for place in placed:
        images.append(
            {
                **place.image,
                "file_name": place.output,
                "width": place.width,
                "height": place.height,
            }
        )
        for annotation in coco.annotations_by_image.get(place.image["id"], []):
            moved = _moved(annotation, place, counts)
            if moved is not None:
                annotations.append(moved)
    counts["images"], counts["boxes"] = len(images), len(annotations)
    return {**coco.document, "images": images, "annotations": annotations}, counts


def _moved(annotation: Json, place: Placed, counts: dict[str, int]) -> Json | None:
    box = clip_boxes(place.to_output.boxes([annotation["bbox"]]), place.width, place.height)
    x, y, width, height = (_short(value) for value in box[0])
    if width <= 0 or height <= 0 or min(annotation["bbox"][2:]) <= 0:
        counts["empty_boxes_dropped"] += 1
        return None
    moved = {**annotation, "bbox": [x, y, width, height]}
    if "area" in annotation:
        area = annotation["area"]
        own = annotation["bbox"][2] * annotation["bbox"][3]
        if _finite(area) and not math.isclose(area, own, rel_tol=1e-3):
            moved["area"] = _short(area * place.to_output.area_scale)
        else:  # the box's own, or nothing usable
            moved["area"] = _short(width * height)
    _move_shapes(moved, place.to_output, counts)
    return moved


def _move_shapes(moved: Json, to_output: Affine, counts: dict[str, int]) -> None:
    segmentation = moved.get("segmentation")
    if isinstance(segmentation, dict):
        del moved["segmentation"]
        counts["masks_dropped"] += 1
    elif isinstance(segmentation, list):
        moved["segmentation"] = [
            [_short(v) for v in to_output.points(np.reshape(polygon, (-1, 2))).ravel()]
            for polygon in segmentation
        ]
    keypoints = moved.get("keypoints")
    if isinstance(keypoints, list):
        points = np.reshape(np.asarray(keypoints, dtype=np.float64), (-1, 3))
        labelled = points[:, 2] != 0  # COCO writes those that are not as 0, 0, 0
        points[labelled, :2] = to_output.points(points[labelled, :2])
        moved["keypoints"] = [_short(v) for v in points.ravel()]


def _short(value: float) -> float:
    return round(float(value), 4)
