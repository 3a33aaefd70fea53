"""OUT/manifest.jsonl: what became of each input, one JSON object a line, keyed by output.

Before work starts, a line with status "pending" is appended for each planned input, and a full
line when it is finished; the last line of an output counts. So after a kill at any moment an
output file is known to be ours, and whole, even when its own line was never written. At the end
of a run the file is rewritten with one line per output.
"""

from __future__ import annotations

import json
import os
from typing import Any, BinaryIO

from rawisp.batch.writer import write_atomically
from rawisp.errors import OutputError, display_path

FILE_NAME = "manifest.jsonl"


_STATUSES = ("pending", "done", "suspect", "failed")


class Manifest:
    """The manifest of one output folder, in memory and on disk."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, FILE_NAME)
        self.entries = read_manifest(self.path)

    def append(self, records: list[dict[str, Any]]) -> None:
        """Adds finished or pending records, flushed to the file before this returns."""
        for record in records:
            self.entries[record["output"]] = record
        text = "".join(json.dumps(record) + "\n" for record in records)
        try:
            with open(self.path, "ab") as file:
                file.write(text.encode("ascii"))
        except OSError as error:
            raise OutputError(
                f"{display_path(self.path)}: cannot be written ({error.strerror})"
            ) from None

    def compact(self) -> None:
        """Rewrites the file, one line per output, sorted, by atomic rename."""
        lines = [json.dumps(self.entries[key]) + "\n" for key in sorted(self.entries)]

        def write(file: BinaryIO) -> None:
            file.writelines(line.encode("ascii") for line in lines)

        write_atomically(self.path, write)


def read_manifest(path: str) -> dict[str, dict[str, Any]]:
    """Output to its last record; empty when there is no file.

    A line that is none of ours (torn by a kill, say) is passed over beside good ones. OutputError
    for a file that has lines and not one of ours: it belongs to somebody else.
    """
    entries: dict[str, dict[str, Any]] = {}
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return entries
    except OSError as error:
        raise OutputError(f"{display_path(path)}: cannot be read ({error.strerror})") from None
    for line in lines:
        record = _record(line)
        if record is not None:
            entries[record["output"]] = record
    if not entries and any(line.strip() for line in lines):
        raise OutputError(
            f"{display_path(path)}: was not written by rawisp; move it away or choose another -o"
        )
    return entries


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    good = (
        isinstance(record, dict)
        and isinstance(record.get("output"), str)
        and isinstance(record.get("source"), str)
        and record.get("status") in _STATUSES
        and isinstance(record.get("settings"), dict)
    )
    return record if good else None
