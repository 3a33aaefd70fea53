"""The night itself: how dark it is, under what light, and the lamps that shine into the picture."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rawisp.data.synth.sampling import sampled
from rawisp.data.synth.scene import Planes, white_of
from rawisp.data.synth.settings import NightSettings, Range, iso_of

# The halo is Moffat's profile (1 + (r / s)^2)^-b: a bright bloom of the lamp's own size that falls
# off as the veil of lenses and haze does, between r^-2 (CIE 135/1, disability glare) and r^-3.
_HALO_POWER = 1.35
_HALO_CELL = 4  # pixels per sample of the halo, which is smooth


@dataclass(frozen=True)
class Lamp:
    """A light in the picture: a disc ("point") or a rectangle ("area": a window, a sign).

    x, y: its centre, width, height: its extent, all as shares of the picture's longer side, from
    the top-left corner. light: radiance, 1 saturates green. kelvin: its colour temperature.
    """

    kind: str
    x: float
    y: float
    width: float
    height: float
    light: float
    kelvin: float


@dataclass(frozen=True)
class Night:
    """What was drawn for one picture: see `NightSettings` for what each value means."""

    stops: float
    kelvin: float
    iso: int
    glare: float
    lamps: tuple[Lamp, ...]

    def record(self) -> dict[str, Any]:
        """As plain JSON values, for the manifest."""
        return {**asdict(self), "lamps": [asdict(lamp) for lamp in self.lamps]}


def draw_night(settings: NightSettings, size: tuple[int, int], rng: np.random.Generator) -> Night:
    """A night for a picture of `size` (width, height)."""
    stops = float(rng.uniform(*settings.stops))
    kelvin = _kelvin(settings.illuminant_k, rng)
    glare = float(rng.uniform(*settings.glare))
    count = int(rng.integers(settings.lamps[0], settings.lamps[1] + 1))
    lamps = tuple(_lamp(settings, size, rng) for _ in range(count))
    return Night(stops, kelvin, iso_of(stops), glare, lamps)


def _lamp(settings: NightSettings, size: tuple[int, int], rng: np.random.Generator) -> Lamp:
    """One in four is an area; most hang in the upper half, none in the lowest fifth."""
    longer = max(size)
    x, y = rng.uniform(0.0, 1.0), 0.8 * rng.beta(1.5, 3.0)
    extent = _log_uniform(settings.lamp_size, rng)
    aspect = float(rng.uniform(0.4, 1.0)) if rng.random() < 0.25 else 0.0
    upright = rng.random() < 0.5
    return Lamp(
        kind="area" if aspect else "point",
        x=float(x * size[0] / longer),
        y=float(y * size[1] / longer),
        width=extent * (aspect if aspect and upright else 1.0),
        height=extent * (aspect if aspect and not upright else 1.0),
        light=_log_uniform(settings.lamp_light, rng),
        kelvin=_kelvin(settings.illuminant_k, rng),
    )


def _log_uniform(limits: Range, rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1])))


def _kelvin(limits: Range, rng: np.random.Generator) -> float:
    return 1e6 / float(rng.uniform(1e6 / limits[1], 1e6 / limits[0]))


def add_lamps(light: Planes, night: Night, xyz_to_camera: npt.ArrayLike) -> None:
    """Adds the lamps and their halos to camera RGB (3, H, W), in place; 1 saturates."""
    if not night.lamps:
        return
    height, width = light.shape[1:]
    coarse = np.zeros((3, -(-height // _HALO_CELL), -(-width // _HALO_CELL)), np.float32)
    for lamp in night.lamps:
        seen = np.asarray(xyz_to_camera) @ white_of(lamp.kelvin)
        color = (lamp.light * np.maximum(seen / seen[1], 0.0)).astype(np.float32)
        _add_core(light, lamp, color)
        if night.glare > 0.0:
            halo = _halo(lamp, night.glare, coarse.shape[1:], (height, width))
            coarse += halo * color[:, None, None]
    if night.glare > 0.0:
        for plane, halo in zip(light, coarse, strict=True):
            plane += sampled(halo, height, width)


def _add_core(light: Planes, lamp: Lamp, color: npt.NDArray[np.float32]) -> None:
    """The lamp's own face, its edges antialiased over one pixel."""
    height, width = light.shape[1:]
    longer = max(height, width)
    cx, cy = lamp.x * longer, lamp.y * longer
    half_x, half_y = lamp.width * longer / 2, lamp.height * longer / 2
    x0, x1 = max(int(cx - half_x) - 1, 0), min(int(cx + half_x) + 2, width)
    y0, y1 = max(int(cy - half_y) - 1, 0), min(int(cy + half_y) + 2, height)
    dx = np.abs(np.arange(x0, x1, dtype=np.float32) + 0.5 - cx)[None, :]
    dy = np.abs(np.arange(y0, y1, dtype=np.float32) + 0.5 - cy)[:, None]
    if lamp.kind == "point":
        cover = np.clip(half_x + 0.5 - np.hypot(dx, dy), 0.0, 1.0)
    else:
        cover = np.clip(half_x + 0.5 - dx, 0.0, 1.0) * np.clip(half_y + 0.5 - dy, 0.0, 1.0)
    light[:, y0:y1, x0:x1] += cover.astype(np.float32) * color[:, None, None]


def _halo(
    lamp: Lamp, glare: float, shape: tuple[int, ...], full: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """What a lamp of radiance 1 spreads around it, on a coarse grid over `full` (height, width).

    flux x glare x (b - 1) / (pi s^2) (1 + (r / s)^2)^-b, which sums to flux x glare over the plane.
    """
    longer = max(full)
    cx, cy = lamp.x * longer, lamp.y * longer
    width, height = lamp.width * longer, lamp.height * longer
    area = width * height * (math.pi / 4 if lamp.kind == "point" else 1.0)
    size = math.sqrt(width * height) + 0.005 * longer
    dx = (np.arange(shape[1]) + 0.5) * (full[1] / shape[1]) - cx
    dy = (np.arange(shape[0]) + 0.5) * (full[0] / shape[0]) - cy
    r2 = (dx[None, :] ** 2 + dy[:, None] ** 2) / size**2
    peak = area * glare * (_HALO_POWER - 1.0) / (math.pi * size**2)
    return (peak * (1.0 + r2) ** -_HALO_POWER).astype(np.float32)
