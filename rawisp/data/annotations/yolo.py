"""YOLO: a text file for each photograph, a row for each box, relative to the frame.

What frame "relative" means nothing in the format says; `LabeledImage.size` is None. What a row may
be, `yolo_rows` says.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np

from rawisp.data.annotations.judge import Evidence, judge
from rawisp.data.annotations.labels import (
    IMAGE_SUFFIXES,
    LabeledImage,
    LabelSet,
    Problem,
    folded,
    name_of,
    name_of_label,
    stems_of,
)
from rawisp.data.annotations.rows import BoxRows, Classes, ProblemList, short
from rawisp.data.annotations.text import read_lines
from rawisp.data.annotations.yolo_config import YoloConfig, read_class_file, read_data_yaml
from rawisp.data.annotations.yolo_rows import Line, read_row, refuse_poses
from rawisp.errors import AnnotationError, display_path
from rawisp.raw.files import Search, find_sources, suffix_of

_MAX_BYTES = 16 << 20

# Texts that lie among label files and are none.
_NO_LABELS = frozenset(
    "classes train val valid validation test trainval readme readme.dataset readme.roboflow "
    "license licence requirements notes".split()
)

# Detectors have hundreds of classes; numbers beyond are somebody's identifiers.
_MOST_GAPS = 1000


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
    with these (folded) names, when a folder holds other texts too. search: how folders are walked.

    A photograph without a label file shows nothing where the layout says that it belongs to the
    set: in a folder or list that data.yaml names, or in the images/ beside labels/. A label file
    that cannot be read is a problem of its own; AnnotationError when none can, or when the rows
    together cannot be what YOLO's are (see `judge` and `refuse_poses`).
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
    texts = [_read(label) for label in labels]
    if not config.keypoint_values:
        refuse_poses(path, [line for lines, _ in texts for _, line in lines])
    images = []
    evidence = Evidence()
    for label, (lines, complaint) in zip(labels, texts, strict=True):
        image, found = _image(label, lines, complaint, config, evidence)
        images.append(image)
        listed += found
    judge(path, evidence, "centre")
    kept = [image for image in images if image is not None]
    if not kept and listed:
        raise AnnotationError(
            f"{display_path(path)}: none of its {len(labels)} label files can be used "
            f"({display_path(listed[0].file)}: {listed[0].what})"
        )
    empty = [label for label in labels if not label.path]
    return replace(_labeled(path, config, kept, problems), notes=_backgrounds(path, empty))


def _without_gaps(names: dict[int, str], problems: ProblemList) -> dict[int, str]:
    """Numbers that nothing names are their own names, so that the classes above keep theirs."""
    missing = sorted(set(range(max(names, default=0))) - names.keys())
    if not missing or len(missing) > _MOST_GAPS:
        return names
    listed = ", ".join(map(str, missing[:4])) + (", ..." if len(missing) > 4 else "")
    problems.mended("names", f"class {listed} has no name; it is called by its number")
    return {**names, **{number: str(number) for number in missing}}


def _backgrounds(path: str, empty: list[_Label]) -> tuple[str, ...]:
    if not empty:
        return ()
    return (
        f"{display_path(path)}: {len(empty)} photographs without a label file are taken as showing "
        f"nothing, the first: {short(empty[0].name)}",
    )


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
    names = _without_gaps(names, problems)
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
    """The label files below a folder, and the photographs in images/ that have none in labels/."""
    named: set[str] = set()
    images: set[str] = set()
    for source in find_sources([folder], frozenset([".txt"]), search=search).sources:
        if not is_label_file(source.path):
            continue
        beside = _images_beside(os.path.abspath(source.path))
        if beside:
            images.add(beside)
        name = _name_of_pair(name_of_label(os.path.relpath(source.path, root)), beside)
        if _wanted(name, stems):
            named.add(folded(name))
            yield _Label(name, source.path)
    for beside in sorted(images):
        for source in find_sources([beside], IMAGE_SUFFIXES, search=search).sources:
            pair = os.path.join(os.path.dirname(beside), "labels", source.relative)
            name = _name_of_pair(name_of(os.path.relpath(pair, os.path.abspath(root))), beside)
            if folded(name) not in named and _wanted(name, stems):
                named.add(folded(name))
                yield _Label(name, "", None, (source.path, ""))


def _wanted(name: str, stems: Collection[str] | None) -> bool:
    return stems is None or any(folded(stem) in stems for stem in stems_of(name))


def _images_beside(label: str) -> str:
    """The folder images/ beside the last labels/ of an absolute path, "" if there is none."""
    before, found, _ = label.rpartition("/labels/")
    beside = os.path.join(before, "images")
    return beside if found and os.path.isdir(beside) else ""


def _name_of_pair(name: str, beside: str) -> str:
    """The photograph of labels/a is images/a, where both folders are there."""
    before, found, after = f"/{name}".rpartition("/labels/")
    return f"{before}/images/{after}".removeprefix("/") if beside and found else name


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
        named: set[str] = set()
        for folder in (_beside_images(entry), os.path.join(entry, "labels"), entry):
            labels = _labels_below(folder, search) if os.path.isdir(folder) else []
            for label in labels:
                name = name_of(os.path.relpath(os.path.join(entry, f"{label.name}.txt"), root))
                named.add(folded(name))
                yield _Label(name, label.path, split)
            if labels:
                for source in find_sources([entry], IMAGE_SUFFIXES, search=search).sources:
                    name = name_of(os.path.relpath(source.path, root))
                    if folded(name) not in named:
                        named.add(folded(name))
                        yield _Label(name, "", split, (problems.file, split))
                return
        problems.wrong(split, f"{short(entry)} has no label files")
    elif suffix_of(entry) == ".txt":
        yield from _in_list(entry, split, base, root, problems)
    else:
        problems.wrong(split, f"{short(entry)} is neither a folder nor a list (.txt)")


def _labels_below(folder: str, search: Search | None) -> list[_Label]:
    """The label files below a folder that data.yaml names, called as they are below it."""
    return [
        _Label(name_of_label(source.relative), source.path)
        for source in find_sources([folder], frozenset([".txt"]), search=search).sources
        if is_label_file(source.path)
    ]


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


def _read(label: _Label) -> tuple[list[Line], str]:
    """The lines of a label file, or why it cannot be read; none where there is no file."""
    try:
        return (read_lines(label.path, _MAX_BYTES) if label.path else []), ""
    except AnnotationError as error:
        return [], str(error).removeprefix(f"{display_path(label.path)}: ")


def _image(
    label: _Label, lines: list[Line], complaint: str, config: YoloConfig, evidence: Evidence
) -> tuple[LabeledImage | None, list[Problem]]:
    file, place = (label.path, "") if label.path else label.listed
    problems = ProblemList(file)
    if complaint:
        problems.wrong("", complaint)
        return None, problems.problems
    rows = BoxRows(None, problems)
    for where, line in lines:
        row = read_row(line, config)
        if row.written is not None:
            evidence.add(row.written, None)
        if row.complaint:
            rows.refuse(where, row.complaint)
        else:
            rows.add(where, row.box, row.number, {})
    return rows.image(label.name, label.name, place=place, split=label.split), problems.problems
