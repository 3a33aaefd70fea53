"""What a YOLO data set says of itself: data.yaml, or the classes.txt of annotation tools."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from rawisp.data.annotations.rows import ProblemList, short
from rawisp.data.annotations.text import read_lines, read_text
from rawisp.errors import AnnotationError, display_path
from rawisp.raw.files import find_sources

_MAX_BYTES = 1 << 20  # parsing YAML takes seconds for each megabyte
_SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels")


@dataclass
class YoloConfig:
    """names: class name by number, None where nothing says. splits: what each key names, existing.

    base: the folder that entries are relative to. keypoint_values: numbers that follow a box in
    each row of a pose data set.
    """

    base: str
    names: dict[int, str] | None
    splits: dict[str, list[str]] = field(default_factory=dict)
    keypoint_values: int = 0


def read_data_yaml(path: str, problems: ProblemList) -> YoloConfig:
    """data.yaml with the paths in it resolved. AnnotationError when it is none."""
    document = _document(path)
    here = os.path.dirname(path) or "."
    stated = document.get("path")
    base = os.path.join(here, stated) if isinstance(stated, str) and not _is_null(stated) else here
    if not os.path.isdir(base):
        problems.mended("path", f"{short(base)} does not exist; the file's own folder is taken")
        base = here
    config = YoloConfig(base, _names(document, problems))
    for key, split in _SPLIT_KEYS.items():
        for entry in _listed(document.get(key), key, problems):
            found = _resolved(entry, (base, here))
            if found is None:
                problems.wrong(key, f"{short(entry)} does not exist")
            else:
                config.splits.setdefault(split, []).append(found)
    shape = document.get("kpt_shape")
    if isinstance(shape, list) and len(shape) == 2 and all(_is_number(n) for n in shape):
        config.keypoint_values = int(shape[0]) * int(shape[1])
    return config


def _is_number(text: Any) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 5


def read_class_file(folder: str) -> dict[int, str] | None:
    """Names by number from the classes.txt below `folder`, or above it where it holds labels only.

    None if there is none; AnnotationError when two of them differ.
    """
    paths = [
        source.path
        for source in find_sources([folder], frozenset([".txt", ".names", ".labels"])).sources
        if os.path.basename(source.path) in _CLASS_FILES
    ]
    if not paths and os.path.basename(os.path.abspath(folder)) == "labels":
        above = os.path.dirname(os.path.abspath(folder))
        candidates = [os.path.join(above, name) for name in _CLASS_FILES]
        paths = [path for path in candidates if os.path.isfile(path)]
    if not paths:
        return None
    listed = [read_lines(path, _MAX_BYTES) for path in paths]
    for path, lines in zip(paths, listed, strict=True):
        if lines != listed[0]:
            raise AnnotationError(
                f"{display_path(paths[0])} and {display_path(path)} name different classes; write "
                "a data.yaml, or give the folders one by one"
            )
    return {int(place.split()[1]) - 1: name for place, name in listed[0]}


def _document(path: str) -> dict[Any, Any]:
    import yaml

    class _Texts(yaml.SafeLoader):
        """Plain scalars stay text: YAML makes a boolean of the class "off", a number of 010."""

    _Texts.yaml_implicit_resolvers = {}
    shown = display_path(path)
    try:
        document = yaml.load(read_text(path, _MAX_BYTES), Loader=_Texts)
    except AnnotationError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark is not None else ""
        raise AnnotationError(f"{shown}: is no YAML{line}") from None
    except Exception as error:  # PyYAML's constructors raise what Python raises: 2020-13-45, !!int
        raise AnnotationError(f"{shown}: is no YAML that can be read ({short(error)})") from None
    if not isinstance(document, dict) or not {"names", "nc", *_SPLIT_KEYS} & document.keys():
        raise AnnotationError(f'{shown}: is no YOLO data set; it needs "names" and "train"')
    return document


def _names(document: dict[Any, Any], problems: ProblemList) -> dict[int, str] | None:
    listed = document.get("names")
    if listed is None or _is_null(listed):
        return None
    pairs: list[tuple[Any, Any]] = []
    if isinstance(listed, list):
        pairs = [(str(number), name) for number, name in enumerate(listed)]
    if isinstance(listed, dict):
        pairs = list(listed.items())
    names = {}
    for key, name in pairs:
        number = int(key) if _is_number(key) else None
        if number is None or not isinstance(name, str) or not name.strip():
            problems.wrong("names", f"{short(str(key))}: {short(repr(name))} is no class")
        else:
            names[number] = name.strip()
    if not names:
        raise AnnotationError(
            f"{display_path(problems.file)}: its names are neither a list nor numbers with names"
        )
    return names


def _listed(value: Any, key: str, problems: ProblemList) -> list[str]:
    if value is None or _is_null(value):
        return []
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        if not isinstance(entry, str) or not entry.strip():
            problems.wrong(key, f"{short(repr(entry))} is no folder or list of photographs")
    return [entry for entry in entries if isinstance(entry, str) and entry.strip()]


def _is_null(value: Any) -> bool:
    """What YAML writes for nothing, where it is no class's name."""
    return isinstance(value, str) and value.strip().casefold() in ("", "~", "null")


def _resolved(entry: str, bases: tuple[str, ...]) -> str | None:
    """Roboflow writes ../train/images and means train/images."""
    entry = entry.replace("\\", "/")
    shortened = entry.removeprefix("../") if entry.startswith("../") else entry
    for candidate in (entry, shortened):
        for base in bases:
            path = os.path.normpath(os.path.join(base, candidate))
            if os.path.exists(path):
                return path
    return None
