"""Boxes of photographs become a COCO document of the nights made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rawisp.data.annotations.coco import read_document
from rawisp.data.annotations.labels import LabeledImage, LabelSet
from rawisp.errors import FrameMismatchError
from rawisp.geometry import Affine

Json = dict[str, Any]
Id = int | str

# Ids of several nights of one photograph: 1000 times the photograph's and the night's number.
MAX_COPIES = 999


@dataclass(frozen=True)
class PlacedNight:
    """One RAW file: which photograph it was made of, its number among `copies`, its size."""

    image: LabeledImage
    copy: int  # from 1
    output: str
    width: int
    height: int


def check_size(path: str, annotated: tuple[int, int] | None, shown: tuple[int, int]) -> None:
    """FrameMismatchError unless boxes were drawn on the picture as displayed, (width, height)."""
    if annotated is None or annotated == shown:
        return
    problem = f"the annotations say {annotated[0]}x{annotated[1]}, it shows {shown[0]}x{shown[1]}"
    if annotated == shown[::-1]:
        problem += " (its EXIF orientation turns it)"
    raise FrameMismatchError(path, problem, "annotate the picture as viewers display it")


def category_ids_of(labels: LabelSet) -> list[Id]:
    """A COCO file's own category ids by class index, else 1, 2, ... as COCO's begin."""
    counted: list[Id] = list(range(1, len(labels.categories) + 1))
    if labels.format != "COCO":
        return counted
    listed = read_document(labels.path).get("categories")
    own: dict[str, Id] = {}
    for category in listed if isinstance(listed, list) else ():
        if isinstance(category, dict) and isinstance(category.get("id"), int | str):
            own.setdefault(str(category.get("name")).strip(), category["id"])
    ids = [own[name] for name in labels.categories if name in own]
    return ids if len(set(map(str, ids))) == len(labels.categories) else counted


def nights_document(
    labels: LabelSet, placed: Sequence[PlacedNight], copies: int, category_ids: Sequence[Id]
) -> tuple[Json, dict[str, int]]:
    """(COCO document with boxes in pixels of the RAW files' visible area, what was counted).

    Ids depend on the label file alone, not on which files were made. One night per photograph keeps
    its image id; of several, photograph 7 becomes 7001, 7002, ... ("a": "a-1", "a-2"). Boxes are
    numbered through the label file. category_ids: by class index.
    """
    first = _first_numbers(labels)
    images: list[Json] = []
    annotations: list[Json] = []
    counts = {"images": 0, "boxes": 0, "empty_boxes_dropped": 0, "masks_dropped": 0}
    for one in placed:
        image_id = _numbered(one.image.id, one.copy, copies)
        images.append(
            {"id": image_id, "file_name": one.output, "width": one.width, "height": one.height}
        )
        for row, box in enumerate(_moved_boxes(one)):
            if min(box[2:]) <= 0:
                counts["empty_boxes_dropped"] += 1
                continue
            attributes = one.image.attributes[row] if one.image.attributes else {}
            annotations.append(
                {
                    "iscrowd": 0,
                    **attributes,
                    "id": _numbered(first[id(one.image)] + row, one.copy, copies),
                    "image_id": image_id,
                    "category_id": category_ids[one.image.classes[row]],
                    "bbox": box,
                    "area": round(box[2] * box[3], 4),
                }
            )
    counts["images"], counts["boxes"] = len(images), len(annotations)
    categories = [
        {"id": number, "name": name}
        for number, name in zip(category_ids, labels.categories, strict=True)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}, counts


def _first_numbers(labels: LabelSet) -> dict[int, int]:
    """The number of each image's first box, counted through the label file from 1."""
    numbers, following = {}, 1
    for image in labels.images:
        numbers[id(image)] = following
        following += len(image.boxes)
    return numbers


def _numbered(identity: Id, copy: int, copies: int) -> Id:
    if copies == 1:
        return identity
    return identity * 1000 + copy if isinstance(identity, int) else f"{identity}-{copy}"


def _moved_boxes(one: PlacedNight) -> list[list[float]]:
    """x, y, width, height in mosaic pixels: on continuous edges a scale and no more."""
    width, height = one.image.size or (1, 1)
    boxes = Affine.scaling(one.width / width, one.height / height).boxes(one.image.boxes)
    return [[round(float(value), 4) for value in box] for box in boxes]
