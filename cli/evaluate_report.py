"""What an evaluation says while it goes on (stderr), and its table (stdout)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rawisp.errors import display_path

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from rawisp.evaluation import Comparison, EvaluationEvent

# Without a terminal, a line of progress at most this often.
_PLAIN_INTERVAL_S = 10.0
_GAP = 2  # blanks between the columns of the table


class EvaluationReporter:
    """Use as a context manager and pass it as `on_event`."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._stage, self._done = "", 0
        self._start = self._last_line = time.monotonic()

    def __enter__(self) -> EvaluationReporter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end()
        if kind is KeyboardInterrupt:  # Typer ends it with 130, and without a word
            self._say("interrupted; run the same command again, what was packed is kept")

    def __call__(self, event: EvaluationEvent) -> None:
        if event.kind == "failure" or (event.kind == "note" and not self._quiet):
            self._say(event.text)
        elif event.kind == "progress" and not self._quiet:
            self._progress(event)

    def finish(
        self, comparison: Comparison, written: Sequence[str], fail_under: float | None
    ) -> None:
        """The last lines: what was evaluated, where the files are, whether it is good enough."""
        from rawisp.evaluation.report import is_under, summary

        self._end()
        if not self._quiet:
            files = f" -> {', '.join(display_path(path) for path in written)}" if written else ""
            self._say(f"eval: {summary(comparison)}{files}")
        if fail_under is not None and is_under(comparison, fail_under):
            last = comparison.rows[-1]
            self._say(f"AP50 of {last.name} is {last.precision.ap50:.3f}, under {fail_under:g}")

    def _progress(self, event: EvaluationEvent) -> None:
        if event.stage != self._stage or event.done < self._done:
            self._begin(event)
        self._done = event.done
        text = f"{event.stage} {event.text}"
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, description=text, completed=event.done, pace=self._pace(event)
            )
        elif time.monotonic() - self._last_line > _PLAIN_INTERVAL_S:
            self._last_line = time.monotonic()
            self._say(f"{text}: {event.done}/{event.total} {self._pace(event)}")

    def _begin(self, event: EvaluationEvent) -> None:
        self._end()
        self._stage, self._start = event.stage, time.monotonic()
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=Console(stderr=True),
            redirect_stdout=False,  # stdout is for data
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(event.stage, total=event.total, pace="")
        self._bar.start()

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _pace(self, event: EvaluationEvent) -> str:
        elapsed = time.monotonic() - self._start
        if event.done <= 0 or elapsed <= 0:
            return ""
        left = int((event.total - event.done) * elapsed / event.done)
        rate = event.done / elapsed
        return f"{rate:.1f} images/s, {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stderr.write(text + "\n")


def show(comparison: Comparison, *, as_json: bool) -> None:
    """The tables, or one JSON object, on stdout.

    On a terminal, columns that do not fit follow below; elsewhere nothing is wrapped.
    """
    from rawisp.evaluation.report import record, tables

    if as_json:
        sys.stdout.write(json.dumps(record(comparison), allow_nan=False) + "\n")
        return
    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout) if terminal else Console(file=sys.stdout, width=100_000)
    for number, lines in enumerate(tables(comparison)):
        if number and not terminal:
            sys.stdout.write("\n")
        _print_table(console, lines, terminal)


def _print_table(console: Console, lines: list[list[str]], terminal: bool) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if terminal:
        lines[0] = [heading.replace(" ", "\n", 1) for heading in lines[0]]
    look = box.SIMPLE_HEAD if terminal else None  # whose lines are a blank between columns
    padding = (0, _GAP - 1 if terminal else _GAP, 0, 0)
    for columns in in_parts(lines, console.width):
        shown = Table(box=look, padding=padding, pad_edge=False)
        for column in columns:
            shown.add_column(Text(lines[0][column]), justify="right" if column else "left")
        for line in lines[1:]:
            shown.add_row(*(Text(line[column]) for column in columns))
        console.print(shown, soft_wrap=not terminal)


def in_parts(lines: Sequence[Sequence[str]], width: int) -> Iterator[list[int]]:
    """Columns that fit side by side within `width`, each part beginning with the first column."""
    widths = [
        max(len(part) for line in lines for part in line[column].split("\n")) + _GAP
        for column in range(len(lines[0]))
    ]
    part, used = [0], widths[0]
    for column in range(1, len(widths)):
        if len(part) > 1 and used + widths[column] > width - _GAP:
            yield part
            part, used = [0], widths[0]
        part.append(column)
        used += widths[column]
    yield part
