"""OUT/manifest.jsonl: what became of each input, one JSON object a line, keyed by output.

Before work starts, a line with status "pending" is appended for each planned input, and a full
line when it is finished; the last line of an output counts. So after a kill at any moment an
output file is known to be ours, and whole, even when its own line was never written. At the end
of a run the file is rewritten with one line per output.

A manifest may have tens of thousands of lines of several kB. They are never held as objects: an
index tells where each output's line is, and what a plan needs of it (docs/decisions/0025).
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO

from rawisp.batch.manifest_lines import Entry, LineReader, Record, line_of
from rawisp.batch.writer import output_error, write_atomically
from rawisp.errors import OutputError, display_path

FILE_NAME = "manifest.jsonl"


class Manifest:
    """The manifest of one output folder: its lines on disk, their index in memory.

    The file stays open as long as this object lives, so that `load` gives what the index means
    even when another run has rewritten the manifest since, or somebody has deleted it.
    OutputError when it cannot be read or belongs to somebody else.
    """

    def __init__(self, folder: str, name: str = FILE_NAME) -> None:
        self.path = os.path.join(folder, name)
        self.entries: dict[str, Entry] = {}
        self._reader = LineReader()
        self._descriptor = -1
        self._size = 0
        self._torn = False  # whether the file ends within a line
        self._closing: weakref.finalize[..., Manifest] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Reads the file again if it has changed since it was read."""
        if self._is_current():
            return
        self._open()
        self.entries = {}
        self._size, self._torn = 0, False
        if self._descriptor < 0:
            return
        strange = False
        for offset, line in _lines(self._descriptor, self.path):
            self._size, self._torn = offset + len(line), not line.endswith(b"\n")
            found = self._reader.read(offset, line)
            if found is not None:
                self.entries[found[0]] = found[1]
            else:
                strange = strange or bool(line.strip())
        if strange and not self.entries:
            raise OutputError(
                f"{display_path(self.path)}: was not written by rawisp; move it away or choose "
                "another -o"
            )

    def load(self, output: str) -> Record:
        """The whole last record of `output`. KeyError when there is none."""
        entry = self.entries[output]
        line = os.pread(self._descriptor, entry.length, entry.offset)
        with suppress(ValueError, RecursionError):
            record: Record = json.loads(line)
            if record["output"] == output:
                return record
        raise OutputError(
            f"{display_path(self.path)}: its line of {display_path(output)} is damaged; delete "
            "that output and run the same command again"
        )

    def append(self, records: Iterable[Record]) -> None:
        """Adds finished or pending records, flushed to the file before this returns."""
        written: dict[str, Entry] = {}
        try:
            with open(self.path, "ab") as file:
                if self._torn:
                    file.write(b"\n")
                self._torn = True  # until all of it is written
                offset = file.tell()
                for record in records:
                    line = line_of(record)
                    file.write(line)
                    written[record["output"]] = self._reader.entry(offset, len(line), record)
                    offset += len(line)
        except OSError as error:
            raise output_error(self.path, error) from None
        self.entries |= written
        self._torn, self._size = False, offset
        if self._descriptor < 0:
            self._open()

    def compact(self) -> None:
        """Rewrites the file, one line per output, sorted, by atomic rename."""
        moved: dict[str, Entry] = {}

        def write(file: BinaryIO) -> None:
            offset = 0
            for output in sorted(self.entries):
                entry = self.entries[output]
                line = self._reader.renewed(os.pread(self._descriptor, entry.length, entry.offset))
                file.write(line)
                moved[output] = entry._replace(offset=offset, length=len(line))
                offset += len(line)

        write_atomically(self.path, write)
        self.entries = moved
        self._open()
        self._size = sum(entry.length for entry in moved.values())
        self._torn = False

    def _is_current(self) -> bool:
        if self._descriptor < 0:
            return False
        try:
            now, then = os.stat(self.path), os.fstat(self._descriptor)
        except OSError:
            return False
        same_file = (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino)
        return same_file and now.st_size == self._size

    def _open(self) -> None:
        if self._closing is not None:
            self._closing()
        self._descriptor, self._closing = _descriptor(self.path), None
        if self._descriptor >= 0:
            self._closing = weakref.finalize(self, os.close, self._descriptor)


def iterate_manifest(path: str) -> Iterator[Record]:
    """Yields the last record of each output, in the order of those lines in the file.

    path: of the file itself; nothing is yielded when there is none. One record is in memory at a
    time, and the place of each line, whatever the file's size. Lines that are none of ours are
    passed over. OutputError as for `Manifest`, when the first record is asked for.
    """
    manifest = Manifest(*os.path.split(path))
    for output in sorted(manifest.entries, key=lambda output: manifest.entries[output].offset):
        yield manifest.load(output)


def read_manifest(path: str) -> dict[str, Record]:
    """Output to its last record, all in memory; empty when there is no file.

    A line that is none of ours (torn by a kill, say) is passed over beside good ones. OutputError
    for a file that has lines and not one of ours: it belongs to somebody else.
    """
    return {record["output"]: record for record in iterate_manifest(path)}


def _descriptor(path: str) -> int:
    """Of the file opened for reading; -1 when there is none."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise OutputError(f"{display_path(path)}: cannot be read ({error.strerror})") from None


def _lines(descriptor: int, path: str) -> Iterator[tuple[int, bytes]]:
    """Each line with its offset."""
    offset = 0
    try:
        with open(descriptor, "rb", closefd=False, buffering=1 << 20) as file:
            file.seek(0)
            for line in file:
                yield offset, line
                offset += len(line)
    except OSError as error:
        raise OutputError(f"{display_path(path)}: cannot be read ({error.strerror})") from None
