"""Raising clipped colours of packed pixels to the scene's white, in place.

Per pixel, with c = to_camera . pixel and n the camera's response to the scene's white, its largest
entry 1:

    w = c / n                           the light of each colour, 1 : 1 : 1 for white
    t = ramp(c; start, end)             how far each colour is clipped
    w' = w + t (max(w) - w)             what is clipped was at least this bright: most likely white

A pixel of which no colour reaches `start` is not touched. Colours that are not clipped keep their
value, so a red lamp whose red alone is clipped stays red.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rawisp.kernels.jit import kernel

F32 = npt.NDArray[np.float32]


@kernel
def raise_clipped(
    pixels: F32, to_camera: F32, from_camera: F32, neutral: F32, start: float, end: float
) -> int:
    """Mends `pixels` (3, N) float32 in place; returns of how many a colour is clipped.

    to_camera, from_camera (3, 3) and neutral (3,) float32; start < end are levels of camera RGB,
    1.0 the sensor's white. Clipped is what lies at or above `end`.
    """
    a, b = to_camera, from_camera
    n0, n1, n2 = neutral[0], neutral[1], neutral[2]
    first, last = np.float32(start), np.float32(end)
    slope = np.float32(1.0) / (last - first)
    zero, one = np.float32(0.0), np.float32(1.0)
    clipped = 0
    for i in range(pixels.shape[1]):
        x, y, z = pixels[0, i], pixels[1, i], pixels[2, i]
        c0 = a[0, 0] * x + a[0, 1] * y + a[0, 2] * z
        c1 = a[1, 0] * x + a[1, 1] * y + a[1, 2] * z
        c2 = a[2, 0] * x + a[2, 1] * y + a[2, 2] * z
        highest = max(c0, max(c1, c2))
        if highest <= first:
            continue
        clipped += highest >= last
        w0, w1, w2 = c0 / n0, c1 / n1, c2 / n2
        white = max(w0, max(w1, w2))
        # What each colour of the camera gains; the matrix is linear, so gains are enough.
        g0 = min(max((c0 - first) * slope, zero), one) * (white - w0) * n0
        g1 = min(max((c1 - first) * slope, zero), one) * (white - w1) * n1
        g2 = min(max((c2 - first) * slope, zero), one) * (white - w2) * n2
        pixels[0, i] = x + b[0, 0] * g0 + b[0, 1] * g1 + b[0, 2] * g2
        pixels[1, i] = y + b[1, 0] * g0 + b[1, 1] * g1 + b[1, 2] * g2
        pixels[2, i] = z + b[2, 0] * g0 + b[2, 1] * g1 + b[2, 2] * g2
    return clipped
