"""COCO detection JSON as its tools expect it: whole-number ids, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rawisp.data.annotations.coco import Json
from rawisp.data.annotations.entries import Origin
from rawisp.data.annotations.moving import MovedImage


def coco_document(origin: Origin, images: Sequence[MovedImage]) -> Json:
    """The document of the pictures of one annotation file.

    Ids stay as they are where they are different whole numbers; pycocotools and torchvision need
    both. What the file says of itself (info, licenses, categories) is carried over; a category
    that only an earlier version of the file had is added.
    """
    categories = _categories(origin, images)
    id_of = {str(entry["name"]): entry["id"] for entry in categories}
    image_ids = _distinct(one.image["id"] for one in images)
    object_ids = iter(_distinct(thing["id"] for one in images for thing in one.objects))
    listed, annotations = [], []
    for one, number in zip(images, image_ids, strict=True):
        size = {"file_name": one.output, "width": one.width, "height": one.height}
        listed.append({**one.image, "id": number, **size})
        for thing, name in zip(one.objects, one.classes, strict=True):
            ids = {"id": next(object_ids), "image_id": number, "category_id": id_of[name]}
            annotations.append({**thing, **ids})
    lists = {"images": listed, "annotations": annotations, "categories": categories}
    return {**origin.top, **lists}


def _categories(origin: Origin, images: Sequence[MovedImage]) -> list[Json]:
    categories = list(origin.categories)
    known = {str(entry["name"]) for entry in categories}
    following = max((entry["id"] for entry in categories), default=0) + 1
    for name in (name for one in images for name in one.classes):
        if name not in known:
            known.add(name)
            categories.append({"id": following, "name": name})
            following += 1
    return categories


def _distinct(ids: Iterable[int]) -> list[int]:
    """The ids; one that came before is replaced by a number above all of them."""
    wanted = list(ids)
    following = max(wanted, default=0) + 1
    seen: set[int] = set()
    for place, number in enumerate(wanted):
        if number in seen:
            wanted[place], following = following, following + 1
        seen.add(wanted[place])
    return wanted
