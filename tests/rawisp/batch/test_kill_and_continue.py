"""Killed at any moment, run again: the same bytes, and nothing left lying about."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MakeRaw = Callable[..., Path]
Digests = Callable[..., dict[str, str]]
Eventually = Callable[..., bool]
FindWorkers = Callable[[str], list[int]]
RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]

FILES = {"pack": 30, "enhance": 12}
# Seconds of work in which a kill may land, counted from the first line of the manifest.
WORK_SECONDS = {"pack": (0.3, 0.9), "enhance": (1.0, 3.2)}


@dataclass(frozen=True)
class Bench:
    """What to run, and what a run without trouble writes."""

    sources: Path
    clean: dict[str, dict[str, str]]  # verb -> digests


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory,
    make_raw: MakeRaw,
    run_rawisp: RunCommand,
    digests: Digests,
) -> Bench:
    base = tmp_path_factory.mktemp("kill")
    for verb, count in FILES.items():
        for n in range(count):
            make_raw(base / verb / f"{n % 3}" / f"night{n:02}.ARW", n, 300, 500)
    clean = {}
    for verb in FILES:
        done = run_rawisp(verb, base / verb, "-o", base / f"clean-{verb}")
        assert done.returncode == 0, done.stderr
        clean[verb] = digests(base / f"clean-{verb}")
        assert len(clean[verb]) == FILES[verb]
    return Bench(base, clean)


@dataclass
class Run:
    """Runs of one verb into one output folder, with their own temporary folder."""

    bench: Bench
    verb: str
    base: Path
    command: list[str]
    eventually: Eventually
    find_workers: FindWorkers
    digests: Digests
    pids: list[int] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.base / "out"

    @property
    def environment(self) -> dict[str, str]:
        """PYTHONPATH is a mark by which this run's workers are known."""
        (self.base / "tmp").mkdir(exist_ok=True)
        return {**os.environ, "PYTHONPATH": str(self.base), "TMPDIR": str(self.base / "tmp")}

    def start(self) -> subprocess.Popen[str]:
        before = self._manifest_time()
        process = subprocess.Popen(
            [*self.command, self.verb, str(self.bench.sources / self.verb), "-o", str(self.out)],
            env=self.environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.pids.append(process.pid)
        begun = self.eventually(lambda: self._manifest_time() != before or process.poll() == 0, 30)
        assert begun, "the run did not begin"
        return process

    def _manifest_time(self) -> int:
        path = self.out / "manifest.jsonl"
        return path.stat().st_mtime_ns if path.exists() else 0

    def kill(self, seconds: float, whole_group: bool) -> None:
        """Starts, waits, kills with SIGKILL; no worker may be there a moment later."""
        process = self.start()
        time.sleep(seconds)
        if whole_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate()
        assert self.eventually(lambda: not self.find_workers(str(self.base)), 5), "orphans"
        whole = self.bench.clean[self.verb]
        for name, digest in self.digests(self.out).items():
            if not name.endswith(".rawisp-tmp"):
                assert whole[name] == digest, f"{name} is there but not whole"

    def spools_left(self) -> list[str]:
        """Spool folders of this test's own runs; others may be at work on this machine."""
        names = [p.name for p in Path("/dev/shm").glob("rawisp-spool-*")]
        return [n for n in names if {str(pid) for pid in self.pids} & set(n.split("-"))]

    def finish(self) -> None:
        """Runs to the end; everything must be as if nothing had happened."""
        process = self.start()
        _, talk = process.communicate(timeout=60)
        assert process.returncode == 0, talk
        assert self.digests(self.out) == self.bench.clean[self.verb]
        assert self.spools_left() == []
        assert self.find_workers(str(self.base)) == []

    def left_in_tmp(self) -> list[str]:
        return sorted(p.name for p in (self.base / "tmp").iterdir())


MakeRun = Callable[[str], Run]


@pytest.fixture
def run_of(
    bench: Bench,
    tmp_path: Path,
    rawisp_command: list[str],
    eventually: Eventually,
    worker_processes: FindWorkers,
    digests: Digests,
) -> Iterator[MakeRun]:
    made: list[Run] = []

    def make(verb: str) -> Run:
        base = tmp_path / f"{verb}{len(made)}"
        base.mkdir()
        run = Run(bench, verb, base, rawisp_command, eventually, worker_processes, digests)
        made.append(run)
        return run

    yield make
    for run in made:
        for pid in worker_processes(str(run.base)):
            os.kill(pid, signal.SIGKILL)


def delays(verb: str, seed: int, count: int) -> list[float]:
    return [random.Random(seed * 100 + n).uniform(*WORK_SECONDS[verb]) for n in range(count)]


@pytest.mark.parametrize("whole_group", [True, False], ids=["all of it", "only the parent"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_pack_continues_to_the_same_bytes(
    run_of: MakeRun, whole_group: bool, seed: int
) -> None:
    run = run_of("pack")
    run.kill(delays("pack", seed + 10 * whole_group, 1)[0], whole_group)
    run.finish()


def test_an_enhance_killed_again_and_again_continues_to_the_same_bytes(run_of: MakeRun) -> None:
    run = run_of("enhance")
    for number, seconds in enumerate(delays("enhance", 3, 2)):
        run.kill(seconds, whole_group=number % 2 == 0)
    run.finish()


def test_no_logs_of_killed_workers_pile_up(run_of: MakeRun) -> None:
    run = run_of("pack")
    run.kill(0.3, whole_group=True)
    run.finish()
    assert run.left_in_tmp() == []


@pytest.mark.parametrize("verb", ["pack", "enhance"])
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_ends_in_a_sentence_and_130(
    run_of: MakeRun, verb: str, kind: signal.Signals
) -> None:
    run = run_of(verb)
    process = run.start()
    time.sleep(0.4 if verb == "pack" else 1.2)
    process.send_signal(kind)
    _, talk = process.communicate(timeout=20)
    assert process.returncode == 130, talk
    assert "interrupted" in talk and "again" in talk and "Traceback" not in talk
    assert run.find_workers(str(run.base)) == []
    assert run.left_in_tmp() == []
    assert run.spools_left() == []
    whole = run.bench.clean[verb]
    assert all(
        whole[name] == digest
        for name, digest in run.digests(run.out).items()
        if not name.endswith(".rawisp-tmp")
    )
    if verb == "pack":
        run.finish()


def test_an_impatient_double_interrupt_is_no_traceback(run_of: MakeRun) -> None:
    run = run_of("pack")
    process = run.start()
    time.sleep(0.4)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.03)
    os.killpg(process.pid, signal.SIGINT)
    _, talk = process.communicate(timeout=20)
    # The second one may arrive when Python is already leaving; a shell shows that as 130, too.
    assert process.returncode in (130, -signal.SIGINT), talk
    assert "Traceback" not in talk, talk
    assert run.eventually(lambda: not run.find_workers(str(run.base)), 5)
    run.finish()


def test_a_spool_of_a_run_in_another_container_is_left_alone(
    bench: Bench, tmp_path: Path, rawisp_command: list[str]
) -> None:
    """Containers may share /dev/shm (--ipc=host) and not see each other's processes."""
    if (
        not os.access("/dev/shm", os.W_OK)
        or subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True
        ).returncode
    ):
        pytest.skip("no /dev/shm, or no new process namespace is permitted here")
    code = (
        "import sys\nfrom rawisp.batch.spool import spool_folder\n"
        "with spool_folder() as spool:\n    print(spool, flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        spool = Path(other.stdout.readline().strip())
        (spool / "0.linear.npy").write_bytes(b"in use")
        sources = [str(bench.sources / "pack"), "-o", str(tmp_path / "out"), "--dry-run"]
        in_container = ["unshare", "--pid", "--fork", "--mount-proc"]
        subprocess.run(
            [*in_container, *rawisp_command, "enhance", *sources], check=True, capture_output=True
        )
        kept = (spool / "0.linear.npy").exists()
        other.stdin.close()
    assert kept, "a spool in use was removed"
    assert not spool.exists()


@pytest.mark.soak
@pytest.mark.parametrize("verb", FILES)
def test_many_kills(run_of: MakeRun, verb: str) -> None:
    for seed in range(50):
        run = run_of(verb)
        for number, seconds in enumerate(delays(verb, 1000 + seed, 2)):
            run.kill(seconds, whole_group=number % 2 == 0)
        run.finish()
