"""The child process of a folder run: receives a payload, calls a step, sends the answer back.

Started by the supervisor as a fresh interpreter (never forked) with one end of a pipe. It never
imports torch unless its toolbox does. Messages to the supervisor:

    ("ready",)
    ("unready", error)                      the toolbox could not be opened; the run ends
    ("done", payload, seconds)
    ("failed", error, seconds)              error: one of rawisp's exceptions
    ("bug", text, traceback, seconds)       anything else
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

from rawisp.errors import RawispError

Payload = dict[str, Any]
Step = Callable[[Payload], Payload]


class Toolbox(Protocol):
    """What a worker is made for. It travels by pickle, so until opened it holds settings only."""

    def open(self) -> dict[str, Step]:
        """Imports and loads what the steps need, in the worker; returns the steps by name."""
        ...


# How often a worker looks whether its supervisor is still there.
_ORPHAN_CHECK_S = 1.0


def main(descriptor: int, supervisor_pid: int) -> None:
    """Serves until the supervisor closes the pipe, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    threading.Thread(target=_leave_when_orphaned, args=(supervisor_pid,), daemon=True).start()
    connection = Connection(descriptor)
    try:
        _serve(connection)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(0)


def _leave_when_orphaned(supervisor_pid: int) -> None:
    """A worker that hangs in its file never reads the closed pipe; this thread ends it."""
    while os.getppid() == supervisor_pid:
        time.sleep(_ORPHAN_CHECK_S)
    os._exit(1)


def _serve(connection: Connection) -> None:
    toolbox: Toolbox = connection.recv()
    try:
        steps = toolbox.open()
    except RawispError as error:
        connection.send(("unready", error))
        return
    connection.send(("ready",))
    while True:
        step, payload = connection.recv()
        start = time.perf_counter()
        try:
            answer = steps[step](payload)
            message: tuple[Any, ...] = ("done", answer, time.perf_counter() - start)
        except RawispError as error:
            message = ("failed", error, time.perf_counter() - start)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            message = ("bug", text, traceback.format_exc(), time.perf_counter() - start)
        connection.send(message)
