"""COCO detection JSON: read as it is found in the wild, matched to files, moved to new frames.

Ids may be integers or strings, categories sparse, `info` and `licenses` missing; everything that
is not geometry is carried over untouched.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rawisp.errors import AnnotationError, display_path
from rawisp.geometry import Affine, clip_boxes

Json = dict[str, Any]


@dataclass
class CocoFile:
    """The parsed file: `document` as read, images by name, annotations by image id."""

    path: str
    document: Json
    images_by_name: dict[str, list[Json]] = field(default_factory=lambda: defaultdict(list))
    annotations_by_image: dict[Any, list[Json]] = field(default_factory=lambda: defaultdict(list))

    def image_for(self, relative: str) -> Json | None:
        """The image entry of an input, by its relative path without suffix, else by its stem.

        Case and suffix do not count (a JSON made for JPEGs fits the RAW files). AnnotationError
        when several entries fit.
        """
        for key in (_key(relative), _key(os.path.basename(relative))):
            entries = self.images_by_name.get(key, [])
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
    try:
        document = json.loads(Path(path).read_text("utf-8-sig"))
    except FileNotFoundError:
        raise AnnotationError(f"{shown}: there is no such annotation file") from None
    except OSError as error:
        raise AnnotationError(f"{shown}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise AnnotationError(f"{shown}: is no JSON ({error})") from None
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), list) for key in ("images", "annotations")
    ):
        raise AnnotationError(
            f'{shown}: is no COCO detection file; it needs the lists "images" and "annotations"'
        )
    coco = CocoFile(path, document)
    known = set()
    for number, image in enumerate(document["images"]):
        _check_image(image, f"{shown}: images[{number}]")
        if image["id"] in known:
            raise AnnotationError(f"{shown}: the image id {image['id']!r} occurs twice")
        known.add(image["id"])
        names = {_key(image["file_name"]), _key(os.path.basename(image["file_name"]))}
        for name in names:
            coco.images_by_name[name].append(image)
    for number, annotation in enumerate(document["annotations"]):
        where = f"{shown}: annotations[{number}]"
        _check_annotation(annotation, where)
        if annotation["image_id"] not in known:
            raise AnnotationError(f"{where}: no image has the id {annotation['image_id']!r}")
        coco.annotations_by_image[annotation["image_id"]].append(annotation)
    return coco


def _check_image(image: Any, where: str) -> None:
    if not isinstance(image, dict):
        raise AnnotationError(f"{where}: is no object")
    for key in ("id", "file_name", "width", "height"):
        if key not in image:
            raise AnnotationError(f'{where}: has no "{key}"')
    if not isinstance(image["id"], int | str) or not isinstance(image["file_name"], str):
        raise AnnotationError(f"{where}: its id must be a number or text, its file_name text")
    if not all(isinstance(image[key], int) and image[key] > 0 for key in ("width", "height")):
        raise AnnotationError(f"{where}: width and height must be whole numbers above 0")


def _check_annotation(annotation: Any, where: str) -> None:
    if not isinstance(annotation, dict) or "image_id" not in annotation:
        raise AnnotationError(f'{where}: has no "image_id"')
    box = annotation.get("bbox")
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(v, int | float) and math.isfinite(v) for v in box)
    ):
        raise AnnotationError(f"{where}: its bbox {box!r} is not four finite numbers")


def _key(file_name: str) -> str:
    return os.path.splitext(os.path.normpath(file_name.replace("\\", "/")))[0].casefold()


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
    box = place.to_output.boxes([annotation["bbox"]])
    x, y, width, height = clip_boxes(box, place.width, place.height)[0]
    if width <= 0 or height <= 0 or min(annotation["bbox"][2:]) <= 0:
        counts["empty_boxes_dropped"] += 1
        return None
    moved = {**annotation, "bbox": [_short(v) for v in (x, y, width, height)]}
    if "area" in annotation:
        own = annotation["bbox"][2] * annotation["bbox"][3]
        is_box = math.isclose(annotation["area"], own, rel_tol=1e-3)
        moved["area"] = _short(
            width * height if is_box else annotation["area"] * place.to_output.area_scale
        )
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
    if isinstance(keypoints, list) and len(keypoints) % 3 == 0:
        points = np.reshape(np.asarray(keypoints, dtype=np.float64), (-1, 3))
        points[:, :2] = to_output.points(points[:, :2])
        moved["keypoints"] = [_short(v) for v in points.ravel()]


_short: Callable[[float], float] = lambda value: round(float(value), 4)  # noqa: E731
