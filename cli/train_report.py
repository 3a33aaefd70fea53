"""What a training run says while it goes on: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
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
        if event.kind == "plan":
            if not self._quiet:
                for line in plan_lines(event.values):
                    self._say(line)
        elif event.kind in ("note", "failure"):
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
            for line in last_lines(result):
                self._say(line)

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

        told = [*self._epochs, self._now]
        names = list(dict.fromkeys(name for one in told for name in one.get("losses", ())))
        table = Table(caption=self._status, caption_justify="left")
        for title in ("epoch", "learns", "lr", *names, "AP", "AP50"):
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
        f"epoch {values['epoch']}/{values['epochs']}{_joint(values)}, "
        f"step {values['step']}/{values['steps']}: {losses}; "
        f"{values['images_per_s']:.1f} images/s, "
        f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left, {values['memory_gb']:.1f} GB"
    )


def epoch_line(record: dict[str, Any]) -> str:
    """One finished epoch in one line."""
    losses = "".join(f"{name} {value:.3f}, " for name, value in record["losses"].items())
    ap, ap50 = _precision(record)
    before = ", before learning" if record["epoch"] == 0 else ""
    return (
        f"epoch {record['epoch']}{before}{_joint(record)}: {losses}AP {ap}, AP50 {ap50}; "
        f"{record['seconds']:.0f} s"
    )


def epoch_cells(record: dict[str, Any], names: list[str]) -> list[str]:
    """The cells of an epoch's row."""
    losses = [f"{record['losses'][n]:.3f}" if n in record["losses"] else "-" for n in names]
    lr = f"{record['lr']:.1e}" if record["epoch"] else "-"
    learns = {0: "nothing", 1: "ISP", 2: "joint"}[record["phase"]]
    return [str(record["epoch"]), learns, lr, *losses, *_precision(record)]


def _joint(values: dict[str, Any]) -> str:
    return ", joint" if values["phase"] == 2 else ""


def last_lines(result: TrainResult) -> list[str]:
    """What a run came to; the last line has the best epoch, its average precision, and where the
    checkpoint is."""
    lines = []
    joint = " (joint)" if result.joint else ""
    values = f"best epoch {result.best_epoch}{joint} of {result.epochs}"
    if result.after:
        after, before = _pair(result.after), _pair(result.before)
        values += f": AP {after[0]}, AP50 {after[1]}"
        if result.before:
            values += f" (before learning {before[0]}, {before[1]})"
            if not result.after["ap50"] > result.before["ap50"]:
                lines.append("train: no epoch is better than what there was before learning")
    if result.partner is not None:
        partner = display_path(result.partner)
        if result.joint:
            lines.append(f"train: its detector learned along; measure it with {partner}")
        else:
            lines.append(
                "train: no joint epoch was better than the best of the ISP alone, for the detector "
                f"as it was; the best joint pair is isp_joint.safetensors with {partner}"
            )
    return [*lines, f"train: {values} -> {display_path(result.checkpoint)}"]


def _pair(validation: Mapping[str, Any]) -> tuple[str, str]:
    return f"{validation['ap']:.3f}", f"{validation['ap50']:.3f}"


def show_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    """The plan on stdout, for --dry-run."""
    sys.stdout.write(json.dumps(plan) if as_json else "\n".join(plan_lines(plan)))
    sys.stdout.write("\n")


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """`TrainPlan.record()` for a person."""
    weights = plan["detector_weights"]
    its = f"weights {display_path(weights)}" if weights else "its own weights"
    fit = "full size" if plan["fit"] is None else f"within {plan['fit'][0]}x{plan['fit'][1]}"
    batch = f"steps of {plan['batch']} photographs"
    if plan["batch"] != plan["batch_size"]:
        batch += f", {plan['batch_size']} at a time"
    recipe = f", recipe {plan['recipe']}" if plan["recipe"] else ""
    rows = [
        ("ISP", f"{plan['isp']}, {plan['parameters']:,} parameters, fed {plan['input_color']}"),
        ("detector", f"{plan['detector']}, {its}"),
        *((_phase_title(phase), _phase_text(phase)) for phase in plan["phases"]),
        ("optimizer", f"{plan['optimizer']}, {batch}"),
        (
            "photographs",
            f"{plan['training']} to learn from, {plan['held_out']} held out, {fit}",
        ),
        ("device", plan["device"]),
        ("run folder", display_path(plan["folder"])),
        ("cache", display_path(plan["cache"])),
    ]
    done = f", {plan['done']} of them done" if plan["done"] else ""
    head = f"plan: {_counted(plan['epochs'])}{done}{recipe}"
    return [head, *(f"  {title:<13} {text}" for title, text in rows)]


def _counted(epochs: int) -> str:
    return f"{epochs} epoch{'s' * (epochs != 1)}"


def _phase_title(phase: dict[str, Any]) -> str:
    first, last = phase["first_epoch"], phase["last_epoch"]
    return f"epoch {first}" if first == last else f"epochs {first}-{last}"


def _phase_text(phase: dict[str, Any]) -> str:
    first, last = phase["lr"], phase["last_lr"]
    rate = f"{first:.3g}" if f"{first:.3g}" == f"{last:.3g}" else f"{first:.3g} to {last:.3g}"
    text = f"lr {rate} ({phase['schedule']})"
    if phase["phase"] == 2:
        return f"joint: ISP {text} and detector, lr {phase['detector_lr']:.3g}, learn together"
    return f"the ISP alone learns, {text}; the detector is frozen"


def _precision(record: dict[str, Any]) -> tuple[str, str]:
    validation = record.get("validation") or {}
    texts = [validation.get(key) for key in ("ap", "ap50")]
    # As `rawisp eval` and the files have it: 0 to 1.
    first, second = ("-" if v is None else f"{v:.3f}" for v in texts)
    return first, second
