"""A report's records: read like a list of dicts, whatever has become of the manifest since."""

from __future__ import annotations

import copy
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rawisp.batch import Event, RunOptions, RunReport, pack_folder

MakeRaw = Callable[..., Path]
ONE = RunOptions(workers=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_raw: MakeRaw) -> Path:
    """in/ with two photographs and one that is none, packed to out/ by a first run."""
    base = tmp_path_factory.mktemp("records")
    for seed, name in enumerate(("a", "c")):
        make_raw(base / "in" / f"{name}.ARW", seed)
    (base / "in" / "b.ARW").write_text("no photograph")
    assert pack_folder(base / "in", base / "out", options=ONE).exit_code == 1
    return base


@pytest.fixture
def report(folder: Path, tmp_path: Path) -> RunReport:
    """Of a second run over a copy of it: a and c are skipped, b fails again."""
    shutil.copytree(folder / "out", tmp_path / "out")
    return pack_folder(folder / "in", tmp_path / "out", options=ONE)


def test_they_read_like_a_list(report: RunReport) -> None:
    records = report.records
    assert [r["status"] for r in records] == ["skipped", "failed", "skipped"]
    assert len(records) == 3 and records[-1] == records[2] == list(records)[2]
    assert [r["output"] for r in records[1:]] == ["b.npy", "c.npy"]
    assert records[0]["reason"] == "done by an earlier run" and "affine" in records[0]
    assert records == list(records) and records != list(records)[:2]
    with pytest.raises(IndexError):
        records[3]


def test_a_record_that_is_put_back_counts(report: RunReport) -> None:
    report.records[0] |= {"status": "failed", "reason": "drawn on another frame"}
    assert report.count("failed") == 2 and report.count("skipped") == 1
    assert [r["output"] for r in report.records.with_status("failed")] == ["a.npy", "b.npy"]
    assert report.records[0]["reason"] == "drawn on another frame"


def test_they_outlive_other_runs_and_the_folder(
    report: RunReport, folder: Path, tmp_path: Path
) -> None:
    before = list(report.records)
    settings = RunOptions(workers=1, overwrite=True)
    assert pack_folder(folder / "in", tmp_path / "out", options=settings).count("done") == 2
    assert list(report.records) == before
    shutil.rmtree(tmp_path / "out")
    assert list(report.records) == before


def test_copies_and_pickles_are_lists(report: RunReport) -> None:
    before = list(report.records)
    assert copy.deepcopy(report.records) == before
    assert pickle.loads(pickle.dumps(report.records)) == before


def test_an_event_tells_the_status_and_has_the_record(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    events: list[Event] = []
    report = pack_folder(folder / "in", tmp_path / "out", options=ONE, on_event=events.append)
    results = [event for event in events if event.kind == "result"]
    assert sorted(event.status for event in results) == ["failed", "skipped", "skipped"]
    assert all(event.record["status"] == event.status for event in results)
    by_output = {record["output"]: record for record in report.records}
    assert {e.record["output"]: e.record["reason"] for e in results} == {
        output: record["reason"] for output, record in by_output.items()
    }
    assert events[0].total == 3 and events[0].record == {}
