"""Cars of several body shapes, seen from any side.

Figures are drawn from a side profile and its width turned by `yaw` (0 = going away from the
camera, pi/2 = going right, pi = coming closer), so that side, front and slanted views all come
from one description.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import cos, hypot, pi, sin

import numpy as np

from .drawing import DARK, LACQUER, Colour, Layer, Paint, Point, dim, pick

Place = tuple[float, float, float]


@dataclass(frozen=True)
class CarShape:
    """A side profile (forward, up) from the rear sill over the roof to the front sill."""

    profile: tuple[Point, ...]
    belt: float  # height of the lower edge of the side windows
    rear: int  # first profile point of the rear window
    screen: int  # first profile point of the windscreen
    glass: float  # where the side windows begin
    width: float
    wheel: float


def _shape(text: str, belt: float, rear: int, screen: int, glass: float, w: float) -> CarShape:
    numbers = [float(v) for v in text.split()]
    points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return CarShape(points, belt, rear, screen, glass, w, 0.31 if w < 1.85 else 0.36)


CARS = {
    "sedan": _shape(
        "-2.2 .3 -2.27 .55 -2.22 .9 -1.6 1 -.85 1.4 -.3 1.45 .25 1.42 1.0 .98 1.95 .84"
        " 2.22 .68 2.27 .45 2.15 .25",
        0.94,
        3,
        6,
        -9,
        1.78,
    ),
    "hatchback": _shape(
        "-1.85 .3 -1.95 .6 -1.92 .98 -1.6 1.42 -1.15 1.5 0 1.52 .35 1.45 1.05 1.0 1.7 .88"
        " 1.93 .68 1.97 .42 1.85 .25",
        0.96,
        2,
        6,
        -9,
        1.74,
    ),
    "estate": _shape(
        "-2.25 .3 -2.3 .6 -2.27 .95 -1.95 1.38 -1.5 1.47 -.2 1.5 .25 1.44 1.0 1.0 1.95 .86"
        " 2.22 .68 2.27 .45 2.15 .25",
        0.95,
        2,
        6,
        -9,
        1.8,
    ),
    "suv": _shape(
        "-2.2 .38 -2.27 .7 -2.22 1.08 -1.95 1.6 -1.4 1.7 .1 1.72 .45 1.64 1.05 1.14 1.95 1.04"
        " 2.2 .86 2.24 .5 2.1 .32",
        1.08,
        2,
        6,
        -9,
        1.9,
    ),
    "van": _shape(
        "-2.4 .3 -2.45 .7 -2.45 1.2 -2.38 1.85 -2.1 2.02 .8 2.02 1.15 1.9 1.8 1.2 2.25 1.02"
        " 2.42 .78 2.42 .42 2.28 .28",
        1.14,
        2,
        6,
        0.35,
        1.95,
    ),
}


def _smooth(points: list[Point]) -> list[Point]:
    """Cut the corners of an open chain once."""
    out = [points[0]]
    for (ax, ay), (bx, by) in pairwise(points):
        out += [(0.8 * ax + 0.2 * bx, 0.8 * ay + 0.2 * by)]
        out += [(0.2 * ax + 0.8 * bx, 0.2 * ay + 0.8 * by)]
    return [*out, points[-1]]


def draw_car(
    layer: Layer, rng: np.random.Generator, shape: CarShape, yaw: float, at: Place, lit: bool
) -> None:
    """Paint a car whose centre is `at` = (x, camera height above the ground, depth)."""
    c, s = cos(yaw), sin(yaw)
    colour = pick(rng, LACQUER)
    chain = _smooth(list(shape.profile))
    long = max(abs(p[0]) for p in chain)
    roof = max(p[1] for p in chain)

    def half(x: float, y: float) -> float:
        lift = min(max((y - shape.belt) / (roof - shape.belt), 0.0), 1.0)
        return shape.width / 2 * (1 - 0.17 * lift) * (1 - 0.13 * (abs(x) / long) ** 5)

    def world(x: float, y: float, lat: float) -> tuple[float, float, float]:
        return (at[0] + x * s + lat * c, y - at[1], at[2] + x * c - lat * s)

    def put(x: float, y: float, lat: float) -> Point:
        wx, wy, wz = world(x, y, lat)
        grow = at[2] / max(wz, 0.5)
        return (wx * grow - at[0], at[1] + wy * grow)

    def turned(x: float, y: float, lat: float) -> Colour:
        return (x * s + lat * c, y, x * c - lat * s)

    def seen(normal: Colour, point: tuple[float, float, float]) -> bool:
        return sum(n * p for n, p in zip(normal, point, strict=True)) < 0

    def face(pts: list[Place], paint: Paint, rounding: float = 0.0) -> None:
        layer.polygon([put(*p) for p in pts], paint, rounding)

    def bar(end: int, y0: float, y1: float, lat0: float, lat1: float, paint: Paint) -> None:
        """A patch on the front (end = 1) or the rear (-1) between heights and half-width shares."""
        side = [p for p in chain if p[0] * end > 0.5 * long and p[1] < shape.belt + 0.12]
        side.sort(key=lambda p: p[1])
        up, forward = [p[1] for p in side], [p[0] for p in side]
        x0, x1 = float(np.interp(y0, up, forward)), float(np.interp(y1, up, forward))
        a, b = half(x0, y0), half(x1, y1)
        face(
            [(x0, y0, lat0 * a), (x1, y1, lat0 * b), (x1, y1, lat1 * b), (x0, y0, lat1 * a)], paint
        )

    tyre = Paint(DARK, bevel=0.03)
    axles = (-long + 0.2 + 2 * shape.wheel + 0.1, long - 0.2 - 2 * shape.wheel)
    floor = [
        (x, y, lat * shape.width * 0.47)
        for x, y, lat in (
            (-long * 0.9, 0.22, -1),
            (-long * 0.9, 0.22, 1),
            (long * 0.9, 0.22, 1),
            (long * 0.9, 0.22, -1),
        )
    ]
    for x in axles:
        for lat in (-1.0, 1.0):
            for end in (-1, 1):
                edge, inner = lat * shape.width * 0.47, lat * shape.width * 0.35
                xs = x + end * shape.wheel * 0.8
                face(
                    [(xs, 0.03, edge), (xs, 0.4, edge), (xs, 0.4, inner), (xs, 0.03, inner)],
                    tyre,
                    0.02,
                )
    face(floor, Paint((0.01, 0.01, 0.01)))
    strips = []
    for (ax, ay), (bx, by) in pairwise(chain):
        size = max(hypot(bx - ax, by - ay), 1e-6)
        normal = turned(-(by - ay) / size, (bx - ax) / size, 0.0)
        middle = world((ax + bx) / 2, (ay + by) / 2, 0.0)
        if seen(normal, middle):
            strips.append((-middle[2], (ax, ay), (bx, by), normal))
    for _, (ax, ay), (bx, by), normal in sorted(strips):
        tone = dim(colour, 1.0) if max(ay, by) > 0.36 else dim(DARK, 2.0)
        p, q = half(ax, ay), half(bx, by)
        face(
            [(ax, ay, -p), (bx, by, -q), (bx, by, q), (ax, ay, p)],
            Paint(tone, normal=normal, gloss=0.5),
        )
    glass = Paint((0.03, 0.035, 0.04), gloss=0.9)
    for first, gap in ((shape.rear, 0.1), (shape.screen, 0.07)):
        (ax, ay), (bx, by) = shape.profile[first], shape.profile[first + 1]
        size = hypot(bx - ax, by - ay)
        normal = turned(-(by - ay) / size, (bx - ax) / size, 0.0)
        if seen(normal, world((ax + bx) / 2, (ay + by) / 2, 0.0)):
            lo, hi = (0.12, 0.9) if bx < 0.2 else (0.1, 0.93)
            x0, y0 = ax + (bx - ax) * lo, ay + (by - ay) * lo
            x1, y1 = ax + (bx - ax) * hi, ay + (by - ay) * hi
            p, q = half(x0, y0) - gap, half(x1, y1) - gap
            face(
                [(x0, y0, -p), (x1, y1, -q), (x1, y1, q), (x0, y0, p)],
                Paint(glass.colour, normal=normal, gloss=0.9),
                0.02,
            )
    for lat in (-1.0, 1.0):
        normal = turned(0.0, 0.0, lat)
        if not seen(normal, world(0.0, 0.5, lat * shape.width / 2)):
            continue
        rise = (normal[0] * 0.9, 0.43, normal[2] * 0.9)
        outline = [(x, min(y, shape.belt), lat * half(x, min(y, shape.belt))) for x, y in chain]
        face(outline, Paint(colour, normal=normal, gloss=0.4, bevel=0.12), 0.01)
        sill = [
            (x, y, lat * half(x, y))
            for x, y in (
                (chain[0][0], 0.22),
                (chain[0][0], 0.36),
                (chain[-1][0], 0.36),
                (chain[-1][0], 0.22),
            )
        ]
        face(sill, Paint(dim(DARK, 2.0), normal=normal))
        upper = [p for p in chain if p[1] >= shape.belt - 0.01]
        upper = [(upper[0][0], shape.belt - 0.03), *upper, (upper[-1][0], shape.belt - 0.03)]
        face(
            [(x, y, lat * half(x, y)) for x, y in upper],
            Paint(colour, normal=rise, gloss=0.4),
            0.01,
        )
        upper = upper[1:-1]
        mid = sum(p[0] for p in upper) / len(upper)
        pane = [
            (mid + (x - mid) * 0.86, shape.belt + 0.04 + (y - shape.belt) * 0.8) for x, y in upper
        ]
        if pane[0][0] < shape.glass:  # a van has no windows at the back
            high = max(y for _, y in pane)
            pane = [(shape.glass, high), *[p for p in pane if p[0] > shape.glass]]
            pane.append((shape.glass, shape.belt + 0.04))
        face(
            [(x, y, lat * half(x, y)) for x, y in pane], Paint(glass.colour, normal=rise, gloss=0.8)
        )
        seam = Paint(dim(colour, 0.35), opacity=0.7)
        for x in (-0.15, 0.75, -1.0):
            if x > shape.glass:
                layer.capsule(
                    put(x, 0.36, lat * half(x, 0.36)),
                    put(x, shape.belt, lat * half(x, shape.belt)),
                    0.006,
                    seam,
                )
        if shape.glass < -0.15:
            top = roof - 0.06
            layer.capsule(
                put(-0.1, shape.belt, lat * half(0, shape.belt)),
                put(-0.16, top, lat * half(0, top)),
                0.03,
                Paint(dim(colour, 0.6)),
            )
        ring = np.linspace(0, 2 * pi, 20, endpoint=False)
        for x in axles:
            out = lat * (half(x, 0.3) + 0.005)
            for size, paint in (
                (1.18, Paint((0.008, 0.008, 0.008))),
                (1.0, tyre),
                (0.68, Paint((0.42, 0.42, 0.43), normal=normal, gloss=0.5)),
                (0.54, Paint((0.12, 0.12, 0.12), normal=normal)),
                (0.18, Paint((0.42, 0.42, 0.43))),
            ):
                r = size * shape.wheel
                floor_y = 0.24 if size > 1 else -1.0
                face(
                    [(x + r * cos(t), max(shape.wheel + r * sin(t), floor_y), out) for t in ring],
                    paint,
                )
            for k in range(5):
                t = 2 * pi * k / 5 + 0.4
                r = 0.62 * shape.wheel
                layer.capsule(
                    put(x, shape.wheel, out),
                    put(x + r * cos(t), shape.wheel + r * sin(t), out),
                    0.02,
                    Paint((0.42, 0.42, 0.43), normal=normal),
                )
        fx, ft = long * 0.93, shape.belt - 0.2
        layer.capsule(
            put(-fx, ft, lat * half(fx, ft)),
            put(-fx + 0.18, ft, lat * half(fx, ft)),
            0.05,
            Paint((0.35, 0.02, 0.02), glow=(0.3, 0.006, 0.004) if lit else (0, 0, 0)),
        )
        layer.capsule(
            put(fx, ft - 0.06, lat * half(fx, ft)),
            put(fx - 0.22, ft - 0.03, lat * half(fx, ft)),
            0.045,
            Paint((0.6, 0.6, 0.6), glow=(0.8, 0.8, 0.75) if lit else (0, 0, 0)),
        )
    ahead = turned(1.0, 0.0, 0.0)
    towards = -ahead[2]
    belt = shape.belt
    if seen(ahead, world(long, 0.6, 0.0)):
        bar(1, 0.34, 0.58, -0.62, 0.62, Paint((0.02, 0.02, 0.022), normal=ahead, gloss=0.4))
        bar(1, 0.42, 0.52, -0.28, 0.28, Paint((0.6, 0.6, 0.55), normal=ahead))
        beam = max(towards, 0.0) ** 3 * 9 + 0.4 if lit else 0.0
        for lat in (-1.0, 1.0):
            bar(
                1,
                belt - 0.32,
                belt - 0.16,
                lat * 0.6,
                lat * 0.97,
                Paint((0.6, 0.62, 0.65), normal=ahead, glow=(beam, beam * 0.97, beam * 0.92)),
            )
    behind = (-ahead[0], 0.0, -ahead[2])
    if seen(behind, world(-long, 0.6, 0.0)):
        bar(-1, 0.3, 0.45, -0.95, 0.95, Paint(dim(DARK, 2.5), normal=behind))
        bar(-1, 0.55, 0.66, -0.28, 0.28, Paint((0.6, 0.6, 0.5), normal=behind))
        red = (0.4 + 0.9 * float(rng.random()), 0.012, 0.008) if lit else (0.0, 0.0, 0.0)
        for lat in (-1.0, 1.0):
            bar(
                -1,
                belt - 0.3,
                belt - 0.08,
                lat * 0.68,
                lat * 0.98,
                Paint((0.36, 0.02, 0.02), normal=behind, glow=red),
            )
