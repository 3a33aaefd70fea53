"""Resizing a plane to some of the pixels of a larger grid: every second row, say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rawisp.resize import triangle_taps

Plane = npt.NDArray[np.float32]
EVERY = slice(None)


def sampled(
    plane: Plane, height: int, width: int, rows: slice = EVERY, columns: slice = EVERY
) -> Plane:
    """`plane` (h, w) float32 resized to (height, width), of which only a part is computed.

    Bilinear when it grows, a triangle filter when it shrinks (`rawisp.resize`).
    """
    upright = _weighted_rows(plane, height, rows)
    # Whole rows are copied much faster than single pixels, so columns become rows.
    return _weighted_rows(np.ascontiguousarray(upright.T), width, columns).T


def _weighted_rows(plane: Plane, height: int, rows: slice) -> Plane:
    starts, weights = (taps[rows] for taps in triangle_taps(plane.shape[0], height))
    used = [k for k in range(weights.shape[1]) if weights[:, k].any()]
    result = plane[starts + used[0]]
    result *= weights[:, used[0], None]
    for k in used[1:]:
        part = plane[starts + k]
        part *= weights[:, k, None]
        result += part
    return result
