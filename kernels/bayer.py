"""Packing a Bayer mosaic to three half-resolution planes or interleaved pixels.

One output pixel is made from one 2x2 cell. The cell is drawn once, here:

        column 2x   2x+1
    row 2y     0     1          positions 0..3, row by row; which colour sits where is in the
    row 2y+1   2     3          weights, so the loops know nothing of RGGB, GRBG, GBRG, BGGR.

    out[k] = sum over positions p of  weights[k, p] * (float32(sample[p]) - black[p])

`weights[k, p]` holds matrix, white scaling and the greens' average (see rawisp.packing). The
black level is subtracted before anything is multiplied, so dark samples lose no bits, and in
float32, so nothing wraps. Nothing is clipped.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rawisp.kernels.jit import kernel

U16 = npt.NDArray[np.uint16]
F32 = npt.NDArray[np.float32]


@kernel
def pack_planar(mosaic: U16, black: F32, weights: F32, out: F32, first: int, last: int) -> None:
    """Rows [first, last) of `out` (3, H // 2, W // 2) float32 from `mosaic` (H, W) uint16.

    mosaic and out C-contiguous; black (4,) and weights (3, 4) float32, by cell position.
    """
    columns = out.shape[2]
    b0, b1, b2, b3 = black[0], black[1], black[2], black[3]
    w00, w01, w02, w03 = weights[0, 0], weights[0, 1], weights[0, 2], weights[0, 3]
    w10, w11, w12, w13 = weights[1, 0], weights[1, 1], weights[1, 2], weights[1, 3]
    w20, w21, w22, w23 = weights[2, 0], weights[2, 1], weights[2, 2], weights[2, 3]
    for y in range(first, last):
        top = mosaic[2 * y]
        bottom = mosaic[2 * y + 1]
        out0 = out[0, y]
        out1 = out[1, y]
        out2 = out[2, y]
        for x in range(columns):
            p0 = np.float32(top[2 * x]) - b0
            p1 = np.float32(top[2 * x + 1]) - b1
            p2 = np.float32(bottom[2 * x]) - b2
            p3 = np.float32(bottom[2 * x + 1]) - b3
            out0[x] = w00 * p0 + w01 * p1 + w02 * p2 + w03 * p3
            out1[x] = w10 * p0 + w11 * p1 + w12 * p2 + w13 * p3
            out2[x] = w20 * p0 + w21 * p1 + w22 * p2 + w23 * p3


@kernel
def pack_interleaved(
    mosaic: U16, black: F32, weights: F32, out: F32, first: int, last: int
) -> None:
    """Rows [first, last) of `out` (H // 2, W // 2, 3) float32 from `mosaic` (H, W) uint16.

    mosaic and out C-contiguous; black (4,) and weights (3, 4) float32, by cell position. Each
    output row is written through a flat view: only so does LLVM vectorise the stride of three.
    """
    columns = out.shape[1]
    b0, b1, b2, b3 = black[0], black[1], black[2], black[3]
    w00, w01, w02, w03 = weights[0, 0], weights[0, 1], weights[0, 2], weights[0, 3]
    w10, w11, w12, w13 = weights[1, 0], weights[1, 1], weights[1, 2], weights[1, 3]
    w20, w21, w22, w23 = weights[2, 0], weights[2, 1], weights[2, 2], weights[2, 3]
    for y in range(first, last):
        top = mosaic[2 * y]
        bottom = mosaic[2 * y + 1]
        pixel = out[y].reshape(3 * columns)
        for x in range(columns):
            p0 = np.float32(top[2 * x]) - b0
            p1 = np.float32(top[2 * x + 1]) - b1
            p2 = np.float32(bottom[2 * x]) - b2
            p3 = np.float32(bottom[2 * x + 1]) - b3
            pixel[3 * x] = w00 * p0 + w01 * p1 + w02 * p2 + w03 * p3
            pixel[3 * x + 1] = w10 * p0 + w11 * p1 + w12 * p2 + w13 * p3
            pixel[3 * x + 2] = w20 * p0 + w21 * p1 + w22 * p2 + w23 * p3
