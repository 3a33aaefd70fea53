"""What a run says of its pace, with a clock that the test turns, and of many failures."""

from __future__ import annotations

from typing import Any

import pytest

from rawisp.batch import Event, RunReport
from rawisp.batch.records import RunRecords
from rawisp.cli import report as report_module
from rawisp.cli.report import Reporter, summary


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(report_module, "time", made)
    return made


def result(status: str, seconds: float = 0.5) -> Event:
    record: dict[str, Any] = {"source": "a.ARW", "output": "a.npy", "status": status, "reason": ""}
    return Event("result", record={**record, "seconds": seconds})


def test_the_time_left_does_not_count_the_start(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loading PyTorch takes ten seconds; then two files a second go through."""
    reporter = Reporter("enhance", as_json=False, quiet=False, verbose=False)
    reporter(Event("plan", total=1000))
    for _ in range(200):
        reporter(result("skipped"))
    clock.now += 10.0
    for _ in range(24):
        clock.now += 0.5
        reporter(result("done"))
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("enhance: 2") and "2.0 files/s" in line
    ended = int(line.split()[1].partition("/")[0])
    left = (1000 - ended) // 2
    assert f"0:{left // 60:02}:{left % 60:02} left" in line


def test_nothing_is_foretold_before_a_file_has_ended(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = Reporter("pack", as_json=False, quiet=False, verbose=False)
    reporter(Event("plan", total=3))
    clock.now += 60.0
    reporter(result("skipped"))
    assert capsys.readouterr().err == "pack: 1/3 \n"


def report_of(reasons: list[str]) -> RunReport:
    held = {
        f"{n}.npy": {"source": f"{n}.ARW", "output": f"{n}.npy", "status": "failed", "reason": one}
        for n, one in enumerate(reasons)
    }
    return RunReport(records=RunRecords(list(held), held=held), outputs_folder="out")


def test_more_failures_than_a_screen_are_counted_by_reason() -> None:
    cut = [f"ends {n} bytes before its picture does; copy it again" for n in range(30)]
    others = [f"reason {letter}" for letter in "abcdefgh"]
    text = summary("pack", report_of([*others, *cut, "is empty", "is empty"])).splitlines()[1]
    assert text.startswith("40 files failed: 30 ends N bytes before its picture does; 2 is empty; ")
    assert "; 5 for other reasons. " in text
    assert text.endswith("Each has a line in out/manifest.jsonl.")


def test_few_failures_are_not_counted_again() -> None:
    assert "\n" not in summary("pack", report_of(["is empty"] * 20))
