"""From a Bayer mosaic to a half-resolution linear image: validate, allocate, run the kernel.

    c = (sample - black) / (white - black)      per colour, float32, never clipped
    (R, (G1 + G2) / 2, B) of each 2x2 cell       half resolution, no demosaicing
    output = matrix . (R, G, B)                  column vectors

The three steps are linear, so they are folded into twelve weights and run as one pass.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from rawisp.errors import InvalidArrayError

Layout = Literal["hwc", "chw"]
Mosaic = npt.NDArray[np.uint16]
Packed = npt.NDArray[np.float32]

# The four Bayer phases, named by the top-left 2x2 cell read row by row. Values are LibRaw's colour
# indices by position: 0 red, 1 the green in red's row, 2 blue, 3 the green in blue's row. Bit 0
# of the phase number is a shift by one column, bit 1 a shift by one row.
PHASES: dict[str, tuple[int, int, int, int]] = {
    "RGGB": (0, 1, 3, 2),
    "GRBG": (1, 0, 2, 3),
    "GBRG": (3, 2, 0, 1),
    "BGGR": (2, 3, 1, 0),
}

# How uint16 files store a packed value: value = stored * UINT16_SCALE + UINT16_OFFSET, which spans
# -0.667 to 2.0 in steps of 4e-5 (a 14-bit sensor's step is 6e-5) and keeps negative noise.
UINT16_SCALE = 1.0 / 24576.0
UINT16_OFFSET = -16384.0 / 24576.0

DTYPES = ("float32", "float16", "uint16")

# Below this many output pixels a thread costs more than it saves.
_PIXELS_WORTH_A_THREAD = 200_000


def levels(value: float | Sequence[float] | npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """`value` (one number, or four by colour index R, G1, B, G2) as (4,) float64."""
    array = np.asarray(value, dtype=np.float64)
    if array.shape not in ((), (4,)):
        raise InvalidArrayError(
            f"{name} must be one number or four in the order R, G1, B, G2, not shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise InvalidArrayError(f"{name} must be finite, not {array.tolist()}")
    return np.broadcast_to(array, (4,)).copy()


def cell_weights(
    pattern: str,
    black: npt.NDArray[np.float64],
    white: npt.NDArray[np.float64],
    matrix: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(black (4,), weights (3, 4)) by position in the 2x2 cell, float32, for the kernels.

    weights[k, p] = matrix[k, channel(p)] * share(p) / (white - black)(p); share is 1 for red and
    blue and 1/2 for each green.
    """
    position = np.array(PHASES[pattern])
    channel = np.array([0, 1, 2, 1])[position]
    share = np.array([1.0, 0.5, 1.0, 0.5])[position]
    scale = share / (white - black)[position]
    weights = matrix[:, channel] * scale
    return black[position].astype(np.float32), weights.astype(np.float32)


