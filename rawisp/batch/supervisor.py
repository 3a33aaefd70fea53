"""Runs payloads through steps in worker processes: timeouts, respawn, blame for exactly one file.

Each worker handles one payload at a time over its own pipe. When a worker dies or overruns its
time, the payload it held is the one that fails; a new worker takes its place and nothing else is
lost. A step belongs to a crew ("cpu", "model"); later steps go first, so that finished pictures
leave before new ones are begun, and only a bounded number is under way at once.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from rawisp.batch.spool import logs_folder
from rawisp.batch.worker import Payload, Toolbox
from rawisp.errors import ProcessingError, RawispError

# Starting an interpreter and importing torch takes seconds; a minute and a half means it hangs.
_STARTUP_LIMIT_S = 90.0
_STARTUP_ATTEMPTS = 3

# What workers find in their environment unless the user has set it (docs/decisions/0006-workers).
_WORKER_ENVIRONMENT = {
    # Keep freed memory: by default glibc gives large blocks back, and each file pays again for some
    # 40,000 fresh pages. Other C libraries ignore these.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    # Torch's threads sleep when they have nothing to do, instead of spinning on cores that the
    # decoders need.
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(frozen=True)
class Crew:
    """`count` workers that share a toolbox."""

    name: str
    count: int
    toolbox: Toolbox


@dataclass(frozen=True)
class StepPlan:
    """A step's name in its crew's toolbox."""

    name: str
    crew: str


@dataclass(frozen=True)
class Outcome:
    """The end of payload number `index`: its last answer, or the error."""

    index: int
    payload: Payload
    error: RawispError | None
    seconds: float
    detail: str = ""  # a traceback or native messages, for --verbose


@dataclass
class _Item:
    index: int
    payload: Payload
    step: int = 0
    seconds: float = 0.0


@dataclass
class _Worker:
    crew: Crew
    process: subprocess.Popen[bytes]
    connection: Connection
    stderr_path: str
    ready: bool = False
    item: _Item | None = None
    since: float = field(default_factory=time.monotonic)


class Supervisor:
    """Use as a context manager; leaving it ends all workers, whatever happened."""

    def __init__(self, crews: Sequence[Crew], steps: Sequence[StepPlan], timeout_s: float) -> None:
        self._crews = {crew.name: crew for crew in crews}
        self._steps = list(steps)
        self._timeout_s = timeout_s
        self._payloads: Sequence[Payload] = ()
        self._workers: list[_Worker] = []
        self._waiting: list[deque[_Item]] = [deque() for _ in steps]
        self._under_way = 0
        self._failed_starts = 0
        self._resources = ExitStack()
        self._logs = ""
        self._serial = 0

    def __enter__(self) -> Supervisor:
        self._logs = self._resources.enter_context(logs_folder())
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            self._end(worker)
        self._workers.clear()
        self._resources.close()

    def run(
        self, payloads: Sequence[Payload], should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Outcome]:
        """Yields an Outcome per payload as they finish, in any order.

        payloads: each has "source", the file to blame; one is asked for when its turn comes. When
        `should_stop` turns true nothing new is begun; what is under way is finished. Raises the
        RawispError of a toolbox that cannot be opened.
        """
        self._payloads = payloads
        fresh = deque(range(len(payloads)))
        self._start_crews(len(fresh))
        limit = sum(crew.count for crew in self._crews.values()) + 2
        while True:
            if should_stop():
                fresh.clear()
            self._dispatch(fresh, limit)
            if not fresh and not self._under_way:
                return
            yield from self._collect()

    def _start_crews(self, payloads: int) -> None:
        for crew in self._crews.values():
            for _ in range(max(1, min(crew.count, payloads))):
                self._workers.append(self._spawn(crew))

    def _spawn(self, crew: Crew) -> _Worker:
        """A fresh interpreter with our module path, whatever the caller's main program is."""
        ours, theirs = socket.socketpair()
        self._serial += 1
        stderr_path = os.path.join(self._logs, f"{crew.name}-{self._serial}")
        code = (
            f"import sys; sys.path[:] = {sys.path!a}; "
            "from rawisp.batch.worker import main; "
            f"main({theirs.fileno()}, {os.getpid()})"
        )
        # Native libraries write to file descriptor 2 as they please; here it is a file.
        with theirs, open(stderr_path, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env={**_WORKER_ENVIRONMENT, **os.environ},
            )
        connection = Connection(ours.detach())
        connection.send(crew.toolbox)
        return _Worker(crew, process, connection, stderr_path)

    def _dispatch(self, fresh: deque[int], limit: int) -> None:
        for worker in self._workers:
            if not worker.ready or worker.item is not None:
                continue
            item = self._next_for(worker.crew.name, fresh, limit)
            if item is None:
                continue
            try:
                worker.connection.send((self._steps[item.step].name, item.payload))
            except OSError:  # it died while idle: not this item's fault, _collect replaces it
                self._put_back(item, fresh)
            else:
                worker.item, worker.since = item, time.monotonic()

    def _put_back(self, item: _Item, fresh: deque[int]) -> None:
        if item.step == 0:
            self._under_way -= 1
            fresh.appendleft(item.index)
        else:
            self._waiting[item.step].appendleft(item)

    def _next_for(self, crew: str, fresh: deque[int], limit: int) -> _Item | None:
        for number in reversed(range(len(self._steps))):
            if self._steps[number].crew != crew:
                continue
            if self._waiting[number]:
                return self._waiting[number].popleft()
            if number == 0 and fresh and self._under_way < limit:
                self._under_way += 1
                index = fresh.popleft()
                return _Item(index, self._payloads[index])
        return None

    def _collect(self) -> Iterator[Outcome]:
        """Waits for the next message, death or timeout, and handles all that are there."""
        by_connection = {worker.connection: worker for worker in self._workers}
        now = time.monotonic()
        pause = min((self._deadline(w) - now for w in self._workers), default=1.0)
        for connection in wait(list(by_connection), timeout=min(max(pause, 0.0), 1.0)):
            worker = by_connection[connection]  # type: ignore[index]
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                yield from self._bury(worker, self._death(worker))
            else:
                yield from self._handle(worker, message)
        for worker in [w for w in self._workers if time.monotonic() > self._deadline(w)]:
            worker.process.kill()
            if worker.ready:
                problem = f"took longer than {self._timeout_s:g} s and was stopped"
                yield from self._bury(worker, problem, "raise --timeout if it is only slow")
            else:
                yield from self._bury(worker, f"not ready after {_STARTUP_LIMIT_S:g} s")

    def _deadline(self, worker: _Worker) -> float:
        if not worker.ready:
            return worker.since + _STARTUP_LIMIT_S
        return worker.since + self._timeout_s if worker.item else float("inf")

    def _handle(self, worker: _Worker, message: tuple[Any, ...]) -> Iterator[Outcome]:
        if message[0] == "ready":
            worker.ready, self._failed_starts = True, 0
            return
        if message[0] == "unready":
            raise message[1]
        item, worker.item = worker.item, None
        assert item is not None
        item.seconds += message[-1]
        if message[0] == "done":
            item.payload = message[1]
            item.step += 1
            if item.step < len(self._steps):
                self._waiting[item.step].append(item)
            else:
                yield self._finish(item, None, self._native_talk(worker))
        elif message[0] == "failed":
            yield self._finish(item, message[1], self._native_talk(worker))
        else:
            error = ProcessingError(
                item.payload["source"],
                f"rawisp itself failed on it ({message[1]})",
                "please report this with the output of -v",
            )
            yield self._finish(item, error, message[2])

    def _finish(self, item: _Item, error: RawispError | None, detail: str) -> Outcome:
        self._under_way -= 1
        return Outcome(item.index, item.payload, error, item.seconds, detail)

    def _bury(self, worker: _Worker, problem: str, advice: str = "") -> Iterator[Outcome]:
        """Replaces a dead or hanging worker; fails the one item that it held."""
        detail = self._native_talk(worker)
        self._workers.remove(worker)
        self._end(worker)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _STARTUP_ATTEMPTS:
                last_words = detail.strip().rpartition("\n")[2] or problem
                raise RawispError(f"worker processes do not start ({last_words})")
        self._workers.append(self._spawn(worker.crew))
        item = worker.item
        if item is not None:
            item.seconds += time.monotonic() - worker.since
            error = ProcessingError(item.payload["source"], problem, advice)
            yield self._finish(item, error, detail)

    def _death(self, worker: _Worker) -> str:
        try:
            code = worker.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "made its worker process hang up"
        if code >= 0:
            return f"made its worker process exit with code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        if name == "SIGKILL":
            return "its worker process was killed (SIGKILL: probably out of memory)"
        return f"crashed its worker process ({name})"

    def _native_talk(self, worker: _Worker) -> str:
        """What native libraries wrote to stderr since the last item, and forgets it."""
        try:
            with open(worker.stderr_path, "r+b") as log:
                text = log.read(8192).decode("utf-8", "backslashreplace")
                if text:
                    log.truncate(0)
                return text
        except OSError:
            return ""

    def _end(self, worker: _Worker) -> None:
        worker.connection.close()
        worker.process.kill()
        worker.process.wait()
