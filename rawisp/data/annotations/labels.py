"""Boxes of a data set in memory, whatever file format they came from."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rawisp.errors import display_path
from rawisp.raw.formats import RAW_SUFFIXES

# What photographs are called when they are annotated; label files may carry it: DSC1.ARW.txt.
IMAGE_SUFFIXES = RAW_SUFFIXES | frozenset(
    f".{suffix}" for suffix in "jpg jpeg png tif tiff bmp webp npy heic".split()
)


_EXPORTED_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_EXPORTED_HASH = re.compile(r"\.rf\.[0-9A-Za-z]{6,}$")
_EXPORTED_SUFFIX = re.compile("_(" + "|".join(s[1:] for s in sorted(IMAGE_SUFFIXES)) + ")$", re.I)


@dataclass(frozen=True)
class LabeledImage:
    """The boxes of one photograph, in the frame that they were drawn on.

    name: path without suffix, relative to the annotated folder, with "/"; what a RAW file is found
    by. id: the format's own id (COCO: a number or text). size: (width, height) of the frame in
    pixels, None where the format does not say (YOLO). boxes: float64 (N, 4), x, y, width, height of
    the top-left corner and extent, continuous edge coordinates (the first pixel spans 0 to 1), in
    pixels; where size is None relative to the frame, 0 to 1. All have an area and lie inside the
    frame. classes: int64 (N,), index into `LabelSet.categories`. attributes: per box, whatever else
    the format says of it ("iscrowd", "difficult", flags). file: the annotation file; place: the
    photograph's own entry in it ("images[3]", "" for a file of its own); where: each box's
    ("annotations[3]", "line 7"). split: "train", "val" or "test" where the format says. suffix: of
    the RAW file that is named (".arw"), "" where none is; it decides between files of one name.
    other_names: what else the format says that the photograph was called, likewise without suffix.
    """

    name: str
    id: int | str
    size: tuple[int, int] | None
    boxes: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]
    attributes: tuple[Mapping[str, Any], ...] = ()
    where: tuple[str, ...] = ()
    file: str = ""
    place: str = ""
    split: str | None = None
    suffix: str = ""
    other_names: tuple[str, ...] = ()


class Problem(NamedTuple):
    """Something wrong: the file, the place in it ("line 7", "annotations[3]" or ""), one phrase.

    mended: whether what is loaded is nevertheless right: a box without area is left out, one that
    reaches past its frame is cut, a class that nothing uses does no harm.
    """

    file: str
    place: str
    what: str
    mended: bool = False

    def __str__(self) -> str:
        return f"{located(self.file, self.place)}: {self.what}"


def unusable(problems: Sequence[Problem]) -> str:
    """A sentence about those that are not mended; empty when all are."""
    wrong = [problem for problem in problems if not problem.mended]
    if not wrong:
        return ""
    text = f"{len(wrong)} annotations could not be used, the first: {wrong[0]}"
    return f"{text}; rawisp validate lists them"


def said_of(problems: Sequence[Problem]) -> list[str]:
    """Sentences on what could not be used and on what was mended; none where nothing is wrong."""
    said = [text] if (text := unusable(problems)) else []
    mended = [problem for problem in problems if problem.mended]
    if mended:
        said.append(f"{len(mended)} annotations were mended, the first: {mended[0]}")
    return said


@dataclass(frozen=True)
class LabelSet:
    """All labels of one annotation file or folder.

    format: "COCO", "VOC" or "YOLO". categories: class names by index, unique; those that the format
    lists, where it lists any. problems: rows that were left out or mended, never silently. notes:
    sentences on what was understood and is worth a look.
    """

    path: str
    format: str
    categories: tuple[str, ...]
    images: tuple[LabeledImage, ...]
    problems: tuple[Problem, ...] = field(default=())
    notes: tuple[str, ...] = ()


def located(file: str, place: str) -> str:
    """ "labels.json, annotations[3]" """
    return f"{display_path(file)}, {place}" if place else display_path(file)


def name_of(file_name: str) -> str:
    """A photograph's name: its path without suffix, with "/" whatever the system it came from."""
    return os.path.splitext(os.path.normpath(file_name.replace("\\", "/")))[0]


def raw_suffix_of(file_name: str) -> str:
    """ ".arw" of a.ARW; "" of what is no RAW file's name."""
    suffix = os.path.splitext(file_name)[1].casefold()
    return suffix if suffix in RAW_SUFFIXES else ""


def stems_of(name: str) -> tuple[str, ...]:
    """The last part of a photograph's name, and what it was called before a tool exported it.

    Label Studio puts eight hexadecimal digits before the name (a1b2c3d4-DSC1), Roboflow the suffix
    and a hash after it (DSC1_jpg.rf.HASH).
    """
    stem = name.rpartition("/")[2]
    before = _EXPORTED_SUFFIX.sub("", _EXPORTED_HASH.sub("", stem)) if ".rf." in stem else stem
    before = _EXPORTED_PREFIX.sub("", before)
    return (stem,) if before == stem or not before else (stem, before)


def name_of_label(file_name: str) -> str:
    """The name of the photograph that a label file belongs to: a.txt and a.ARW.txt are both a's."""
    name = name_of(file_name)
    stem, suffix = os.path.splitext(name)
    return stem if suffix.casefold() in IMAGE_SUFFIXES else name


def folded(name: str) -> str:
    """`name` as it is compared: case does not count, nor how accents are composed."""
    return unicodedata.normalize("NFC", name).casefold()
