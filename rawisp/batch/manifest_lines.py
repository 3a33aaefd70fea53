"""One line of a manifest: how it is written, and how its essentials are read without the rest.

Parsing all of a line of 4 kB costs 20 times what an unchanged rerun needs of it. So the keys that
a plan looks at end the line, in a fixed order, and are read from there. Lines of another order
(of earlier versions, or written by hand) are parsed as JSON.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

Record = dict[str, Any]

# What a line of ours may say; the regular expression below is made from it.
STATUSES = ("pending", "done", "suspect", "failed")

_LAST_KEYS = (
    "source",
    "output",
    "status",
    "reason",
    "source_bytes",
    "source_modified_ns",
    "settings",
    "checkpoint",
    "version",
    "seconds",
)
# A quote within a JSON string has a backslash before it, so no text can pass for this key.
_BEGIN = b'"source": "'
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_END = re.compile(
    rb'"source": (%(string)s), "output": (%(string)s), "status": "(%(statuses)s)", '
    rb'"reason": %(string)s, "source_bytes": (\d+|null), "source_modified_ns": (-?\d+|null), '
    rb'"settings": (\{.*\}), "checkpoint": (null|\{.*\}), "version": %(string)s'
    rb'(?:, "seconds": [-+.e\d]+)?\}\s*\Z'
    % {b"string": _STRING, b"statuses": "|".join(STATUSES).encode()}
)


class Entry(NamedTuple):
    """What an index keeps of an output's last line: its place, and what a plan compares.

    source_bytes, source_modified_ns: None when the source was gone. settings, checkpoint: shared
    by all entries that have the same; not to be changed.
    """

    offset: int
    length: int
    source: str
    status: str
    source_bytes: int | None
    source_modified_ns: int | None
    settings: Record
    checkpoint: Record | None


def line_of(record: Record) -> bytes:
    """`record` as a line, the keys that are read quickly at its end."""
    first = {key: value for key, value in record.items() if key not in _LAST_KEYS}
    last = {key: record[key] for key in _LAST_KEYS if key in record}
    return (json.dumps({**first, **last}) + "\n").encode("ascii")


class LineReader:
    """Reads lines to entries; equal settings and checkpoints become one object."""

    def __init__(self) -> None:
        self._shared: dict[bytes, Any] = {}

    def read(self, offset: int, line: bytes) -> tuple[str, Entry] | None:
        """(output, entry) of the line at `offset`; None for a line that is none of ours."""
        found = self._quickly(offset, line)
        if found is not None:
            return found
        record = _parsed(line)
        return None if record is None else (record["output"], self.entry(offset, len(line), record))

    def entry(self, offset: int, length: int, record: Record) -> Entry:
        """Of a record whose line is at `offset`."""
        return Entry(
            offset,
            length,
            record["source"],
            record["status"],
            record.get("source_bytes"),
            record.get("source_modified_ns"),
            self._one(json.dumps(record["settings"]).encode()),
            self._one(json.dumps(record.get("checkpoint")).encode()),
        )

    def renewed(self, line: bytes) -> bytes:
        """`line` as this version writes it, its line end included."""
        if self._quickly(0, line) is not None:
            return line if line.endswith(b"\n") else line + b"\n"
        record = _parsed(line)
        return line.rstrip() + b"\n" if record is None else line_of(record)

    def _quickly(self, offset: int, line: bytes) -> tuple[str, Entry] | None:
        """As `read`, for a line that ends as `line_of` ends it; None for any other.

        What stands before that end is only counted: braces that do not match tell of a line that
        a kill has torn and the next run has gone on writing.
        """
        begin = line.rfind(_BEGIN)
        match = _END.match(line, begin) if begin > 0 else None
        if match is None or line[:1] != b"{" or line.count(b"{") != line.count(b"}"):
            return None
        source, output, status, size, modified, settings, checkpoint = match.groups()
        try:
            entry = Entry(
                offset,
                len(line),
                _text(source),
                status.decode(),
                None if size == b"null" else int(size),
                None if modified == b"null" else int(modified),
                self._one(settings),
                self._one(checkpoint),
            )
            return _text(output), entry
        except ValueError:
            return None

    def _one(self, text: bytes) -> Any:
        if text not in self._shared:
            self._shared[text] = json.loads(text)
        return self._shared[text]


def _text(quoted: bytes) -> str:
    if b"\\" in quoted:
        text: str = json.loads(quoted)
        return text
    return quoted[1:-1].decode("ascii")


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    good = (
        isinstance(record, dict)
        and isinstance(record.get("output"), str)
        and isinstance(record.get("source"), str)
        and record.get("status") in STATUSES
        and isinstance(record.get("settings"), dict)
    )
    return record if good else None
