"""Blame for exactly one file: whatever a payload does to its worker, the others come through."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from rawisp.batch import supervisor as supervisor_module
from rawisp.batch.supervisor import Crew, Outcome, StepPlan, Supervisor
from rawisp.errors import CheckpointError, CorruptFileError, ProcessingError, RawispError

TOOLBOX = """
import ctypes, os, signal, sys, threading, time
from dataclasses import dataclass
from rawisp.errors import CheckpointError, CorruptFileError

def die_soon():
    threading.Timer(0.3, os._exit, [9]).start()

FAULTS = {
    "": lambda payload: None,
    "SIGSEGV": lambda payload: ctypes.string_at(0),
    "SIGABRT": lambda payload: os.abort(),
    "SIGKILL": lambda payload: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda payload: os._exit(7),
    "loop": lambda payload: time.sleep(1000),
    "exception": lambda payload: 1 // 0,
    "memory": lambda payload: bytearray(1 << 62),
    "rawisp": lambda payload: (_ for _ in ()).throw(
        CorruptFileError(payload["source"], "is damaged", "copy it again")),
    "chatter": lambda payload: (print("on stdout"), os.write(2, b"on descriptor 2\\n")),
    "slow": lambda payload: time.sleep(1.0),
    "die later": lambda payload: die_soon(),
}

def work(payload):
    FAULTS[payload.get("fault", "")](payload)
    if payload.get("fault") == "answer":
        return {"lambda": lambda: 0}
    return {**payload, "square": payload["number"] ** 2, "worker": os.getpid()}

def finish(payload):
    FAULTS[payload.get("late_fault", "")](payload)
    return {**payload, "finished": payload["square"] + 1}

@dataclass(frozen=True)
class Tools:
    opening: str = ""
    def open(self):
        if self.opening == "checkpoint":
            raise CheckpointError("model.ts: is damaged")
        if self.opening == "value":
            raise ValueError("no such thing")
        FAULTS[self.opening]({"source": "toolbox"})
        return {"work": work, "finish": finish}
"""
WORK = [StepPlan("work", "cpu")]
TWO_STEPS = [StepPlan("work", "cpu"), StepPlan("finish", "model")]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The module above, importable here and in the workers."""
    folder = tmp_path_factory.mktemp("toolbox")
    (folder / "supervised_tools.py").write_text(TOOLBOX)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield importlib.import_module("supervised_tools")
    sys.modules.pop("supervised_tools", None)


@pytest.fixture(autouse=True)
def no_worker_is_left(
    tools: ModuleType, worker_processes: Callable[[str], list[int]]
) -> Iterator[None]:
    yield
    assert worker_processes(str(Path(tools.__file__ or "").parent)) == []


def payloads(count: int, **faults: str) -> list[dict[str, object]]:
    """`count` payloads; p3="SIGSEGV" makes number 3 faulty."""
    return [
        {"source": f"/photos/{n}.ARW", "number": n, "fault": faults.get(f"p{n}", "")}
        for n in range(count)
    ]


def run_all(
    tools: ModuleType, work: list[dict[str, object]], workers: int, timeout: float = 60.0
) -> dict[int, Outcome]:
    crew = Crew("cpu", workers, tools.Tools())
    with Supervisor([crew], WORK, timeout) as supervisor:
        outcomes = list(supervisor.run(work))
    assert sorted(o.index for o in outcomes) == list(range(len(work))), "each exactly once"
    return {o.index: o for o in outcomes}


