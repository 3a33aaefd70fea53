"""Clipped highlights: what the sensor cut off is given back as the scene's white.

A colour at the sensor's white was at least that bright. Green clips first in daylight, red and blue
go on, and the matrix turns what is left into magenta. `neutral_highlights` raises each clipped
colour to the brightest one of its pixel, both measured against the scene's white; what is not
clipped keeps its value. See docs/decisions/0023-neutral-highlights.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rawisp.color import (
    InputColor,
    Matrix,
    daylight_white,
    is_placeholder,
    output_matrix,
)

Highlights = Literal["neutral", "as-is"]
HIGHLIGHTS: tuple[Highlights, ...] = ("neutral", "as-is")

# Camera RGB from which a colour counts as partly, and as wholly clipped; 1 is the sensor's white.
# The ramp hides noise at the rim, and greens of which one is clipped and the other nearly so.
CLIP_START, CLIP_END = 0.95, 0.99
# As-shot gains beyond this ratio to each other belong to no light that people photograph under.
_LARGEST_GAIN_RATIO = 16.0
_NO_BALANCE = "daylight (as shot is 1 1 1, which names no balance)"
# A sensor's green is this much stronger than its red and its blue before they are balanced.
_UNBALANCED_GREEN = 1.2


@dataclass(frozen=True)
class SceneWhite:
    """neutral: (3,) float64, the camera's R, G, B of the scene's white, the largest 1. source:
    "as shot", "daylight (as shot is 1 1 1, which names no balance)" and the like."""

    neutral: npt.NDArray[np.float64]
    source: str


def scene_white(
    white_balance: Sequence[float] | None, xyz_to_camera: Matrix | None
) -> SceneWhite | None:
    """The white of a file's light, from its as-shot gains, else daylight by its matrix, else None.

    white_balance: gains by colour index R, G1, B, G2, or None. Gains that are no balance (not
    finite and positive, or 16 times apart) are passed over. So are gains of exactly 1, 1, 1, which
    programs write that measured none, unless the matrix says that daylight needs none either.
    """
    daylight = None
    if xyz_to_camera is not None:
        daylight = _normalised(daylight_white(xyz_to_camera))
    shot = _neutral_of(white_balance)
    if shot is not None and np.ptp(shot) == 0.0:
        if xyz_to_camera is None or not is_placeholder(xyz_to_camera):
            return None if daylight is None else SceneWhite(daylight, _NO_BALANCE)
        return SceneWhite(shot, "as shot")
    if shot is not None:
        return SceneWhite(shot, "as shot")
    return None if daylight is None else SceneWhite(daylight, "daylight")


def neutral_highlights(
    packed: npt.NDArray[np.float32],
    color: InputColor,
    xyz_to_camera: Matrix | None,
    white: SceneWhite | None,
    *,
    planar: bool,
) -> dict[str, Any]:
    """Mends clipped pixels of a packed image in place, and says what was done, as JSON values.

    packed: float32 C-contiguous, (3, H, W) if `planar`, else (H, W, 3), in `color`, as
    `RawFrame.pack` gives it. xyz_to_camera: the matrix that it was packed with. white: None leaves
    the image as it is, since nobody knows what is white.

    Returns {"neutral": camera RGB, "source", "clipped_share": the share of pixels of which a colour
    is clipped}; {"neutral": None} when nothing could be done.
    """
    if white is None:
        return {"neutral": None}
    from rawisp.kernels import highlights

    from_camera = output_matrix(color, xyz_to_camera)
    pixels = packed.reshape(3, -1) if planar else packed.reshape(-1, 3).T
    clipped = highlights.raise_clipped(
        pixels,
        np.linalg.inv(from_camera).astype(np.float32),
        from_camera.astype(np.float32),
        white.neutral.astype(np.float32),
        CLIP_START,
        CLIP_END,
    )
    return {
        "neutral": [round(float(v), 6) for v in white.neutral],
        "source": white.source,
        "clipped_share": round(int(clipped) / max(pixels.shape[1], 1), 9),
    }


def balance_warning(
    planar: npt.NDArray[np.float32],
    color: InputColor,
    xyz_to_camera: Matrix | None,
    white: SceneWhite | None,
    clipped_share: float,
) -> str | None:
    """What to tell the user of a file whose as-shot gains are 1, 1, 1; None where all is well.

    planar: float32 (3, H, W) in `color`. Either daylight took their place in clipped highlights; or
    the matrix, too, says that the samples are balanced, while the picture is as green as a sensor's
    own samples are.
    """
    if white is None:
        return None
    if white.source == _NO_BALANCE:
        text = "its white balance is 1 1 1, so clipped highlights were made daylight's white"
        return text if clipped_share > 0.0 else None
    if np.ptp(white.neutral) > 0.0:
        return None
    from_camera = output_matrix(color, xyz_to_camera)
    sampled = planar[:, ::4, ::4].reshape(3, -1)
    red, green, blue = np.median(np.linalg.inv(from_camera) @ sampled, axis=1)
    if green <= 0.0 or green < _UNBALANCED_GREEN * max(red, blue):
        return None
    return (
        "it looks green: its white balance and its matrix say that the samples are balanced, which "
        "they do not seem to be; give the camera's own matrix with --matrix, or --matrix generic"
    )


def _neutral_of(gains: Sequence[float] | None) -> npt.NDArray[np.float64] | None:
    if gains is None or len(gains) < 3:
        return None
    red, green, blue = (float(g) for g in gains[:3])
    values = np.array([red, green, blue])
    if not np.isfinite(values).all() or values.min() <= 0.0:
        return None
    if values.max() > _LARGEST_GAIN_RATIO * values.min():
        return None
    return _normalised(1.0 / values)


def _normalised(neutral: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    if not np.isfinite(neutral).all() or neutral.min() <= 0.0:
        return None
    return np.asarray(neutral / neutral.max())
