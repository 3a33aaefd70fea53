"""OUT/labels.jsonl: what the annotation files of all runs say of the pictures in OUT.

The annotations in OUT describe all of OUT, whichever inputs and annotation files a run was given.
So what is known of each picture is kept here, in the coordinates it was drawn in, and every run
writes the annotations anew from this and the manifest (docs/decisions/0017). The first line tells
of the annotation files, each further one is what one of them says of one output.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from rawisp.batch.writer import write_atomically
from rawisp.data.annotations.entries import Entry, Origin
from rawisp.errors import OutputError, display_path
from rawisp.geometry import Affine
from rawisp.version import __version__

FILE_NAME = "labels.jsonl"
Json = dict[str, Any]


@dataclass(frozen=True)
class Placement:
    """Where an entry was put last: the map to the output's pixels, its size, the run's settings.

    It counts while a run that makes the output again has not ended.
    """

    to_output: list[list[float]]
    size: tuple[int, int]
    settings: Json


@dataclass(frozen=True)
class Label:
    """What an annotation file says of an output.

    frame: what it was drawn on, as --annotation-frame names it. to_visible: the map from the
    entry's coordinates to visible sensor pixels, where that is known without the frame.
    """

    entry: Entry
    frame: str = "auto"
    to_visible: list[list[float]] | None = None
    placement: Placement | None = None


@dataclass
class LabelStore:
    """origins: annotation files by the name that they have in OUT. labels: by (output, that name).

    formats: in which the annotations of OUT are written.
    """

    origins: dict[str, Origin] = field(default_factory=dict)
    labels: dict[tuple[str, str], Label] = field(default_factory=dict)
    formats: set[str] = field(default_factory=set)

    def files_with_labels(self) -> list[str]:
        """The names of annotation files that say something of an output, sorted."""
        return sorted({file for _, file in self.labels})

    def of_file(self, file: str) -> dict[str, Label]:
        """The labels from one annotation file, by output."""
        return {output: one for (output, name), one in self.labels.items() if name == file}

    def write(self, folder: str) -> None:
        """Writes the file by atomic rename, sorted by output."""
        head = {
            "rawisp": __version__,
            "formats": sorted(self.formats),
            "files": {name: vars(origin) for name, origin in sorted(self.origins.items())},
        }

        def write(file: BinaryIO) -> None:
            file.write(_line(head))
            for output, name in sorted(self.labels):
                file.write(
                    _line({"output": output, "file": name, **_record(self.labels[output, name])})
                )

        write_atomically(os.path.join(folder, FILE_NAME), write)


def read_label_store(folder: str) -> LabelStore | None:
    """What earlier runs left in `folder`; None if there is none.

    Lines that are damaged are passed over, as in the manifest. OutputError for a file that rawisp
    did not write.
    """
    path = os.path.join(folder, FILE_NAME)
    try:
        with open(path, "rb") as file:
            head = _parsed(file.readline())
            if "rawisp" not in head or not isinstance(head.get("files"), dict):
                raise OutputError(
                    f"{display_path(path)}: was not written by rawisp; move it away or choose "
                    "another -o"
                )
            store = LabelStore(formats=set(head.get("formats", ())))
            store.origins = {name: _origin(one) for name, one in head["files"].items()}
            for output, name, label in _labels(file):
                if name in store.origins:
                    store.labels[output, name] = label
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{display_path(path)}: cannot be read ({error.strerror})") from None
    return store


def _labels(file: BinaryIO) -> Iterator[tuple[str, str, Label]]:
    for line in file:
        found = _parsed(line)
        try:
            yield found["output"], found["file"], _label(found)
        except (KeyError, TypeError, ValueError):
            continue


def _label(found: Json) -> Label:
    entry, placement = found["entry"], found.get("placement")
    return Label(
        entry=Entry(
            size=_pair(entry.get("size")),
            split=entry.get("split"),
            image=entry["image"],
            objects=tuple(entry.get("objects", ())),
            classes=tuple(entry.get("classes", ())),
            without_area=entry.get("without_area", 0),
        ),
        frame=found.get("frame", "auto"),
        to_visible=found.get("to_visible"),
        placement=placement and _placement(placement),
    )


def _placement(found: Json) -> Placement:
    Affine.from_rows(found["to_output"])  # ValueError unless it is one
    width, height = found["size"]
    return Placement(found["to_output"], (width, height), found["settings"])


def _origin(found: Json) -> Origin:
    categories = tuple(found.get("categories", ()))
    return Origin(found["path"], found["format"], categories, found.get("top", {}))


def _pair(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    width, height = value
    return width, height


def _record(label: Label) -> Json:
    record = {**vars(label), "entry": vars(label.entry)}
    if label.placement is not None:
        record["placement"] = vars(label.placement)
    return {key: value for key, value in record.items() if value is not None}


def _line(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def _parsed(line: bytes) -> Json:
    """The object of a line; empty if it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