CAUSES = {
    "SIGSEGV": "crashed its worker process (SIGSEGV)",
    "SIGABRT": "crashed its worker process (SIGABRT)",
    "SIGKILL": "killed (SIGKILL: probably out of memory)",
    "exit": "exit with code 7",
    "loop": "took longer than 1 s and was stopped",
    "exception": "ZeroDivisionError",
    "rawisp": "is damaged; copy it again",
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("position", [0, 2, 4], ids=["first", "middle", "last"])
@pytest.mark.parametrize("fault", CAUSES)
def test_a_fault_fails_its_own_payload_only(
    tools: ModuleType, fault: str, position: int, workers: int
) -> None:
    timeout = 1.0 if fault == "loop" else 60.0
    outcomes = run_all(tools, payloads(5, **{f"p{position}": fault}), workers, timeout)
    failed = outcomes.pop(position)
    assert isinstance(failed.error, CorruptFileError if fault == "rawisp" else ProcessingError)
    assert failed.error.path == f"/photos/{position}.ARW"
    assert CAUSES[fault] in failed.error.reason
    assert "\n" not in str(failed.error)
    for index, outcome in outcomes.items():
        assert outcome.error is None
        assert outcome.payload["square"] == index**2


def test_memory_that_runs_out_is_named(tools: ModuleType) -> None:
    outcomes = run_all(tools, payloads(3, p1="memory"), 1)
    assert [o.error is None for _, o in sorted(outcomes.items())] == [True, False, True]
    assert "memory" in str(outcomes[1].error).lower()


def test_an_answer_that_cannot_travel_fails_only_its_payload(tools: ModuleType) -> None:
    outcomes = run_all(tools, payloads(3, p1="answer"), 1)
    assert [o.error is None for _, o in sorted(outcomes.items())] == [True, False, True]


def test_all_payloads_may_fail(tools: ModuleType) -> None:
    faults = {f"p{n}": "SIGSEGV" for n in range(6)}
    outcomes = run_all(tools, payloads(6, **faults), 2)
    assert all("SIGSEGV" in str(o.error) for o in outcomes.values())


@pytest.mark.parametrize(("count", "workers"), [(0, 1), (0, 2), (1, 1), (1, 4), (30, 1), (30, 3)])
def test_any_number_of_payloads_and_workers(tools: ModuleType, count: int, workers: int) -> None:
    outcomes = run_all(tools, payloads(count), workers)
    assert [outcomes[n].payload["square"] for n in range(count)] == [n**2 for n in range(count)]
    assert len({o.payload["worker"] for o in outcomes.values()}) <= min(workers, max(count, 1))


def test_hanging_payloads_cost_their_timeout_and_no_more(tools: ModuleType) -> None:
    faults = {f"p{n}": "loop" for n in (3, 7, 8, 15)}
    start = time.monotonic()
    outcomes = run_all(tools, payloads(20, **faults), 2, timeout=1.0)
    elapsed = time.monotonic() - start
    assert [n for n, o in outcomes.items() if o.error] and elapsed < 4 / 2 * 1.0 + 4.0
    assert sorted(n for n, o in outcomes.items() if o.error) == [3, 7, 8, 15]
    for index in (3, 7, 8, 15):
        assert 0.9 < outcomes[index].seconds < 1.6


@pytest.mark.soak
def test_twenty_hanging_payloads_among_two_hundred(tools: ModuleType) -> None:
    hanging = list(range(5, 200, 10))
    start = time.monotonic()
    outcomes = run_all(tools, payloads(200, **{f"p{n}": "loop" for n in hanging}), 2, timeout=5.0)
    assert time.monotonic() - start < 10 * 5.0 * 1.1 + 5.0
    assert sorted(n for n, o in outcomes.items() if o.error) == hanging


def test_native_talk_is_kept_with_the_payload_that_caused_it(tools: ModuleType) -> None:
    outcomes = run_all(tools, payloads(3, p1="chatter"), 1)
    assert "on descriptor 2" in outcomes[1].detail
    assert "on descriptor 2" not in outcomes[0].detail + outcomes[2].detail


def test_the_traceback_of_a_bug_is_in_the_detail(tools: ModuleType) -> None:
    assert "Traceback" in run_all(tools, payloads(1, p0="exception"), 1)[0].detail


def test_a_worker_that_dies_while_idle_blames_nobody(tools: ModuleType) -> None:
    """It hands its payload on and dies a moment later, while the other crew still works on it."""
    crews = [Crew("cpu", 1, tools.Tools()), Crew("model", 1, tools.Tools())]
    work = payloads(1, p0="die later")
    work[0]["late_fault"] = "slow"
    with Supervisor(crews, TWO_STEPS, 60.0) as supervisor:
        (outcome,) = supervisor.run(work)
    assert outcome.error is None and outcome.payload["finished"] == 1


def test_two_crews_hand_each_payload_on(tools: ModuleType) -> None:
    crews = [Crew("model", 1, tools.Tools()), Crew("cpu", 2, tools.Tools())]
    work = payloads(25, p4="SIGSEGV", p9="rawisp")
    work[13]["late_fault"] = "SIGABRT"
    work[20]["late_fault"] = "exception"
    with Supervisor(crews, TWO_STEPS, 60.0) as supervisor:
        outcomes = {o.index: o for o in supervisor.run(work)}
    assert sorted(outcomes) == list(range(25))
    assert sorted(n for n, o in outcomes.items() if o.error) == [4, 9, 13, 20]
    assert "SIGABRT" in str(outcomes[13].error) and "13.ARW" in str(outcomes[13].error)
    for index, outcome in outcomes.items():
        if outcome.error is None:
            assert outcome.payload["finished"] == index**2 + 1
            assert outcome.payload["source"] == f"/photos/{index}.ARW"


def test_nothing_new_is_begun_once_asked_to_stop(tools: ModuleType) -> None:
    ended: list[int] = []
    with Supervisor([Crew("cpu", 2, tools.Tools())], WORK, 60.0) as supervisor:
        for outcome in supervisor.run(payloads(200), lambda: len(ended) >= 3):
            assert outcome.error is None
            ended.append(outcome.index)
    assert 3 <= len(ended) < 20


def test_leaving_early_ends_busy_workers(
    tools: ModuleType, worker_processes: Callable[[str], list[int]]
) -> None:
    work = payloads(4, p1="loop", p2="loop", p3="loop")
    with Supervisor([Crew("cpu", 2, tools.Tools())], WORK, 60.0) as supervisor:
        next(supervisor.run(work))
        assert len(worker_processes(str(Path(tools.__file__ or "").parent))) == 2
    assert worker_processes(str(Path(tools.__file__ or "").parent)) == []


def test_an_error_of_ours_at_opening_is_raised_as_it_is(tools: ModuleType) -> None:
    with (
        Supervisor([Crew("cpu", 2, tools.Tools("checkpoint"))], WORK, 60.0) as supervisor,
        pytest.raises(CheckpointError, match=r"model\.ts: is damaged"),
    ):
        list(supervisor.run(payloads(3)))


@pytest.mark.parametrize("opening", ["SIGSEGV", "exit", "value"])
@pytest.mark.parametrize("beside", [0, 2], ids=["alone", "beside a healthy crew"])
def test_a_toolbox_that_cannot_be_opened_ends_the_run(
    tools: ModuleType, opening: str, beside: int
) -> None:
    crews = [Crew("cpu", 2, tools.Tools(opening))]
    if beside:
        crews.append(Crew("model", beside, tools.Tools()))
    start = time.monotonic()
    with (
        Supervisor(crews, TWO_STEPS if beside else WORK, 60.0) as supervisor,
        pytest.raises(RawispError, match="do not start") as caught,
    ):
        list(supervisor.run(payloads(3)))
    assert time.monotonic() - start < 15
    assert "\n" not in str(caught.value)
    if opening == "value":
        assert "ValueError: no such thing" in str(caught.value)


def test_a_toolbox_that_hangs_at_opening_ends_the_run(
    tools: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_STARTUP_LIMIT_S", 1.0)
    with (
        Supervisor([Crew("cpu", 1, tools.Tools("loop"))], WORK, 77.0) as supervisor,
        pytest.raises(RawispError, match="do not start") as caught,
    ):
        list(supervisor.run(payloads(1)))
    assert "77" not in str(caught.value), "the limit it broke is not --timeout"


def test_no_workers_at_all_is_no_endless_wait(repository: Path) -> None:
    """rawisp.info_files(workers=0), in a process of its own so that it can be stopped."""
    code = (
        "import sys, rawisp\n"
        "try:\n    print([r['status'] for r in rawisp.info_files([sys.argv[1]], workers=0)])\n"
        "except (rawisp.RawispError, ValueError) as error:\n    print(error)\n"
    )
    file = repository / "sample_data" / "night" / "Sony" / "DSC01316.ARW"
    subprocess.run([sys.executable, "-c", code, file], check=True, timeout=8)


ORPHAN = """
import sys
sys.path.insert(0, sys.argv[1])
from supervised_tools import Tools
from rawisp.batch.supervisor import Crew, StepPlan, Supervisor
with Supervisor([Crew("cpu", 1, Tools())], [StepPlan("work", "cpu")], 60.0) as supervisor:
    for outcome in supervisor.run([{"source": "x", "number": 1, "fault": sys.argv[2]}]):
        print(outcome)
"""


@pytest.mark.parametrize("fault", ["slow", "loop"])
def test_a_worker_does_not_outlive_a_killed_supervisor(
    tools: ModuleType,
    tmp_path: Path,
    fault: str,
    worker_processes: Callable[[str], list[int]],
    eventually: Callable[..., bool],
) -> None:
    """Even one that hangs in its file when the supervisor is gone."""
    (tmp_path / "supervised_tools.py").write_text(TOOLBOX)
    process = subprocess.Popen([sys.executable, "-c", ORPHAN, tmp_path, fault])
    try:
        assert eventually(lambda: bool(worker_processes(str(tmp_path))), 10)
        time.sleep(0.8)
    finally:
        process.kill()
        process.wait()
    gone = eventually(lambda: not worker_processes(str(tmp_path)), 4)
    for pid in worker_processes(str(tmp_path)):
        os.kill(pid, 9)
    assert gone, "the worker went on after its supervisor was killed"
