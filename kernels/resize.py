"""Antialiased bilinear shrinking: a triangle filter as wide as the shrink factor.

Separable; rows first, so that the long inner loop is contiguous and the second pass works on
fewer rows. `starts[i]` is the first source index of output i, `weights[i, t]` its taps (rows of
weights sum to one). rawisp.resize computes both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rawisp.kernels.jit import kernel

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@kernel
def shrink_rows(source: F32, starts: I64, weights: F32, out: F32) -> None:
    """`out` (C, h, W) from `source` (C, H, W), float32: each output row mixes source rows."""
    taps = weights.shape[1]
    for c in range(out.shape[0]):
        for y in range(out.shape[1]):
            row = out[c, y]
            first = source[c, starts[y]]
            w = weights[y, 0]
            for x in range(out.shape[2]):
                row[x] = w * first[x]
            for t in range(1, taps):
                w = weights[y, t]
                if w != 0.0:
                    line = source[c, starts[y] + t]
                    for x in range(out.shape[2]):
                        row[x] += w * line[x]


@kernel
def shrink_columns(source: F32, starts: I64, weights: F32, out: F32) -> None:
    """`out` (C, H, w) from `source` (C, H, W), float32: each output column mixes source columns."""
    taps = weights.shape[1]
    for c in range(out.shape[0]):
        for y in range(out.shape[1]):
            line = source[c, y]
            row = out[c, y]
            for x in range(out.shape[2]):
                total = np.float32(0.0)
                first = starts[x]
                for t in range(taps):
                    total += weights[x, t] * line[first + t]
                row[x] = total
