"""What a run will do to each input, decided before anything is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rawisp.batch.inputs import Source
from rawisp.batch.manifest_lines import Entry
from rawisp.errors import OutputError, display_path

Record = dict[str, Any]


@dataclass(frozen=True)
class Identity:
    """What makes two runs produce the same files: settings, and the checkpoint's hash if any."""

    settings: Record
    checkpoint: Record | None = None


@dataclass
class Plan:
    """todo: (source, output) to work on. skipped: outputs of earlier runs that still hold."""

    todo: list[tuple[Source, str]] = field(default_factory=list)
    skipped: set[str] = field(default_factory=set)


def file_stamp(path: str) -> Record:
    """Size and time of the source, by which a changed file is noticed; empty when it is gone."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return {"source_bytes": None, "source_modified_ns": None}
    return {"source_bytes": status.st_size, "source_modified_ns": status.st_mtime_ns}


def make_plan(
    sources: list[Source],
    outputs: list[str],
    folder: str,
    entries: Mapping[str, Entry],
    identity: Identity,
    *,
    overwrite: bool,
    strict: bool = False,
) -> Plan:
    """Which inputs are still to do. OutputError when going on would lose or mix up files.

    An output is skipped when the manifest says it is done from the same source with the same
    settings and checkpoint, and, if `strict`, that nothing is suspect about it. One that was
    planned but not recorded (a killed run), or whose source has changed, is made again. One that
    rawisp did not write, that came from another file, or was made with other settings is never
    touched without `overwrite`.
    """
    plan = Plan()
    foreign: list[str] = []
    for source, output in zip(sources, outputs, strict=True):
        entry = entries.get(output)
        if overwrite or not os.path.lexists(os.path.join(folder, output)):
            plan.todo.append((source, output))
        elif entry is None or entry.status == "failed":
            foreign.append(output)  # nothing of ours is left where an input failed
        elif entry.status == "pending":
            plan.todo.append((source, output))
        else:
            _check_same(source, output, folder, entry, identity)
            same = file_stamp(source.path) == {
                "source_bytes": entry.source_bytes,
                "source_modified_ns": entry.source_modified_ns,
            }
            if same and not (strict and entry.status == "suspect"):
                plan.skipped.add(output)
            else:
                plan.todo.append((source, output))
    if foreign:
        first = display_path(os.path.join(folder, foreign[0]))
        others = f" and {len(foreign) - 1} more files" if len(foreign) > 1 else ""
        raise OutputError(
            f"{first}{others}: exists but was not written by rawisp; choose another -o, or "
            "--overwrite to replace"
        )
    return plan


def _check_same(source: Source, output: str, folder: str, entry: Entry, identity: Identity) -> None:
    if entry.source != source.path:  # resolving links costs more than all the rest
        before = os.path.realpath(entry.source)
        if before != os.path.realpath(source.path) and os.path.lexists(before):
            raise OutputError(
                f"{_shown(folder, output)}: was made from {display_path(entry.source)}, now "
                f"{display_path(source.path)} would replace it; choose another -o, or --overwrite"
            )
    changes = [
        f"{key} {entry.settings.get(key)} -> {value}"
        for key, value in identity.settings.items()
        if entry.settings.get(key) != value
    ]
    if identity.checkpoint is not None and entry.checkpoint != identity.checkpoint:
        changes.append("checkpoint")
    if changes:
        raise OutputError(
            f"{_shown(folder, output)}: was made with other settings ({', '.join(changes)}); "
            "choose another -o, or --overwrite to make everything again"
        )


def _shown(folder: str, output: str) -> str:
    return display_path(os.path.join(folder, output))
