"""The records of a run without the memory for them: most are read from the manifest when asked for.

A record is several kB of Python objects, and a folder may have a hundred thousand files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, overload

from rawisp.batch.manifest import Manifest

Record = dict[str, Any]

_SKIPPED = {"status": "skipped", "reason": "done by an earlier run"}


class RunRecords(Sequence[Record]):
    """One record per input, in input order; reads like a list of dicts.

    A record is made anew each time that it is asked for: to change one, put it back
    (`records[3] = {**records[3], "status": "failed"}`). What the manifest said at the end of the
    run is what is read, whatever has become of that file since.
    """

    def __init__(
        self,
        outputs: Sequence[str] = (),
        manifest: Manifest | None = None,
        *,
        skipped: Collection[str] = (),
        held: Mapping[str, Record] | None = None,
    ) -> None:
        """outputs: their names in the manifest. held: records that it has not, or not in full."""
        self._outputs = list(outputs)
        self._manifest = manifest
        self._held = dict(held or {})
        self._statuses = [
            "skipped" if output in skipped else self._status(output) for output in self._outputs
        ]

    def _status(self, output: str) -> str:
        if output in self._held:
            return str(self._held[output]["status"])
        assert self._manifest is not None
        return self._manifest.entries[output].status

    @property
    def statuses(self) -> tuple[str, ...]:
        """Of each record, without reading any."""
        return tuple(self._statuses)

    def with_status(self, *statuses: str) -> Iterator[Record]:
        """The records of those statuses; no others are read."""
        for number, one in enumerate(self._statuses):
            if one in statuses:
                yield self._read(number)

    def suspect_count(self) -> int:
        """How many files look damaged, those included that an earlier run has made."""
        known = self._manifest.entries if self._manifest is not None else {}
        return sum(
            status == "suspect" or (status == "skipped" and known[output].status == "suspect")
            for output, status in zip(self._outputs, self._statuses, strict=True)
        )

    def __len__(self) -> int:
        return len(self._outputs)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self._read(number) for number in range(len(self))[index]]
        return self._read(range(len(self))[index])

    def __setitem__(self, index: int, record: Record) -> None:
        number = range(len(self))[index]
        self._held[self._outputs[number]] = record
        self._statuses[number] = record["status"]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunRecords | list):
            return NotImplemented
        return list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} records>"

    def __reduce__(self) -> tuple[type, tuple[list[Record]]]:
        """Copies and pickles are lists: they cannot share the open file."""
        return list, (list(self),)

    def _read(self, number: int) -> Record:
        output = self._outputs[number]
        if output in self._held:
            return self._held[output]
        assert self._manifest is not None
        if self._statuses[number] == "skipped":
            return skipped_record(self._manifest, output)
        return self._manifest.load(output)


def skipped_record(manifest: Manifest, output: str) -> Record:
    """The record of an output that an earlier run has made."""
    return {**manifest.load(output), **_SKIPPED}