def pack_bayer(
    mosaic: Mosaic,
    *,
    pattern: str,
    black: float | Sequence[float] | npt.ArrayLike,
    white: float | Sequence[float] | npt.ArrayLike,
    matrix: npt.ArrayLike | None,
    layout: Layout = "hwc",
    out: Packed | None = None,
    threads: int | None = None,
) -> Packed:
    """Packs a Bayer mosaic to a half-resolution linear image.

    Parameters
    ----------
    mosaic : uint16 (H, W), the visible area, H and W at least 2; a last odd row or column is
        dropped.
    pattern : "RGGB", "GRBG", "GBRG" or "BGGR", the top-left 2x2 cell of `mosaic`, row by row.
    black, white : sample levels that become 0 and 1; one number, or four in the order R, G1, B,
        G2 of LibRaw's colour indices (G1 is the green in red's row).
    matrix : (3, 3), camera RGB (column) to the output; None leaves camera RGB.
    layout : "hwc" gives (H // 2, W // 2, 3), "chw" gives (3, H // 2, W // 2), what ISPs eat.
    out : float32 C-contiguous array of the result's shape to fill, instead of a new one.
    threads : how many threads share the rows; default all cores for large images, 1 for small.

    Returns
    -------
    float32; 0 is black and 1 the sensor's white level before `matrix`. Noise below black stays
    negative and values are never clipped, so that averages and resizes keep the noise's mean.

    Raises
    ------
    InvalidArrayError
        Naming the argument that has a wrong shape, dtype, order or range.
    """
    from rawisp.kernels import bayer

    m, black4, white4 = _validated(mosaic, pattern, black, white, matrix, layout)
    rows, columns = mosaic.shape[0] // 2, mosaic.shape[1] // 2
    shape = (3, rows, columns) if layout == "chw" else (rows, columns, 3)
    result = _output(out, shape, mosaic)
    cell_black, weights = cell_weights(pattern, black4, white4, m)
    run = bayer.pack_planar if layout == "chw" else bayer.pack_interleaved
    source = np.ascontiguousarray(mosaic)
    count = threads or min(os.cpu_count() or 1, rows * columns // _PIXELS_WORTH_A_THREAD) or 1
    if count <= 1:
        run(source, cell_black, weights, result, 0, rows)
    else:
        edges = np.linspace(0, rows, count + 1).astype(int).tolist()
        jobs = [
            _threads(count).submit(run, source, cell_black, weights, result, first, last)
            for first, last in pairwise(edges)
        ]
        for job in jobs:
            job.result()
    return result


def subtract_black_deltas(
    packed: Packed,
    rows: npt.NDArray[np.float64] | None,
    columns: npt.NDArray[np.float64] | None,
    *,
    pattern: str,
    black: npt.NDArray[np.float64],
    white: npt.NDArray[np.float64],
    matrix: npt.ArrayLike,
    layout: Layout,
) -> None:
    """Takes from `packed`, in place, a black level that varies along rows and columns.

    rows (H,), columns (W,): what is added to `black` in each row and column of the mosaic, in
    sample units. The others are those that `packed` was made with. Packing is linear, so the
    deltas are packed like samples and subtracted: one value per row and one per column.
    """
    height, width = packed.shape[:2] if layout == "hwc" else packed.shape[1:]
    _, weights = cell_weights(pattern, black, white, np.asarray(matrix, dtype=np.float64))
    by_row = np.zeros((3, height), np.float64)
    by_column = np.zeros((3, width), np.float64)
    for position in range(4):
        weight = weights[:, position, None].astype(np.float64)
        if rows is not None:
            by_row += weight * rows[position // 2 :: 2][:height]
        if columns is not None:
            by_column += weight * columns[position % 2 :: 2][:width]
    planar = packed if layout == "chw" else np.moveaxis(packed, -1, 0)
    planar -= by_row[:, :, None].astype(np.float32)
    planar -= by_column[:, None, :].astype(np.float32)


def encode_packed(packed: Packed, dtype: str) -> npt.NDArray[np.generic]:
    """`packed` as "float32", "float16", or "uint16" with UINT16_SCALE and UINT16_OFFSET.

    What lies outside uint16's range (-0.667 to 2.0) is cut to it.
    """
    if dtype == "float32":
        return packed
    if dtype == "float16":
        return np.asarray(packed, dtype=np.float16)
    if dtype == "uint16":
        stored = packed * np.float32(1 / UINT16_SCALE) - np.float32(UINT16_OFFSET / UINT16_SCALE)
        return np.asarray(np.clip(np.rint(stored), 0, 65535), dtype=np.uint16)
    raise InvalidArrayError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")


def decode_packed(stored: npt.NDArray[np.generic]) -> Packed:
    """The inverse of `encode_packed`, by the array's dtype."""
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    if stored.dtype == np.uint16:
        return stored.astype(np.float32) * np.float32(UINT16_SCALE) + np.float32(UINT16_OFFSET)
    if stored.dtype in (np.float16, np.float32):
        return np.ascontiguousarray(stored, dtype=np.float32)
    raise InvalidArrayError(f"dtype {stored.dtype} is none of {', '.join(DTYPES)}")


@lru_cache(maxsize=4)
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="rawisp-pack")


def _validated(
    mosaic: Mosaic,
    pattern: str,
    black: float | Sequence[float] | npt.ArrayLike,
    white: float | Sequence[float] | npt.ArrayLike,
    matrix: npt.ArrayLike | None,
    layout: str,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if not isinstance(mosaic, np.ndarray) or mosaic.dtype != np.uint16 or mosaic.ndim != 2:
        raise InvalidArrayError(
            f"mosaic must be a uint16 array of shape (H, W), not {_describe(mosaic)}"
        )
    if min(mosaic.shape) < 2:
        raise InvalidArrayError(f"mosaic {mosaic.shape} is smaller than one 2x2 cell")
    if pattern not in PHASES:
        raise InvalidArrayError(f"pattern {pattern!r} is none of {', '.join(PHASES)}")
    if layout not in ("hwc", "chw"):
        raise InvalidArrayError(f"layout {layout!r} is neither 'hwc' nor 'chw'")
    black4, white4 = levels(black, "black"), levels(white, "white")
    if not (white4 > black4).all():
        raise InvalidArrayError(
            f"white {white4.tolist()} must be above black {black4.tolist()} for every colour"
        )
    m = np.eye(3) if matrix is None else np.asarray(matrix, dtype=np.float64)
    if m.shape != (3, 3) or not np.isfinite(m).all():
        raise InvalidArrayError(f"matrix must be finite and 3x3, not shape {m.shape}")
    return m, black4, white4


def _output(out: Packed | None, shape: tuple[int, ...], mosaic: Mosaic) -> Packed:
    if out is None:
        return np.empty(shape, np.float32)
    if (
        not isinstance(out, np.ndarray)
        or out.shape != shape
        or out.dtype != np.float32
        or not out.flags.c_contiguous
        or not out.flags.writeable
    ):
        raise InvalidArrayError(
            f"out must be a writeable C-contiguous float32 array of shape {shape}, "
            f"not {_describe(out)}"
        )
    if np.may_share_memory(out, mosaic):
        raise InvalidArrayError("out must not overlap mosaic")
    return out


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return type(value).__name__
