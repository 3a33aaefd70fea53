"""Rows that no sensor writes: runs of one value, and rows that repeat the rows above.

A sensor's samples carry noise, so neighbours of one colour (two columns, two rows apart) are equal
now and then and never for long, unless they are clipped.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rawisp.kernels.jit import kernel

U16 = npt.NDArray[np.uint16]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@kernel
def longest_flat_runs(mosaic: U16, shortest: int, start: I64, length: I64) -> None:
    """For each row of `mosaic` (H, W), W >= 3, its longest run of one value per colour.

    start, length: (H,) int64, written. A run is a stretch in which each sample equals the one two
    columns before; runs below `shortest` may be missed (length 0), which makes this fast: only
    every `shortest / 2`-th place is looked at until a run is met.
    """
    height, width = mosaic.shape
    step = max(shortest // 2, 1)
    for y in range(height):
        row = mosaic[y]
        best_start = 0
        best_length = 0
        x = 0
        while x + 2 < width:
            if row[x] != row[x + 2]:
                x += step
                continue
            first = x
            while first > 0 and row[first - 1] == row[first + 1]:
                first -= 1
            last = x + 2
            while last + 1 < width and row[last + 1] == row[last - 1]:
                last += 1
            if last - first + 1 > best_length:
                best_start = first
                best_length = last - first + 1
            x = max(last, x + step)
        start[y] = best_start
        length[y] = best_length if best_length >= shortest else 0


@kernel
def repeated_rows(mosaic: U16, repeats: Bool) -> None:
    """repeats[y]: row y of `mosaic` (H, W) equals row y - 2, the last of the same colours."""
    height, width = mosaic.shape
    for y in range(height):
        same = y >= 2
        x = 0
        while same and x < width:
            same = mosaic[y, x] == mosaic[y - 2, x]
            x += 1
        repeats[y] = same
