"""What a run tells its caller: events while it goes on, a report at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Status = Literal["done", "suspect", "skipped", "failed", "planned", "not attempted"]

# Of inputs that have an output now: made in this run, made although the file looks damaged, or made
# by an earlier run.
FINISHED = ("done", "suspect", "skipped")


@dataclass(frozen=True)
class Event:
    """kind "plan": `total` inputs; "result": one has ended, see `record`; "note": `text`."""

    kind: Literal["plan", "result", "note"]
    total: int = 0
    text: str = ""
    record: dict[str, Any] = field(default_factory=dict)


OnEvent = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """For callers who only want the report."""


@dataclass
class RunReport:
    """How many inputs ended how, and the records of all of them, in input order.

    `exit_code` is 0 when all are done, suspect or skipped, 1 when some failed or were not
    attempted, 130 when the run was interrupted. A file is suspect when part of its picture is such
    as no sensor writes: the output is there, and `reason` says what is wrong with it.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
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
        return sum(record["status"] == status for record in self.records)

    @property
    def exit_code(self) -> int:
        """The documented exit code of the command line."""
        if self.interrupted:
            return 130
        return 1 if self.count("failed") or self.count("not attempted") else 0
