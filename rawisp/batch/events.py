"""What a run tells its caller: events while it goes on, a report at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rawisp.batch.records import RunRecords

Record = dict[str, Any]
Status = Literal["done", "suspect", "skipped", "failed", "planned", "not attempted"]

# Of inputs that have an output now: made in this run, made although the file looks damaged, or made
# by an earlier run.
FINISHED = ("done", "suspect", "skipped")


class Event:
    """kind "plan": `total` inputs; "result": one has ended, see `record`; "note": `text`.

    status: of a result's record. It is known at once, while the record of a file that was done
    before is read from the manifest when it is asked for.
    """

    def __init__(
        self,
        kind: Literal["plan", "result", "note"],
        total: int = 0,
        text: str = "",
        record: Record | Callable[[], Record] | None = None,
        *,
        status: str = "",
    ) -> None:
        self.kind = kind
        self.total = total
        self.text = text
        self._record = record
        self._status = status

    @property
    def record(self) -> Record:
        """Of a result: as in the manifest."""
        if callable(self._record):
            self._record = self._record()
        return self._record or {}

    @property
    def status(self) -> str:
        """Of a result: how the input ended."""
        return self._status or str(self.record.get("status", ""))

    def __repr__(self) -> str:
        detail = {"plan": str(self.total), "result": self.status, "note": repr(self.text)}
        return f"<Event {self.kind}: {detail[self.kind]}>"


OnEvent = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """For callers who only want the report."""


@dataclass
class RunReport:
    """How many inputs ended how, and the records of all of them, in input order.

    records: a sequence of dicts; those that the manifest has are read from it when asked for
    (see `RunRecords`), so that a run over 100,000 files needs no memory for them.

    `exit_code` is 0 when all are done, suspect or skipped, 1 when some failed or were not
    attempted, 130 when the run was interrupted. A file is suspect when part of its picture is such
    as no sensor writes: the output is there, and `reason` says what is wrong with it.
    """

    records: RunRecords = field(default_factory=RunRecords)
    interrupted: bool = False
    stopped: str = ""  # why the run ended early, "" if it did not
    seconds: float = 0.0
    outputs_folder: str = ""
    annotations: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        counts = {status: self.count(status) for status in get_args(Status)}
        found = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        return f"<RunReport: {found or 'no inputs'} -> {self.outputs_folder}>"

    def count(self, status: Status) -> int:
        """How many inputs ended with `status`."""
        return self.records.statuses.count(status)

    @property
    def exit_code(self) -> int:
        """The documented exit code of the command line."""
        if self.interrupted:
            return 130
        return 1 if self.count("failed") or self.count("not attempted") else 0
