"""What a training run says while it goes on: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from rawisp.errors import display_path

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from rawisp.train import TrainResult
    from rawisp.train.events import TrainEvent

# Without a terminal, a line at most this often within an epoch.
_PLAIN_INTERVAL_S = 30.0


class TrainReporter:
    """Use as a context manager and pass it as `on_event`."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self._json, self._quiet = as_json, quiet
        self._live: Live | None = None
        self._epochs: list[dict[str, Any]] = []
        self._now: dict[str, Any] = {}
        self._status = ""
        self._last_line = time.monotonic()

    def __enter__(self) -> TrainReporter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        if kind is KeyboardInterrupt:  # Typer ends it with 130, and without a word
            self._say("interrupted; continue with --resume, from the last saved state")

    def __call__(self, event: TrainEvent) -> None:
        if event.kind in ("note", "failure"):
            if not self._quiet or event.kind == "failure":
                self._say(event.text)
        elif event.kind == "start":
            self._begin(event.values)
        elif event.kind == "step":
            self._now = event.values
            self._status = step_line(event.values)
            self._refresh()
        elif event.kind == "validating":
            self._status = f"validating {event.values['done']}/{event.values['of']}"
            if self._live is not None:
                self._refresh()
        else:
            self._epoch(event.values)

    def finish(self, result: TrainResult) -> None:
        """The last line: where the checkpoint is, and how good."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if not self._quiet and result.best_epoch >= 0:  # else not the process that leads
            self._say(
                f"train: best epoch {result.best_epoch} of {result.epochs} -> "
                f"{display_path(result.checkpoint)}"
            )

    def _begin(self, values: dict[str, Any]) -> None:
        if self._quiet:
            return
        self._say(
            f"train: {values['training']} photographs, {values['held_out']} held out, "
            f"{values['epochs']} epochs"
        )
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True),
                redirect_stdout=False,  # stdout is for data
                redirect_stderr=False,
                refresh_per_second=4,
            )
            self._live.start()

    def _epoch(self, record: dict[str, Any]) -> None:
        self._epochs.append(record)
        if self._json:
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()
        if self._live is not None:
            self._refresh()
        elif not self._quiet:
            self._say(epoch_line(record))

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._table())
        elif not self._quiet and time.monotonic() - self._last_line > _PLAIN_INTERVAL_S:
            self._last_line = time.monotonic()
            self._say(self._status)

    def _table(self) -> Table:
        from rich.table import Table

        names = list(self._epochs[-1]["losses"]) if self._epochs else list(self._now["losses"])
        table = Table(caption=self._status, caption_justify="left")
        for title in ("epoch", "lr", *names, "AP", "AP50"):
            table.add_column(title, justify="right")
        for record in self._epochs[-12:]:
            table.add_row(*epoch_cells(record, names))
        return table

    def _say(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stderr.write(text + "\n")


def step_line(values: dict[str, Any]) -> str:
    """Where a run is, how fast, how long still."""
    losses = ", ".join(f"{name} {value:.3f}" for name, value in values["losses"].items())
    left = int(values["left_s"])
    return (
        f"epoch {values['epoch']}/{values['epochs']}, step {values['step']}/{values['steps']}: "
        f"{losses}; {values['images_per_s']:.1f} images/s, "
        f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left, {values['memory_gb']:.1f} GB"
    )


def epoch_line(record: dict[str, Any]) -> str:
    """One finished epoch in one line."""
    losses = ", ".join(f"{name} {value:.3f}" for name, value in record["losses"].items())
    ap, ap50 = _precision(record)
    return f"epoch {record['epoch']}: {losses}; AP {ap}, AP50 {ap50}; {record['seconds']:.0f} s"


def epoch_cells(record: dict[str, Any], names: list[str]) -> list[str]:
    """The cells of an epoch's row."""
    losses = [f"{record['losses'].get(name, float('nan')):.3f}" for name in names]
    return [str(record["epoch"]), f"{record['lr']:.1e}", *losses, *_precision(record)]


def _precision(record: dict[str, Any]) -> tuple[str, str]:
    validation = record.get("validation") or {}
    texts = [validation.get(key) for key in ("ap", "ap50")]
    # As `rawisp eval` and the files have it: 0 to 1.
    first, second = ("-" if v is None else f"{v:.3f}" for v in texts)
    return first, second
