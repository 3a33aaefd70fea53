"""What a folder run says while it goes on (stderr), and its data (stdout)."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

from rawisp.errors import display_path

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from rawisp.batch import Event, RunReport

# More failures than these lines are counted by reason at the end, the most frequent ones first.
_SCREEN = 20
_KINDS = 5
# Without a terminal, a line of progress at most this often.
_PLAIN_INTERVAL_S = 10.0


class Reporter:
    """Shows a run: a progress bar on a terminal, a line now and then elsewhere.

    Use as a context manager and pass it as `on_event`.
    """

    def __init__(self, verb: str, *, as_json: bool, quiet: bool, verbose: bool) -> None:
        self._verb = verb
        self._json = as_json
        self._quiet = quiet
        self._verbose = verbose
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._total = self._ended = self._skipped = 0
        self._begun: float | None = None  # when work on the first file began
        self._last_line = time.monotonic()

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_bar()

    def __call__(self, event: Event) -> None:
        if event.kind == "plan":
            self._begin(event.total)
        elif event.kind == "note":
            if not self._quiet:
                self._say(event.text)
        else:
            self._result(event)

    def finish(self, report: RunReport) -> None:
        """The summary, and the exit code if it is not zero."""
        self._end_bar()
        if not self._quiet:
            self._say(summary(self._verb, report))
        if report.exit_code:
            raise typer.Exit(report.exit_code)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _begin(self, total: int) -> None:
        self._total = total
        if self._quiet or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=Console(stderr=True),
            redirect_stdout=False,  # stdout is for data
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(self._verb, total=total, pace="")
        self._bar.start()

    def _result(self, event: Event) -> None:
        self._ended += 1
        self._skipped += event.status == "skipped"
        if self._json:
            sys.stdout.write(json.dumps(event.record) + "\n")
            sys.stdout.flush()
        if event.status == "failed":
            self._failed(event.record)
        elif event.status == "suspect":
            source = display_path(event.record["source"])
            self._say(f"{source}: looks damaged: {event.record['reason']}")
        elif event.status == "planned" and not self._json:
            self._end_bar()  # nothing is worked on, and the plan may go to the same terminal
            sys.stdout.write(f"{_line(event.record)}\n")
        elif self._verbose and not self._quiet:
            self._told(event.record)
        if self._begun is None and event.status not in ("skipped", "planned"):
            self._begun = time.monotonic() - event.record.get("seconds", 0.0)
        self._progress()

    def _failed(self, record: dict[str, Any]) -> None:
        took = f" ({record['seconds']:.2f} s)" if self._verbose and "seconds" in record else ""
        self._say(f"{display_path(record['source'])}: {record['reason']}{took}")
        if self._verbose and record.get("detail"):
            self._say(record["detail"].rstrip())

    def _told(self, record: dict[str, Any]) -> None:
        """A line for a file, and one for each of its warnings."""
        done = record["status"] in ("done", "suspect")
        took = f" ({record['seconds']:.2f} s)" if done else ""
        self._say(f"{_line(record)}{took}")
        for warning in record.get("warnings", ()) if done else ():
            self._say(f"{display_path(record['source'])}: {warning}")

    def _progress(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._ended, pace=self._pace())
        elif not self._quiet and time.monotonic() - self._last_line > _PLAIN_INTERVAL_S:
            self._last_line = time.monotonic()
            self._say(f"{self._verb}: {self._ended}/{self._total} {self._pace()}")

    def _pace(self) -> str:
        """Rate and time left, of the files that were worked on, since the workers were ready."""
        worked = self._ended - self._skipped
        elapsed = 0.0 if self._begun is None else time.monotonic() - self._begun
        if worked <= 0 or elapsed <= 0:
            return ""
        rate = worked / elapsed
        left = int((self._total - self._ended) / rate)
        return f"{rate:.1f} files/s, {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stderr.write(text + "\n")


def _line(record: dict[str, Any]) -> str:
    """SOURCE -> OUTPUT: status."""
    source, output = display_path(record["source"]), display_path(record["output"])
    return f"{source} -> {output}: {record['status']}"


def summary(verb: str, report: RunReport) -> str:
    """One or two lines: how many inputs ended how, how fast, and where the outputs are."""
    parts = []
    for status in ("done", "suspect", "skipped", "planned", "failed", "not attempted"):
        count = report.count(status)
        if count or status == "done":
            parts.append(f"{count} {status}")
    done = report.count("done") + report.count("suspect")
    rate = f", {done / report.seconds:.1f} files/s" if done and report.seconds else ""
    devices: set[str] = set()
    warned = 0
    first_warning = ""
    for record in report.records.with_status("done", "suspect"):
        devices |= {record["device"]} if "device" in record else set()
        warned += bool(record.get("warnings"))
        first_warning = first_warning or (record.get("warnings") or [""])[0]
    on = f" on {', '.join(sorted(devices))}" if devices else ""
    lines = [
        f"{verb}: {', '.join(parts)} in {report.seconds:.1f} s{rate}{on} -> "
        f"{display_path(report.outputs_folder)}"
    ]
    suspect = report.records.suspect_count()
    if suspect:
        files = "1 file looks" if suspect == 1 else f"{suspect} files look"
        lines.append(
            f"{files} damaged (status suspect in the manifest); copy them again from the card, or "
            "leave them out with --strict"
        )
    if warned:
        files = "1 file has" if warned == 1 else f"{warned} files have"
        lines.append(f"{files} warnings, see the manifest; the first: {first_warning}")
    lines += _failures(report)
    if report.annotations:
        a = report.annotations
        lines.append(
            f"annotations: {a['boxes']} boxes in {a['images']} images; dropped "
            f"{a['empty_boxes_dropped']} empty boxes and {a['masks_dropped']} masks"
        )
    if report.interrupted:
        lines.append("interrupted; run the same command again to continue")
    elif report.stopped:
        lines.append(report.stopped)
    return "\n".join(lines)


def _failures(report: RunReport) -> list[str]:
    """Where more have failed than fit on a screen: how many of what, and where all are named."""
    failed = report.count("failed")
    if failed <= _SCREEN:
        return []
    kinds = Counter(_kind(record["reason"]) for record in report.records.with_status("failed"))
    shown = [f"{count} {kind}" for kind, count in kinds.most_common(_KINDS)]
    others = sum(count for _, count in kinds.most_common()[_KINDS:])
    shown += [f"{others} for other reasons"] if others else []
    manifest = display_path(os.path.join(report.outputs_folder, "manifest.jsonl"))
    return [f"{failed} files failed: {'; '.join(shown)}. Each has a line in {manifest}."]


def _kind(reason: str) -> str:
    """A reason without its advice and its numbers, by which those of one kind are counted."""
    problem = re.split(r"[;(]", reason, maxsplit=1)[0].strip()
    return re.sub(r"\d[\d.,x]*", "N", problem)
