"""`staged`, forwards and backwards, by its kernels and by PyTorch's operations, on one thread.

    python -m benchmarks.stages_kernel [--dry-run]

One image of 600x400, the start of `classic`, statistics of its thumbnail included. The physical
limit beside it: a copy of the bytes that the kernels have to touch. Both sides keep freed memory,
as training does.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch

from benchmarks.measure import interleaved, median, report, summary
from rawisp.isp import staged
from rawisp.isp.fixed import classic_settings
from rawisp.isp.registry import create_isp
from rawisp.train.machine import keep_freed_memory

# Images that are read or written: x, encoded (out), encoded, sharpened (out); then encoded, the
# gradient, its other side (out), x, encoded, the gradient.
TOUCHED = 10


def main() -> None:
    dry_run = "--dry-run" in sys.argv
    height, width, repeats = (400, 600, 25) if not dry_run else (40, 60, 2)
    torch.set_num_threads(1)
    keep_freed_memory()
    isp = create_isp("staged", **classic_settings()).train()
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) ** 4
    source = np.ones((TOUCHED // 2, 3, height, width), np.float32)
    target = np.empty_like(source)
    known: Any = staged.usable

    def step(compiled: bool) -> None:
        staged.usable = known if compiled else lambda _: False
        isp.zero_grad()
        isp(x).mean().backward()

    times = interleaved(
        {
            "kernels": lambda: step(True),
            "operations": lambda: step(False),
            "memcpy": lambda: np.copyto(target, source),
        },
        repeats,
    )
    staged.usable = known
    medians = {name: median(values) for name, values in times.items()}
    result = {
        "size": [width, height],
        "bytes_touched": TOUCHED * source[0].nbytes,
        "times": {name: summary(values) for name, values in times.items()},
        "times_faster_than_operations": round(medians["operations"] / medians["kernels"], 2),
        "share_of_memcpy_bandwidth": round(medians["memcpy"] / medians["kernels"], 3),
    }
    report("stages_kernel", result, dry_run=dry_run)


if __name__ == "__main__":
    main()
