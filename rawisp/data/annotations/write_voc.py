"""Pascal VOC: Annotations/ with one XML file for each picture."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from rawisp.data.annotations.coco import Json
from rawisp.data.annotations.entries import Origin
from rawisp.data.annotations.grouping import Picture, pictures_of
from rawisp.data.annotations.moving import MovedImage
from rawisp.data.annotations.voc import OUR_MARK

FOLDER = "Annotations"

# What XML 1.0 has no way to write.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_FLAGS = ("truncated", "difficult", "occluded")


def voc_path(output: str) -> str:
    """Where the annotations of the picture `output` are: Annotations/, the tree mirrored."""
    return f"{FOLDER}/{os.path.splitext(output)[0]}.xml"


def voc_files(
    origins: Mapping[str, Origin], images: Sequence[MovedImage]
) -> Iterator[tuple[str, bytes]]:
    """(path, content) of each XML file. VOC counts from 1 and includes the last pixel.

    Edges that fall within a pixel keep their fraction, to four digits.
    """
    for picture in pictures_of(images):
        database = ", ".join(os.path.basename(origins[file].path) for file in picture.files)
        yield voc_path(picture.output), _text(picture, database).encode()


def _text(picture: Picture, database: str) -> str:
    folder, name = os.path.split(picture.output)
    lines = ["<annotation>"]
    lines.append(f"  <folder>{_escaped(folder)}</folder>")
    lines.append(f"  <filename>{_escaped(name)}</filename>")
    lines.append(
        f"  <source><database>{_escaped(database)}</database>"
        f"<annotation>{OUR_MARK}</annotation></source>"
    )
    lines.append(
        f"  <size><width>{picture.width}</width><height>{picture.height}</height>"
        "<depth>3</depth></size>"
    )
    lines.append("  <segmented>0</segmented>")
    for thing, category in zip(picture.objects, picture.classes, strict=True):
        lines += _object(thing, category)
    return "\n".join([*lines, "</annotation>", ""])


def _object(thing: Json, category: str) -> list[str]:
    x, y, width, height = thing["bbox"]
    corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
    bounds = "".join(f"<{key}>{_number(value)}</{key}>" for key, value in corners.items())
    pose = thing.get("pose")
    lines = ["  <object>", f"    <name>{_escaped(category)}</name>"]
    if isinstance(pose, str):
        lines.append(f"    <pose>{_escaped(pose)}</pose>")
    for flag in _FLAGS:
        if flag in thing or flag != "occluded":  # the devkit's files have the other two always
            lines.append(f"    <{flag}>{int(bool(thing.get(flag)))}</{flag}>")
    return [*lines, f"    <bndbox>{bounds}</bndbox>", "  </object>"]


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _escaped(text: str) -> str:
    return escape(_NO_XML.sub("?", text), quote=False)
