"""What a run's annotations are about: its outputs, and what annotation files are called in OUT."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from rawisp.batch.inputs import Source, suffix_of
from rawisp.batch.label_store import LabelStore
from rawisp.data.annotations.entries import Annotations
from rawisp.data.annotations.labels import name_of_label
from rawisp.errors import AnnotationError, display_path

Record = dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """One output and what it is made from; `copy` of several that one input gives, from 1."""

    source: Source
    output: str
    copy: int = 1
    copies: int = 1


def planned_before(record: Record) -> Planned:
    """The output of a record. `synth` notes its input's name, and numbers copies from 0."""
    stem = name_of_label(record["output"])
    number = record.get("number")
    if number is None or "name" not in record:
        source = Source(record["source"], stem + suffix_of(record["source"]))
        return Planned(source, record["output"])
    several = stem.endswith(f"_night{number + 1}")
    source = Source(record["source"], record["name"])
    return Planned(source, record["output"], number + 1, 2 if several else 1)


def names_in_out(paths: list[str], store: LabelStore) -> list[str]:
    """What each annotation file is called in OUT: its name, with folders where that is not enough.

    One that OUT has labels of keeps its name, also when it was moved to another place.
    """
    if len(set(paths)) < len(paths):
        raise AnnotationError(
            f"{', '.join(map(display_path, paths))}: an annotation file is given twice"
        )
    names: list[str] = []
    taken = set(store.origins)
    for path in paths:
        parts = path.strip("/").split("/")
        trailing = ["/".join(parts[-depth:]) for depth in range(1, len(parts) + 1)]
        known = [
            name
            for name, origin in store.origins.items()
            if origin.path == path or (name in trailing and not os.path.lexists(origin.path))
        ]
        others = [other for other in paths if other != path]
        free = [
            name
            for name in trailing
            if name not in taken and not any(other.endswith(f"/{name}") for other in others)
        ]
        known = [name for name in known if name not in names]
        names.append(known[0] if known else free[0] if free else path)
        taken.add(names[-1])
    return names


@dataclass(frozen=True)
class Words:
    """What a verb calls its inputs, and whether its annotations are marked as ours at once."""

    inputs: str = "inputs"
    mark_first: bool = True


@dataclass
class AnnotationFile:
    """One annotation file of a run: its name in OUT, its entries, and whose they are.

    of_source: entry number by the input's path. of_earlier: outputs of earlier runs, made from none
    of this run's inputs, each with its entry number. renamed: a sentence where names differ.
    """

    name: str
    annotations: Annotations
    of_source: dict[str, int] = field(default_factory=dict)
    of_earlier: list[tuple[Planned, int]] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """As messages call it."""
        return display_path(self.annotations.labels.path)
