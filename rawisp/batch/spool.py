"""Folders that live as long as one run: images between two processes, what native code prints.

Each holds a file lock while its run lives, so that what a killed run left can be told from what
is in use, in another container too.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SPOOL_PREFIX = "rawisp-spool-"
LOGS_PREFIX = "rawisp-workers-"
_LOCK = "lock"
# Between making a folder and locking it lie microseconds; an unlocked older one is abandoned.
_YOUNG_S = 60.0
# A Docker container's /dev/shm is 64 MB by default; a handful of images needs more.
_WANTED_BYTES = 1 << 30


@contextmanager
def spool_folder() -> Iterator[str]:
    """Where images wait between processes: plain files, in memory where the system offers it."""
    with _run_folder(_memory_or_disk(), SPOOL_PREFIX) as folder:
        yield folder


@contextmanager
def logs_folder() -> Iterator[str]:
    """Where workers' stdout and stderr go."""
    with _run_folder(tempfile.gettempdir(), LOGS_PREFIX) as folder:
        yield folder


@contextmanager
def _run_folder(base: str, prefix: str) -> Iterator[str]:
    _sweep(base, prefix)
    folder = tempfile.mkdtemp(prefix=prefix, dir=base)
    lock = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _memory_or_disk() -> str:
    memory = "/dev/shm"
    try:
        if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= _WANTED_BYTES:
            return memory
    except OSError:
        pass
    return tempfile.gettempdir()


def _sweep(base: str, prefix: str) -> None:
    for folder in Path(base).glob(f"{prefix}*"):
        with suppress(OSError):
            if folder.stat().st_uid == os.getuid() and _abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except OSError:
        return time.time() - folder.stat().st_mtime > _YOUNG_S
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
