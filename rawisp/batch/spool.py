"""Where images wait between two processes: plain files, in memory where the system offers it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "rawisp-spool-"
# A Docker container's /dev/shm is 64 MB by default; a handful of images needs more.
_WANTED_BYTES = 1 << 30


@contextmanager
def spool_folder() -> Iterator[str]:
    """A folder for this run, removed at its end; folders of runs that were killed go first."""
    base = _base()
    _sweep(base)
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _base() -> str:
    memory = "/dev/shm"
    try:
        if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= _WANTED_BYTES:
            return memory
    except OSError:
        pass
    return tempfile.gettempdir()


def _sweep(base: str) -> None:
    for folder in Path(base).glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError):
            if folder.stat().st_uid == os.getuid() and not _alive(int(folder.name.split("-")[2])):
                shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
