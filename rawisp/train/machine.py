"""What a run asks of the machine: the same sums each time, and how much memory it took."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """PyTorch's deterministic algorithms on the CPU, where they cost little.

    Otherwise threads add up the gradient of an indexed table in whatever order they come.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


# glibc's numbers of the parameters, malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> None:
    """From here on glibc keeps memory that is freed, as workers do (docs/decisions/0006).

    Each step allocates the same large arrays; fresh, zeroed pages for them took a tenth of its
    time. Elsewhere than on glibc, and where the user has set its variables, nothing changes.
    """
    set_by_user = any(name.startswith("MALLOC_") for name in os.environ)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None and not set_by_user:
        # Both, or glibc no longer raises the second by itself when large blocks are freed.
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(_M_TOP_PAD, 1 << 26)  # threads' own heaps look at this alone


def memory_gb(device: torch.device) -> float:
    """The peak so far: of the device, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
