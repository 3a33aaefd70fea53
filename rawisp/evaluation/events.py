"""What an evaluation reports while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rawisp.batch.events import Event, OnEvent
from rawisp.data.annotations.labels import said_of
from rawisp.data.folder import DataSet
from rawisp.errors import display_path


@dataclass(frozen=True)
class EvaluationEvent:
    """kind "note": `text`. "failure": `text` on a photograph that is left out. "progress": `done`
    photographs of `total` in the stage "packing", where `text` is a colour, or in the stage
    "evaluating", over all renderings, where it is the one under way. "row": the rendering `text` is
    finished, `done` of `total`.
    """

    kind: Literal["note", "failure", "progress", "row"]
    text: str = ""
    stage: Literal["", "packing", "evaluating"] = ""
    done: int = 0
    total: int = 0


OnEvaluationEvent = Callable[[EvaluationEvent], None]


def ignore_evaluation(_: EvaluationEvent) -> None:
    """For those who only want the numbers."""


class Voice:
    """Speaks to the caller, and remembers what was noted for the report."""

    def __init__(self, say: OnEvaluationEvent) -> None:
        self.say = say
        self.notes: list[str] = []

    def note(self, text: str, *, keep: bool = False) -> None:
        """A sentence for a person; `keep` it for the report if it is about the numbers."""
        if keep:
            self.notes.append(text)
        self.say(EvaluationEvent("note", text))

    def notes_on(self, dataset: DataSet) -> None:
        """What was found, and what is wrong with it."""
        for text in dataset.notes:
            self.note(text)
        for text in said_of(dataset.problems):
            self.note(text)

    def failure(self, text: str, *, keep: bool = False) -> None:
        """A sentence on what could not be used, which is never kept from a person."""
        if keep:
            self.notes.append(text)
        self.say(EvaluationEvent("failure", text))

    def packing(self, color: str) -> OnEvent:
        """Turns what packing reports into notes and progress."""
        done = total = 0

        def forward(event: Event) -> None:
            nonlocal done, total
            if event.kind == "note":
                self.note(event.text)
            elif event.kind == "plan":
                done, total = 0, event.total
            else:
                done = min(done + 1, total)  # one may be packed and then fail for its boxes
                if event.status == "failed":
                    source = display_path(event.record["source"])
                    self.failure(f"{source}: {event.record['reason']}")
                self.say(EvaluationEvent("progress", color, "packing", done, total))

        return forward
