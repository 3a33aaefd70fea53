"""The one place that knows colour: directions of matrices, white points, which matrix of a DNG.

Everything is float64 and tiny; pixels are multiplied elsewhere (kernels). Column vectors:
XYZ = M^-1 c with c the camera's (R, G, B) after black and white levels, M LibRaw's
``rgb_xyz_matrix``, which maps XYZ *to* camera (the same thing as DNG's ColorMatrix).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rawisp.errors import InvalidArrayError

Matrix = npt.NDArray[np.float64]

InputColor = Literal["xyz", "camera", "xyz-uninverted"]
COLORS: tuple[InputColor, ...] = ("xyz", "camera", "xyz-uninverted")

# Linear sRGB (BT.709 primaries, D65) to CIE XYZ, to seven digits as LibRaw 0.22 computes with
# (dcraw's six differ by 8e-5); Lindbloom, "RGB/XYZ Matrices".
XYZ_FROM_LINEAR_SRGB: Matrix = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
LINEAR_SRGB_FROM_XYZ: Matrix = np.asarray(np.linalg.inv(XYZ_FROM_LINEAR_SRGB), dtype=np.float64)

D65_TEMPERATURE_K = 6504.0

# A stand-in for cameras of which nobody knows the matrix: the median, entry by entry, of LibRaw
# 0.22's XYZ-to-camera matrices of 23 cameras of 2012 to 2021 (Canon, Nikon, Sony, Fujifilm,
# Panasonic, Ricoh, Pentax, Samsung, Leica, DJI, Raspberry Pi). Single cameras differ from it by
# 0.02 to 0.15 an entry, so colours come out roughly right and no better.
GENERIC_XYZ_TO_CAMERA: Matrix = np.array(
    [
        [0.7662, -0.2746, -0.0768],
        [-0.4420, 1.2460, 0.2287],
        [-0.0796, 0.1780, 0.6108],
    ]
)
GENERIC_SOURCE = "generic, of no camera"

# EXIF LightSource codes as DNG's CalibrationIlluminant uses them, to correlated colour
# temperature in kelvin (DNG specification 1.7, chapter 6; dng_camera_profile's table).
ILLUMINANT_TEMPERATURE_K = {
    1: 5500.0,  # daylight
    2: 4150.0,  # fluorescent
    3: 2850.0,  # tungsten
    4: 5500.0,  # flash
    9: 5500.0,  # fine weather
    10: 6500.0,  # cloudy
    11: 7500.0,  # shade
    12: 6430.0,  # daylight fluorescent
    13: 5000.0,  # day white fluorescent
    14: 4200.0,  # cool white fluorescent
    15: 3450.0,  # white fluorescent
    16: 2940.0,  # warm white fluorescent
    17: 2856.0,  # standard light A
    18: 4874.0,  # standard light B
    19: 6774.0,  # standard light C
    20: 5503.0,  # D55
    21: 6504.0,  # D65
    22: 7504.0,  # D75
    23: 5003.0,  # D50
    24: 3200.0,  # ISO studio tungsten
}


@dataclass(frozen=True)
class CameraMatrix:
    """M, (3, 3) float64, XYZ to camera RGB, and a phrase that says where it came from."""

    xyz_to_camera: Matrix
    source: str

    @property
    def camera_to_xyz(self) -> Matrix:
        """M^-1."""
        return np.asarray(np.linalg.inv(self.xyz_to_camera))


def usable(matrix: npt.ArrayLike) -> bool:
    """Whether `matrix` is a finite 3x3 that can be inverted safely (LibRaw says zeros for none)."""
    m = np.asarray(matrix, dtype=np.float64)
    return (
        m.shape == (3, 3)
        and bool(np.isfinite(m).all())
        and bool(np.any(m))
        and float(np.linalg.cond(m)) < 1e6
    )


def daylight_white(xyz_to_camera: Matrix) -> Matrix:
    """(3,) the camera's R, G, B of D65's white, linear sRGB's (1, 1, 1); not normalised."""
    return np.asarray((xyz_to_camera @ XYZ_FROM_LINEAR_SRGB).sum(axis=1))


def is_placeholder(xyz_to_camera: Matrix) -> bool:
    """Whether the matrix is of no sensor: daylight's white is (1, 1, 1) by it, within a tenth.

    Programs that do not know the camera write such a matrix into their DNGs. A sensor's green is
    stronger than its red and its blue.
    """
    white = daylight_white(xyz_to_camera)
    return bool(white.min() > 0.0 and white.max() <= 1.1 * white.min())


def output_matrix(color: InputColor, xyz_to_camera: Matrix | None) -> Matrix:
    """The 3x3 that takes camera RGB (column) to `color`.

    ``xyz``: M^-1, scene-referred, no white balance. ``camera``: identity. ``xyz-uninverted``: M
    itself, which is *not* XYZ: what checkpoints expect whose training code applied LibRaw's matrix
    forward. The first and last need `xyz_to_camera`; the caller says which file lacks it.
    """
    if color == "camera":
        return np.eye(3)
    if xyz_to_camera is None:
        raise InvalidArrayError(f"color {color!r} needs a camera matrix")
    if color == "xyz-uninverted":
        return xyz_to_camera
    return np.asarray(np.linalg.inv(xyz_to_camera), dtype=np.float64)


def parse_matrix(text: str) -> Matrix:
    """Nine numbers, row by row, separated by commas or spaces: M, XYZ to camera, as in a DNG.

    Raises InvalidArrayError with what is wrong.
    """
    try:
        values = [float(v) for v in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) != 9:
        raise InvalidArrayError(
            f"--matrix {text!r} is not nine numbers; write the rows of XYZ-to-camera one after "
            "another, as DNG's ColorMatrix does"
        )
    m = np.array(values).reshape(3, 3)
    if np.abs(m).max() > 20:
        raise InvalidArrayError(
            "--matrix has entries above 20; dcraw's tables are times 10000, divide them first"
        )
    if not usable(m):
        raise InvalidArrayError("--matrix cannot be inverted")
    return m


def white_balanced_camera_to_linear_srgb(xyz_to_camera: Matrix) -> tuple[Matrix, Matrix]:
    """LibRaw's (pre_mul, rgb_cam) for a 3-colour camera, normalised as dcraw does.

    C = M S with S linear sRGB to XYZ; n = row sums of C; pre_mul = 1 / n (daylight multipliers);
    rgb_cam = (diag(1/n) C)^-1, rows normalised *before* inverting, so that neutral maps to (1,1,1).
    """
    c = xyz_to_camera @ XYZ_FROM_LINEAR_SRGB
    n = c.sum(axis=1)
    return 1.0 / n, np.asarray(np.linalg.inv(c / n[:, None]))


def nearest_to_d65(
    candidates: Sequence[tuple[int | None, Matrix]],
) -> tuple[int | None, Matrix] | None:
    """The (illuminant code, ColorMatrix) whose illuminant is closest to D65 in mired.

    Mired (1e6 / kelvin) because that is the scale on which DNG readers interpolate. A missing or
    unknown code counts as far away, so it is chosen only when there is nothing else.
    """

    def distance(candidate: tuple[int | None, Matrix]) -> float:
        kelvin = ILLUMINANT_TEMPERATURE_K.get(candidate[0] or 0)
        return abs(1e6 / kelvin - 1e6 / D65_TEMPERATURE_K) if kelvin else float("inf")

    usable_ones = [c for c in candidates if usable(c[1])]
    return min(usable_ones, key=distance) if usable_ones else None
