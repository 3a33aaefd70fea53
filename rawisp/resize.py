"""Antialiased bilinear shrinking of planar images, the same for `enhance` and for training.

The filter is a triangle of half-width max(1, scale) in source pixels, centred on pixel centres:
Pillow's BILINEAR, and PyTorch's interpolate(mode="bilinear", antialias=True).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rawisp.errors import InvalidArrayError

Planar = npt.NDArray[np.float32]


@lru_cache(maxsize=64)
def triangle_taps(
    source: int, target: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """(starts (target,), weights (target, taps)) of the triangle filter from `source` samples.

    Output i sits at source coordinate (i + 1/2) * source / target; taps that fall outside are
    left out and the rest normalised, so constants are kept up to the border.
    """
    scale = source / target
    support = max(1.0, scale)
    centers = (np.arange(target) + 0.5) * scale
    taps = min(source, int(np.ceil(support)) * 2 + 1)
    starts = np.clip(np.floor(centers - support).astype(np.int64), 0, source - taps)
    positions = starts[:, None] + np.arange(taps) + 0.5
    weights = np.clip(1.0 - np.abs(positions - centers[:, None]) / support, 0.0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return starts, weights.astype(np.float32)


def shrink(image: Planar, height: int, width: int) -> Planar:
    """`image` (C, H, W) float32 to (C, height, width); neither side may grow.

    Returns `image` itself when the size is already right. Values are mixed linearly, so a linear
    image stays linear and negative noise stays negative.
    """
    if image.ndim != 3 or image.dtype != np.float32:
        raise InvalidArrayError(f"image must be float32 (C, H, W), not {image.dtype} {image.shape}")
    channels, rows, columns = image.shape
    if not (0 < height <= rows and 0 < width <= columns):
        raise InvalidArrayError(
            f"cannot shrink {columns}x{rows} to {width}x{height}; no side may grow"
        )
    if (height, width) == (rows, columns):
        return image
    from rawisp.kernels import resize

    image = np.ascontiguousarray(image)
    fewer_rows = np.empty((channels, height, columns), np.float32)
    resize.shrink_rows(image, *triangle_taps(rows, height), fewer_rows)
    small = np.empty((channels, height, width), np.float32)
    resize.shrink_columns(fewer_rows, *triangle_taps(columns, width), small)
    return small
