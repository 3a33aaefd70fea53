"""Antialiased signed-distance shapes painted into a small shading buffer (pure NumPy)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Point = tuple[float, float]
Colour = tuple[float, float, float]

# Channels of a shading buffer, all premultiplied by the cover in the last one.
ALBEDO, NORMAL, GLOW = slice(0, 3), slice(3, 6), slice(6, 9)
GLOSS, DEPTH, COVER = 9, 10, 11
CHANNELS = 12


@dataclass(frozen=True)
class Paint:
    """How a shape looks: reflectance, roundness, own light at night, gloss, opacity."""

    colour: Colour
    bevel: float = 0.0  # metres over which the shape turns away towards its edge
    normal: Colour = (0.0, 0.0, -1.0)  # camera frame: x right, y up, z forward
    glow: Colour = (0.0, 0.0, 0.0)
    gloss: float = 0.0
    opacity: float = 1.0
    body: bool = True  # whether the shape counts for the object's box


class Layer:
    """One object's window of the picture; shapes are given in metres, y up, from its foot point.

    The window may reach outside the picture, so that the whole object is known.
    """

    def __init__(self, foot: Point, scale: float, depth: float, extent: Sequence[float]) -> None:
        """Make an empty window for `extent` = (left, right, bottom, top) metres about `foot`."""
        self.foot, self.scale, self.depth = foot, scale, depth
        left, right, bottom, top = extent
        self.left = int(np.floor(foot[0] + left * scale)) - 3
        self.top = int(np.floor(foot[1] - top * scale)) - 3
        width = int(np.ceil(foot[0] + right * scale)) + 3 - self.left
        height = int(np.ceil(foot[1] - bottom * scale)) + 3 - self.top
        self.data: Array = np.zeros((height, width, CHANNELS), np.float32)
        self.mask: Array = np.zeros((height, width), np.float32)

    def _px(self, point: Point) -> tuple[float, float]:
        return (
            self.foot[0] + point[0] * self.scale - self.left,
            self.foot[1] - point[1] * self.scale - self.top,
        )

    def _fill(
        self,
        field: Callable[[Array, Array], Array],
        corners: Sequence[tuple[float, float]],
        reach: float,
        paint: Paint,
    ) -> None:
        """Paint where the signed distance `field` (pixels) is negative, in its window only."""
        rows, cols = self.mask.shape
        xs, ys = [c[0] for c in corners], [c[1] for c in corners]
        x0, x1 = max(int(min(xs) - reach) - 2, 0), min(int(max(xs) + reach) + 3, cols)
        y0, y1 = max(int(min(ys) - reach) - 2, 0), min(int(max(ys) + reach) + 3, rows)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        x = np.arange(x0, x1, dtype=np.float32)[None, :] + np.float32(0.5)
        y = np.arange(y0, y1, dtype=np.float32)[:, None] + np.float32(0.5)
        distance = field(x, y)
        cover = np.clip(0.5 - distance, 0.0, 1.0)[..., None] * np.float32(paint.opacity)
        values = np.empty((y1 - y0, x1 - x0, CHANNELS), np.float32)
        values[..., ALBEDO] = paint.colour
        values[..., NORMAL] = paint.normal
        values[..., GLOW] = paint.glow
        values[..., GLOSS], values[..., DEPTH], values[..., COVER] = paint.gloss, self.depth, 1.0
        if paint.bevel > 0:
            grad_y, grad_x = np.gradient(distance)
            tilt = np.clip(1.0 + distance / max(paint.bevel * self.scale, 1.0), 0.0, 0.95)
            values[..., NORMAL] *= np.sqrt(1.0 - tilt**2)[..., None]
            values[..., 3] += grad_x * tilt
            values[..., 4] -= grad_y * tilt
        window = self.data[y0:y1, x0:x1]
        window += cover * (values - window)
        if paint.body:
            mask = self.mask[y0:y1, x0:x1]
            mask += cover[..., 0] * (1.0 - mask)

    def capsule(
        self, a: Point, b: Point, radius: float, paint: Paint, end: float | None = None
    ) -> None:
        """A stroke from `a` to `b`, `radius` thick at `a` and `end` (or the same) at `b`."""
        (ax, ay), (bx, by) = self._px(a), self._px(b)
        ra = max(radius * self.scale, 0.7)
        rb = max((radius if end is None else end) * self.scale, 0.7)
        dx, dy = bx - ax, by - ay
        norm = max(dx * dx + dy * dy, 1e-6)

        def field(x: Array, y: Array) -> Array:
            t = np.clip(((x - ax) * dx + (y - ay) * dy) / norm, 0.0, 1.0)
            return np.hypot(x - ax - t * dx, y - ay - t * dy) - (ra + t * (rb - ra))

        self._fill(field, [(ax, ay), (bx, by)], max(ra, rb), paint)

    def ellipse(self, centre: Point, radii: Point, paint: Paint, line: float | None = None) -> None:
        """A filled ellipse, or a ring `line` metres thick."""
        cx, cy = self._px(centre)
        rx, ry = (max(r * self.scale, 0.8) for r in radii)
        half = None if line is None else max(line * self.scale / 2, 0.7)

        def field(x: Array, y: Array) -> Array:
            u, v = (x - cx) / rx, (y - cy) / ry
            f = np.sqrt(u * u + v * v) + np.float32(1e-4)
            d: Array = f * (f - 1.0) / np.sqrt((u / rx) ** 2 + (v / ry) ** 2 + np.float32(1e-9))
            return d if half is None else np.abs(d) - half

        self._fill(field, [(cx - rx, cy - ry), (cx + rx, cy + ry)], half or 0.0, paint)

    def polygon(self, points: Sequence[Point], paint: Paint, rounding: float = 0.0) -> None:
        """A filled polygon, grown by `rounding` metres (at least 0.3 pixels, to close seams)."""
        corners = [self._px(p) for p in points]
        grow = max(rounding * self.scale, 0.3)

        def field(x: Array, y: Array) -> Array:
            best: Array = np.full(np.broadcast_shapes(x.shape, y.shape), 1e12, np.float32)
            inside = np.zeros(best.shape, bool)
            for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
                dx, dy = bx - ax, by - ay
                wx, wy = x - ax, y - ay
                t = np.clip((wx * dx + wy * dy) / max(dx * dx + dy * dy, 1e-6), 0.0, 1.0)
                np.minimum(best, (wx - t * dx) ** 2 + (wy - t * dy) ** 2, out=best)
                if ay != by:
                    inside ^= ((y < ay) != (y < by)) & (x < ax + (y - ay) * (dx / dy))
            return np.where(inside, -np.sqrt(best), np.sqrt(best)) - np.float32(grow)

        self._fill(field, corners, grow, paint)


DARK: Colour = (0.018, 0.018, 0.02)
LACQUER: tuple[Colour, ...] = (
    (0.70, 0.70, 0.70),
    (0.42, 0.43, 0.45),
    (0.16, 0.17, 0.18),
    (0.035, 0.036, 0.04),
    (0.42, 0.03, 0.03),
    (0.05, 0.12, 0.36),
    (0.05, 0.20, 0.14),
    (0.60, 0.36, 0.05),
    (0.30, 0.42, 0.50),
    (0.40, 0.33, 0.24),
)


def pick(rng: np.random.Generator, palette: tuple[Colour, ...]) -> Colour:
    """A colour of the palette, a little darker or lighter."""
    base = palette[int(rng.integers(len(palette)))]
    gain = float(rng.uniform(0.8, 1.2))
    return (base[0] * gain, base[1] * gain, base[2] * gain)


def dim(colour: Colour, gain: float) -> Colour:
    """A colour times a factor."""
    return (colour[0] * gain, colour[1] * gain, colour[2] * gain)
