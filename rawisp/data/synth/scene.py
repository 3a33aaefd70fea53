"""From a photograph to the light of its scene: undo the encoding, change the lamp, ask the camera.

v = sRGB decoding of each value            IEC 61966-2-1
s = inverse tone curve of v                whites spread, mid-tones stay
camera RGB = M . A(kelvin) . S . s         S linear sRGB to XYZ under D65; A Bradford adaptation
                                           to the light's white; M XYZ to camera
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rawisp.color import XYZ_FROM_LINEAR_SRGB, Matrix

Planes = npt.NDArray[np.float32]

# XYZ to the sharpened cone responses of the Bradford transform (Lindbloom, "Chromatic Adaptation").
_BRADFORD: Matrix = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D65_WHITE: Matrix = XYZ_FROM_LINEAR_SRGB.sum(axis=1)

# Below this share of white a photograph's mid-tones count as this bright, so that one taken at
# night is not lifted into day first.
_DARKEST_MID_TONE = 0.02


@lru_cache(maxsize=8)
def decoding_table(shoulder: float, white_headroom: float) -> Planes:
    """Scene light by uint8 value, float32 (256,), read-only.

    Up to `shoulder` the value of sRGB's linear light; above, the inverse of a hyperbolic shoulder
    k + (1 - k) t / (1 - t (1 - 1 / r)), t = (v - k) / (1 - k), r = (h - k) / (1 - k): its slope is
    continuous at k, and value 255 becomes h = `white_headroom`.
    """
    code = np.arange(256) / 255.0
    v = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    t = np.clip((v - shoulder) / (1.0 - shoulder), 0.0, 1.0)
    ratio = (white_headroom - shoulder) / (1.0 - shoulder)
    spread = shoulder + (1.0 - shoulder) * t / (1.0 - t * (1.0 - 1.0 / ratio))
    table = np.where(v <= shoulder, v, spread).astype(np.float32)
    table.flags.writeable = False
    return table


def scene_light(rgb: npt.NDArray[np.uint8], shoulder: float, white_headroom: float) -> Planes:
    """Linear light with sRGB's primaries, float32 (3, H, W), of an sRGB photograph (H, W, 3)."""
    table = decoding_table(shoulder, white_headroom)
    return np.stack([np.take(table, rgb[..., k]) for k in range(3)])


def mid_tone(scene: Planes) -> float:
    """The median luminance Y of `scene_light` (of some 20,000 of its pixels), at least 0.02."""
    step = max(1, int((scene[0].size / 20_000) ** 0.5))
    sparse = scene[:, ::step, ::step]
    luminance = np.einsum("c,chw->hw", XYZ_FROM_LINEAR_SRGB[1].astype(np.float32), sparse)
    return max(float(np.median(luminance)), _DARKEST_MID_TONE)


def white_of(kelvin: float) -> Matrix:
    """XYZ, Y = 1, of light of a colour temperature.

    From 4000 K on daylight (CIE 15:2004, 3.1), so that 6504 K is D65; below, the Planckian locus
    in the cubic approximation of Kim et al. 2002 (US patent 7024034), good from 1667 K.
    """
    t = kelvin
    if t >= 4000.0:
        if t <= 7000.0:
            x = -4.6070e9 / t**3 + 2.9678e6 / t**2 + 0.09911e3 / t + 0.244063
        else:
            x = -2.0064e9 / t**3 + 1.9018e6 / t**2 + 0.24748e3 / t + 0.237040
        y = -3.0 * x**2 + 2.870 * x - 0.275
    else:
        x = -0.2661239e9 / t**3 - 0.2343589e6 / t**2 + 0.8776956e3 / t + 0.179910
        if t < 2222.0:
            y = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
        else:
            y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    return np.array([x / y, 1.0, (1.0 - x - y) / y])


def adaptation(kelvin: float) -> Matrix:
    """(3, 3), XYZ of a surface under D65 to its XYZ under light of `kelvin` (Bradford)."""
    gains = (_BRADFORD @ white_of(kelvin)) / (_BRADFORD @ _D65_WHITE)
    return np.asarray(np.linalg.inv(_BRADFORD) @ (gains[:, None] * _BRADFORD))


def camera_from_scene(xyz_to_camera: npt.ArrayLike, kelvin: float) -> Matrix:
    """(3, 3), `scene_light` under D65 to camera RGB of the same scene under light of `kelvin`."""
    return np.asarray(xyz_to_camera) @ adaptation(kelvin) @ XYZ_FROM_LINEAR_SRGB


def camera_light(scene: Planes, matrix: Matrix) -> Planes:
    """`matrix` on each pixel of (3, H, W), negative light cut off: no sensor sees any.

    Written out, not as a matrix product: BLAS would start threads for it, and its last bit depends
    on the machine.
    """
    m = matrix.astype(np.float32)
    light = np.empty_like(scene)
    term = np.empty_like(scene[0])
    for k in range(3):
        np.multiply(scene[0], m[k, 0], out=light[k])
        light[k] += np.multiply(scene[1], m[k, 1], out=term)
        light[k] += np.multiply(scene[2], m[k, 2], out=term)
    return np.maximum(light, 0.0, out=light)
