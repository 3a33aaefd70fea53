"""What a run says of its pace, with a clock that the test turns."""

from __future__ import annotations

from typing import Any

import pytest

from rawisp.batch import Event
from rawisp.cli import report as report_module
from rawisp.cli.report import Reporter


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
