"""Formats that have one label file for each picture: what several annotation files say of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from rawisp.data.annotations.coco import Json
from rawisp.data.annotations.entries import Origin
from rawisp.data.annotations.moving import MovedImage
from rawisp.data.annotations.rows import Classes


@dataclass
class Picture:
    """A picture and all its objects; one that two files have alike is there once."""

    output: str
    width: int
    height: int
    split: str | None
    files: list[str] = field(default_factory=list)
    objects: list[Json] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)


def pictures_of(images: Iterable[MovedImage]) -> Iterator[Picture]:
    """Each picture once, in the order in which they come."""
    pictures: dict[str, Picture] = {}
    for one in images:
        picture = pictures.setdefault(
            one.output, Picture(one.output, one.width, one.height, one.split)
        )
        picture.split = picture.split or one.split
        seen = {
            (name, *thing["bbox"])
            for thing, name in zip(picture.objects, picture.classes, strict=True)
        }
        for thing, name in zip(one.objects, one.classes, strict=True):
            if (name, *thing["bbox"]) not in seen:
                picture.objects.append(thing)
                picture.classes.append(name)
        picture.files.append(one.file)
    yield from pictures.values()


def class_names(origins: Mapping[str, Origin], images: Iterable[MovedImage]) -> tuple[str, ...]:
    """All class names: those that the files list, in their order, then any others."""
    classes = Classes(str(c["name"]) for origin in origins.values() for c in origin.categories)
    for one in images:
        for name in one.classes:
            classes.index(name)
    return classes.names


def dropped_shapes(images: Iterable[MovedImage]) -> int:
    """How many polygons and keypoints have no place in such a format."""
    return sum(
        bool(thing.get("segmentation")) + bool(thing.get("keypoints"))
        for one in images
        for thing in one.objects
    )
