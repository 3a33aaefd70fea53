"""YOLO: a tree of label files, the lists of pictures of each split, and data.yaml.

Loaders find a picture's labels by its path, in which they call the last folder `images` `labels`.
So the labels of train/images/a.png are train/labels/a.txt. Pictures that are in no folder `images`
have theirs in labels/, and are listed as images/..., a folder of links to where they are.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from rawisp.data.annotations.coco import Json
from rawisp.data.annotations.entries import Origin
from rawisp.data.annotations.grouping import class_names, pictures_of
from rawisp.data.annotations.moving import MovedImage
from rawisp.data.splits import SPLITS
from rawisp.errors import AnnotationError, display_path

CONFIG = "data.yaml"
LISTS = tuple(f"{split}.txt" for split in SPLITS)
IMAGES, LABELS = "images", "labels"


def yolo_listed(output: str) -> str:
    """The path by which the lists name the picture `output`."""
    return output if IMAGES in output.split("/")[:-1] else f"{IMAGES}/{output}"


def yolo_path(output: str) -> str:
    """Where the labels of the picture `output` are."""
    parts = os.path.splitext(yolo_listed(output))[0].split("/")
    last = max(number for number, part in enumerate(parts[:-1]) if part == IMAGES)
    parts[last] = LABELS
    return "/".join(parts) + ".txt"


def yolo_links(outputs: Sequence[str]) -> dict[str, str]:
    """The links that make the listed paths lead to the pictures: link -> what it points to."""
    first = {output.split("/")[0] for output in outputs if yolo_listed(output) != output}
    return {f"{IMAGES}/{name}": f"../{name}" for name in sorted(first)}


def yolo_files(
    origins: Mapping[str, Origin], images: Sequence[MovedImage]
) -> Iterator[tuple[str, bytes]]:
    """(path, content) of each file. AnnotationError when two pictures would share a label file."""
    names = class_names(origins, images)
    number_of = {name: number for number, name in enumerate(names)}
    owners: dict[str, str] = {}
    listed: dict[str, list[str]] = defaultdict(list)
    for picture in pictures_of(images):
        path = yolo_path(picture.output)
        other = owners.setdefault(path, picture.output)
        if other != picture.output:
            raise AnnotationError(
                f"{display_path(other)} and {display_path(picture.output)} would share the YOLO "
                f"labels {display_path(path)}; write COCO (--annotations-format coco)"
            )
        rows = [
            _row(thing, number_of[name], picture.width, picture.height)
            for thing, name in zip(picture.objects, picture.classes, strict=True)
        ]
        yield path, "".join(rows).encode()
        listed[picture.split or "train"].append(f"./{yolo_listed(picture.output)}\n")
    for split in SPLITS:
        if listed[split]:
            yield f"{split}.txt", "".join(listed[split]).encode("utf-8", "surrogateescape")
    yield CONFIG, _config([split for split in SPLITS if listed[split]], names)


def _row(thing: Json, number: int, width: int, height: int) -> str:
    x, y, w, h = thing["bbox"]
    values = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
    return " ".join([str(number), *(f"{value:.8f}" for value in values)]) + "\n"


def _config(splits: Sequence[str], names: Sequence[str]) -> bytes:
    """Without `path`, which loaders resolve from where they run; without it, from data.yaml."""
    import yaml

    lists = {split: f"{split}.txt" for split in splits}
    document = {**lists, "names": dict(enumerate(names))}
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return f"# Written by rawisp: boxes of the pictures in this folder.\n{text}".encode()
