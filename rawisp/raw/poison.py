"""Memory that shows what a decoder did not write.

LibRaw decodes into memory as malloc gives it. Where it stops early (at a broken tile, say) it
reports success, and what lies there is whatever the process freed before: often the picture decoded
just before this one. So malloc is told to fill new blocks with one value while LibRaw decodes, and
samples that still have it afterwards were never written (docs/decisions/0026-poisoned-memory.md).

The GNU C library can do this at run time (mallopt, M_PERTURB). Elsewhere nothing is filled, and the
checks of a file's structure and of repeated rows have to do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from functools import cache

# Far above what 14-bit cameras write, and no number that 16-bit ones would clip at.
CANARY = 0xD3D3

_M_PERTURB = -6  # malloc.h; glibc fills new blocks with the complement of the value
_lock = threading.Lock()
_users = 0


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """Inside, malloc's new blocks are full of CANARY, in every thread; calloc's are zero."""
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    """Threads decode at the same time, so the last one to leave switches the filling off."""
    global _users
    with _lock:
        _users += change
        mallopt = _mallopt()
        if mallopt is not None and _users == max(change, 0):
            mallopt(_M_PERTURB, ~CANARY & 0xFF if _users else 0)


@cache
def _mallopt() -> Callable[[int, int], int] | None:
    """glibc's mallopt; other C libraries have none, or one that knows no M_PERTURB."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        if "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or ""):
            mallopt: Callable[[int, int], int] = ctypes.CDLL(None).mallopt
            return mallopt
    return None
