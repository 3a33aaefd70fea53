"""YOLO: a text file for each photograph, a row for each box, relative to the frame.

A row is `class cx cy width height`, or `class x y x y ...`, a polygon, which becomes its box. What
frame "relative" means nothing in the format says; `LabeledImage.size` is None.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np

from rawisp.data.annotations.labels import (
    LabeledImage,
    LabelSet,
    Problem,
    folded,
    name_of,
    name_of_label,
)
from rawisp.data.annotations.rows import Box, BoxRows, Classes, ProblemList, short
from rawisp.data.annotations.text import read_lines
from rawisp.data.annotations.yolo_config import YoloConfig, read_class_file, read_data_yaml
from rawisp.errors import AnnotationError, display_path
from rawisp.raw.files import Search, find_sources, suffix_of

_MAX_BYTES = 16 << 20
_MOST_UNNAMED_CLASSES = 10_000  # a larger number is no class but a mistake
_BEYOND = 0.01  # how far past 0 or 1 a coordinate may be and still be meant as relative

# Texts that lie among label files and are none.
_NO_LABELS = frozenset(
    "classes train val valid validation test trainval readme readme.dataset readme.roboflow "
    "license licence requirements notes".split()
)


@dataclass(frozen=True)
class _Label:
    """A photograph and its label file; path "": it is listed and has none, so it is empty.

    listed: (file, place) of what listed it.
    """

    name: str
    path: str
    split: str | None = None
    listed: tuple[str, str] = ("", "")


def read_yolo(
    path: str,
    *,
    root: str | None = None,
    stems: Collection[str] | None = None,
    search: Search | None = None,
) -> LabelSet:
    """The boxes of a data.yaml, or of all label files below a folder.

    Names are relative to `root`, else to data.yaml's base or the folder. stems: only photographs
    with these (folded) names, when a folder holds other texts too. A label file that cannot be read
    is a problem of its own; AnnotationError when none can.
    """
    problems = ProblemList(path)
    if os.path.isdir(path):
        config = YoloConfig(path, read_class_file(path))
        labels = list(_in_folder(path, root or path, stems, search))
    else:
        config = read_data_yaml(path, problems)
        labels = list(_in_splits(config, root or config.base, problems, search))
    if not labels:
        more = f" ({problems.problems[0].what})" if problems.problems else ""
        raise AnnotationError(f"{display_path(path)}: leads to no YOLO labels (.txt){more}")
    listed = problems.problems
    images = []
    for label in labels:
        image, found = _image(label, config)
        images.append(image)
        listed += found
    kept = [image for image in images if image is not None]
    if not kept and listed:
        raise AnnotationError(
            f"{display_path(path)}: none of its {len(labels)} label files can be used "
            f"({display_path(listed[0].file)}: {listed[0].what})"
        )
    return _labeled(path, config, kept, problems)


def _labeled(
    path: str, config: YoloConfig, images: list[LabeledImage], problems: ProblemList
) -> LabelSet:
    """The images with class numbers replaced by indices into the names."""
    names = config.names
    if names is None:
        used = sorted({int(number) for image in images for number in image.classes})
        names = {number: str(number) for number in used}
        if used:
            problems.mended(
                "names", "no data.yaml or classes.txt names the classes; they are called by number"
            )
    classes = Classes(names[number] for number in sorted(names))
    if len(classes.names) < len(names):
        problems.mended("names", "some names occur more than once; taken as the same class")
    index_of = {number: classes.index(name) for number, name in names.items()}
    renumbered = tuple(
        replace(image, classes=np.array([index_of[int(n)] for n in image.classes], np.int64))
        for image in images
    )
    return LabelSet(path, "YOLO", classes.names, renumbered, tuple(problems.problems))


def is_label_file(path: str) -> bool:
    """Whether a text may be a label file by its name: classes.txt and train.txt are none."""
    stem, suffix = os.path.splitext(os.path.basename(path).casefold())
    return suffix == ".txt" and stem not in _NO_LABELS


def _in_folder(
    folder: str, root: str, stems: Collection[str] | None, search: Search | None
) -> Iterator[_Label]:
    for source in find_sources([folder], frozenset([".txt"]), search=search).sources:
        name = name_of_label(os.path.relpath(source.path, root))
        wanted = stems is None or folded(os.path.basename(name)) in stems
        if wanted and is_label_file(source.path):
            yield _Label(name, source.path)


def _in_splits(
    config: YoloConfig, root: str, problems: ProblemList, search: Search | None
) -> Iterator[_Label]:
    seen: dict[str, str] = {}
    for split, entries in config.splits.items():
        taken = 0
        for entry in entries:
            for label in _in_entry(entry, split, config.base, root, problems, search):
                key = label.path or label.name
                taken += seen.get(key, split) != split
                if key not in seen:
                    seen[key] = split
                    yield label
        if taken:
            problems.wrong(
                split, f"names {taken} photographs of an earlier split; they stay in that one"
            )


def _in_entry(
    entry: str,
    split: str,
    base: str,
    root: str,
    problems: ProblemList,
    search: Search | None,
) -> Iterator[_Label]:
    if os.path.isdir(entry):
        for folder in (_beside_images(entry), os.path.join(entry, "labels"), entry):
            labels = list(_in_folder(folder, folder, None, search)) if os.path.isdir(folder) else []
            for label in labels:
                name = name_of(os.path.relpath(os.path.join(entry, f"{label.name}.txt"), root))
                yield _Label(name, label.path, split)
            if labels:
                return
        problems.wrong(split, f"{short(entry)} has no label files")
    elif suffix_of(entry) == ".txt":
        yield from _in_list(entry, split, base, root, problems)
    else:
        problems.wrong(split, f"{short(entry)} is neither a folder nor a list (.txt)")


def _in_list(
    path: str, split: str, base: str, root: str, problems: ProblemList
) -> Iterator[_Label]:
    """A list's lines are relative to it, or to the data set's base; "./" means the former."""
    try:
        lines = read_lines(path, _MAX_BYTES)
    except AnnotationError as error:
        problems.wrong(split, str(error))
        return
    for place, line in lines:
        line = line.replace("\\", "/")
        folders = (os.path.dirname(path), base)
        photographs = [os.path.normpath(os.path.join(folder, line)) for folder in folders]
        candidates = [
            f"{name_of(where)}.txt" for p in photographs for where in (_beside_images(p), p)
        ]
        label = next((c for c in candidates if os.path.isfile(c)), "")
        number = candidates.index(label) // 2 if label else 0
        name = name_of(os.path.relpath(photographs[number], root))
        yield _Label(name, label, split, (path, place))


def _beside_images(path: str) -> str:
    """images/train/a -> labels/train/a, by the last folder called images."""
    before, found, after = f"{path}/".rpartition("/images/")
    if not found:
        relative = f"{path}/".startswith("images/")
        return os.path.join("labels", f"{path}/"[7:-1]) if relative else path
    return os.path.normpath(f"{before}/labels/{after}")


def _image(label: _Label, config: YoloConfig) -> tuple[LabeledImage | None, list[Problem]]:
    file, place = (label.path, "") if label.path else label.listed
    problems = ProblemList(file)
    rows = BoxRows(None, problems)
    try:
        lines = read_lines(label.path, _MAX_BYTES) if label.path else []
    except AnnotationError as error:
        problems.wrong("", str(error).removeprefix(f"{display_path(file)}: "))
        return None, problems.problems
    for where, line in lines:
        row = _row(line, config)
        if isinstance(row, str):
            rows.refuse(where, row)
        else:
            rows.add(where, row[1], row[0], {})
    return rows.image(label.name, label.name, place=place, split=label.split), problems.problems


def _row(line: str, config: YoloConfig) -> tuple[int, Box] | str:
    """The class number and the box, or what is wrong."""
    try:
        values = [float(text) for text in line.split()]
    except ValueError:
        return f"{short(repr(line))} is not numbers"
    if not np.isfinite(values).all():
        return f"{short(repr(line))} has a value that is not finite"
    number = _class_number(values[0], config)
    if isinstance(number, str):
        return number
    count = len(values)
    if count == 5 or (config.keypoint_values and count == 5 + config.keypoint_values):
        cx, cy, width, height = values[1:5]
        beyond = [v for v in (cx, cy, width, height) if v > 1 + _BEYOND]
        beyond += [v for v in (cx, cy) if v < -_BEYOND]
        box = (cx - width / 2, cy - height / 2, width, height)
    elif count >= 7 and count % 2 == 1:
        xs, ys = values[1::2], values[2::2]
        beyond = [v for v in values[1:] if not -_BEYOND <= v <= 1 + _BEYOND]
        box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    elif count == 1:
        return "is a class without a box"
    else:
        return f"has {count} values; a box has 5, a polygon 7 or more, and an odd number"
    return f"has the coordinate {beyond[0]:g}, not within 0 to 1" if beyond else (number, box)


def _class_number(value: float, config: YoloConfig) -> int | str:
    if value < 0 or not value.is_integer():
        return f"its class {value:g} is no whole number from 0"
    number = int(value)
    if config.names is not None and number not in config.names:
        return f"its class {number} is not among the {len(config.names)} that are named"
    if config.names is None and number >= _MOST_UNNAMED_CLASSES:
        return f"its class {number} is too large a number where no classes are named"
    return number
