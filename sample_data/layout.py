"""The layout of a street: camera, kerbs, lamps, and where everything stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import copysign, cos, pi, sin

import numpy as np

from .cars import CARS, draw_car
from .drawing import Colour, Layer, Paint, dim
from .people import draw_bicycle, draw_person, riding_pose, walking_pose

SODIUM: Colour = (1.0, 0.56, 0.20)
LED: Colour = (0.88, 0.95, 1.0)


@dataclass(frozen=True)
class Light:
    """A lamp in camera coordinates; a headlight also has a direction."""

    at: tuple[float, float, float]
    power: Colour
    beam: tuple[float, float, float] | None = None


@dataclass
class Thing:
    """Something standing in the street, before it is painted."""

    layer: Layer
    depth: float
    category: str | None = None
    plan: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # x, z, half sizes
    shadow: tuple[float, float, float] = (0.0, 0.0, 0.3)  # camera axis of the foot print, width
    lights: list[Light] = field(default_factory=list)
    tall: float = 0.0


class Scene:
    """The layout of one street: camera, kerbs, houses and lamps, all drawn from `rng`."""

    def __init__(self, rng: np.random.Generator, width: int, height: int) -> None:
        """Choose the camera, the street and the lamps."""
        self.rng, self.width, self.height = rng, width, height
        self.unit = float(np.sqrt(width * height / 240000.0))  # 1 at 600 x 400
        self.focal = 480.0 * self.unit * float(rng.uniform(0.9, 1.2))
        self.cx = width / 2.0
        self.horizon = height * float(rng.uniform(0.36, 0.47))
        self.eye = float(rng.uniform(1.6, 2.5))
        self.kerb = float(rng.uniform(3.6, 4.6))
        self.parked = bool(rng.random() < 0.6)
        if self.parked:
            self.kerb += 1.6
        self.front = self.kerb + float(rng.uniform(2.4, 4.0))  # house fronts at +-front
        view = float(rng.random())
        if view < 0.45:  # along the street
            self.turn = float(rng.uniform(-0.3, 0.3))
            self.x = float(rng.uniform(-0.75, 0.75)) * self.kerb
        elif view < 0.75:  # slanted
            self.turn = float(rng.uniform(0.35, 1.0)) * (1 if rng.random() < 0.5 else -1)
            self.x = copysign(float(rng.uniform(0.5, 0.95)) * self.front, -self.turn)
        else:  # across
            self.turn = float(rng.uniform(1.25, 1.57)) * (1 if rng.random() < 0.5 else -1)
            self.x = copysign(self.front - float(rng.uniform(0.0, 1.0)), -self.turn)
        self.end = float(rng.uniform(45, 80))
        self.gap = float(rng.uniform(14, 34))  # a side street from here
        self.gap_end = self.gap + float(rng.uniform(7, 10))
        self.things: list[Thing] = []
        self.lights: list[Light] = []

    def to_camera(self, x: float, z: float) -> tuple[float, float]:
        """Street coordinates (z along the street) to camera right and depth."""
        dx, c, s = x - self.x, cos(self.turn), sin(self.turn)
        return dx * c - z * s, dx * s + z * c

    def project(self, x: float, up: float, depth: float) -> tuple[float, float]:
        """Camera coordinates to pixels."""
        return (
            self.cx + self.focal * x / depth,
            self.horizon + self.focal * (self.eye - up) / depth,
        )

    def layer(self, x: float, depth: float, extent: tuple[float, float, float, float]) -> Layer:
        """An empty layer for something standing at camera (x, depth)."""
        return Layer(self.project(x, 0.0, depth), self.focal / depth, depth, extent)


def _place(
    scene: Scene, pick: Callable[[], float], plan: tuple[float, float], near: float, far: float
) -> tuple[float, float, float, float] | None:
    """A free spot (street x, z, camera x, depth) in view, on the strip that `pick` draws from."""
    rng = scene.rng
    for _ in range(500):
        x, z = pick(), float(rng.uniform(-45, 60))
        cam_x, depth = scene.to_camera(x, z)
        if not near < depth < far or rng.random() > near / depth:
            continue
        column = scene.project(cam_x, 0.0, depth)[0] / scene.width
        if not 0.03 < column < 0.97 or abs(x) > scene.front - 0.4:
            continue
        if all(
            abs(x - t.plan[0]) > plan[0] + t.plan[2] or abs(z - t.plan[1]) > plan[1] + t.plan[3]
            for t in scene.things
        ):
            return x, z, cam_x, depth
    return None


def _pavement(scene: Scene) -> float:
    side = 1.0 if scene.rng.random() < 0.5 else -1.0
    return side * float(scene.rng.uniform(scene.kerb + 0.4, scene.front - 0.5))


def add_person(scene: Scene) -> None:
    """Someone on the pavement or crossing the road, at times with a companion."""
    rng, unit = scene.rng, scene.unit
    h = float(rng.normal(1.72, 0.09)) if rng.random() < 0.9 else float(rng.uniform(1.15, 1.4))
    crossing = rng.random() < 0.4
    near, far = scene.focal * h / (195 * unit), scene.focal * h / (40 * unit)
    strip = scene.kerb * 0.9

    def pick() -> float:
        return float(rng.uniform(-strip, strip)) if crossing else _pavement(scene)

    spot = _place(scene, pick, (0.35, 0.35), near, far)
    if spot is None:
        return
    x, z, cam_x, depth = spot
    heading = float(rng.normal(0, 0.4)) + (pi / 2 if crossing else 0.0)
    heading += pi if rng.random() < 0.5 else 0.0
    for k in range(2 if rng.random() < 0.2 else 1):
        if k:  # walking side by side
            h = float(rng.normal(1.68, 0.1))
            x, z = x + 0.75 * cos(heading), z - 0.75 * sin(heading)
            cam_x, depth = scene.to_camera(x, z)
            if not near < depth < far or abs(x) > scene.front - 0.3:
                return
        layer = scene.layer(cam_x, depth, (-0.95, 0.95, -0.1, 1.3 * h))
        draw_person(layer, rng, h, heading - scene.turn, walking_pose(rng, h), walker=True)
        scene.things.append(Thing(layer, depth, "person", (x, z, 0.3, 0.3), (0, 0, 0.28), [], h))


def add_bicycle(scene: Scene) -> None:
    """A parked bicycle at the kerb, or a ridden one (a bicycle and a person) on the road."""
    rng, unit = scene.rng, scene.unit
    ridden = rng.random() < 0.5
    near, far = scene.focal * 1.75 / (175 * unit), scene.focal * 1.75 / (55 * unit)
    side = 1.0 if rng.random() < 0.5 else -1.0
    heading = 0.0 if side > 0 else pi
    if ridden:
        place = float(rng.uniform(0.25, 0.8)) * (scene.kerb - (2.0 if scene.parked else 0.4))
        heading += float(rng.normal(0, 0.2))
        if rng.random() < 0.35:
            heading += pi / 2 if rng.random() < 0.5 else -pi / 2
    else:
        place = float(rng.uniform(scene.kerb + 0.4, scene.front - 0.4))
        if abs(sin(heading - scene.turn)) < 0.7:
            heading += float(rng.uniform(0.8, 1.4)) * (1 if rng.random() < 0.5 else -1)
    spot = _place(scene, lambda: side * place, (0.7, 0.9), near, far)
    if spot is None:
        return
    x, z, cam_x, depth = spot
    yaw = heading - scene.turn
    if abs(sin(yaw)) < 0.45:  # too edge-on to show a bicycle's shape
        yaw += 0.5 if sin(yaw) * cos(yaw) > 0 else -0.5
    layer = scene.layer(cam_x, depth, (-1.1, 1.1, -0.1, 1.4))
    draw_bicycle(layer, rng, yaw, ridden)
    axis, foot = (sin(yaw), cos(yaw)), (0.65 * sin(yaw), 0.65 * cos(yaw), 0.13)
    lights = []
    if ridden:
        at = (cam_x + 0.6 * axis[0], 0.85 - scene.eye, depth + 0.6 * axis[1])
        lights = [Light(at, (1.5, 1.5, 1.5), (axis[0], -0.12, axis[1]))]
    scene.things.append(Thing(layer, depth, "bicycle", (x, z, 0.7, 0.7), foot, lights, 1.0))
    if ridden:
        h = float(rng.normal(1.72, 0.07))
        rider = scene.layer(cam_x, depth - 0.02, (-0.95, 0.95, -0.1, 1.25 * h))
        draw_person(rider, rng, h, yaw, riding_pose(rng, h), walker=False)
        scene.things.append(Thing(rider, depth - 0.02, "person", (x, z, 0.7, 0.7), tall=1.7))


def add_car(scene: Scene) -> None:
    """A car in its lane, parked at the kerb, or crossing in the side street."""
    rng, unit = scene.rng, scene.unit
    shape = CARS[list(CARS)[int(rng.integers(len(CARS)))]]
    long = max(abs(p[0]) for p in shape.profile)
    side = 1.0 if rng.random() < 0.5 else -1.0
    heading = 0.0 if side > 0 else pi
    parked = scene.parked and rng.random() < 0.5
    crossing = not parked and abs(scene.turn) < 0.6 and rng.random() < 0.35
    lane = side * (scene.kerb - 1.0 if parked else 1.75)
    span = abs(sin(heading - scene.turn)) * 2 * long + abs(cos(heading - scene.turn)) * 1.8
    if crossing:
        heading = side * pi / 2
        span = 4.4
    near = max(scene.focal * span / (290 * unit) + 0.6 * long * abs(cos(heading - scene.turn)), 4.5)
    far = scene.focal * span / (65 * unit)
    plan = (long + 0.4, 1.1) if crossing else (1.1, long + 0.4)

    def pick() -> float:
        return float(rng.uniform(-scene.kerb, scene.kerb)) if crossing else lane

    spot = _place(scene, pick, plan, near, max(far, near + 2))
    if spot is None:
        return
    x, z, cam_x, depth = spot
    if crossing:
        z = scene.gap + (0.7 if side > 0 else 0.3) * (scene.gap_end - scene.gap)
        cam_x, depth = scene.to_camera(x, z)
    yaw = heading + float(rng.normal(0, 0.03)) - scene.turn
    reach = 2.9 * depth / max(depth - 2.4, 1.0)
    layer = scene.layer(cam_x, depth, (-reach, reach, -1.2, 2.6))
    lit = not parked or rng.random() < 0.15
    draw_car(layer, rng, shape, yaw, (cam_x, scene.eye, depth), lit)
    axis = (sin(yaw), cos(yaw))
    lights = []
    if lit:
        tone = (1.0, 0.97, 0.9) if rng.random() < 0.6 else (1.0, 0.85, 0.62)
        for lat in (-0.62, 0.62):
            at = (
                cam_x + axis[0] * long + axis[1] * lat,
                shape.belt - 0.24 - scene.eye,
                depth + axis[1] * long - axis[0] * lat,
            )
            lights.append(Light(at, dim(tone, 7.0), (axis[0], -0.09, axis[1])))
        at = (cam_x - axis[0] * (long + 0.15), 0.7 - scene.eye, depth - axis[1] * (long + 0.15))
        lights.append(Light(at, (0.10, 0.004, 0.003)))
    scene.things.append(
        Thing(layer, depth, "car", (x, z, *plan), (axis[0] * long, axis[1] * long, 0.95), lights)
    )


def add_furniture(scene: Scene) -> None:
    """Street lamps on both kerbs, and trees, signs, bollards and bins between them."""
    rng = scene.rng
    tone = SODIUM if rng.random() < 0.55 else LED
    mast, step = float(rng.uniform(5.0, 7.0)), float(rng.uniform(13, 19))
    start = float(rng.uniform(0, step))
    iron = Paint((0.07, 0.075, 0.08), bevel=0.06)
    for k in range(-3, 5):
        for side in (-1.0, 1.0):
            z = start + (k + (0.5 if side > 0 else 0.0)) * step
            x = side * (scene.kerb + 0.45)
            cam_x, depth = scene.to_camera(x, z)
            head_x, head_z = scene.to_camera(x - side * 1.4, z)
            if rng.random() < 0.1 or abs(cam_x) + abs(depth) > 75:
                continue
            gain = float(rng.uniform(0.8, 1.2))
            spot = (head_x, mast - scene.eye, head_z)
            scene.lights.append(Light(spot, dim(tone, gain)))
            if depth < 5.0 or abs(cam_x) > depth * 1.5:
                continue
            layer = scene.layer(cam_x, depth, (-1.8, 1.8, -0.1, mast + 0.5))
            layer.capsule((0, 0), (0, mast), 0.09, iron, 0.06)
            tip = ((head_x - cam_x) * depth / max(head_z, 1.0), mast + 0.08)
            layer.capsule((0, mast), tip, 0.05, iron)
            glow = dim(tone, 9.0 * gain)
            layer.ellipse((tip[0], mast), (0.28, 0.11), Paint((0.7, 0.7, 0.7), glow=glow))
            scene.things.append(Thing(layer, depth, None, (x, z, 0.2, 0.2), (0, 0, 0.15)))
    for _ in range(int(rng.integers(2, 7))):
        side = 1.0 if rng.random() < 0.5 else -1.0
        x = side * (scene.kerb + 0.5)
        free = _place(scene, partial(float, x), (0.4, 0.4), 6.0, 40.0)
        if free is None:
            continue
        _, z, cam_x, depth = free
        kind = float(rng.random())
        layer = scene.layer(cam_x, depth, (-2.2, 2.2, -0.1, 5.8))
        if kind < 0.35:  # a tree
            layer.capsule((0, 0), (0.05, 2.6), 0.13, Paint((0.09, 0.06, 0.04), bevel=0.1), 0.08)
            crown = float(rng.uniform(0.9, 1.4))
            for k in range(90):
                r, t = crown * float(np.sqrt(rng.random())), float(rng.uniform(0, 2 * pi))
                size = float(rng.uniform(0.12, 0.3)) if k > 25 else 0.4
                y = 3.6 + 1.1 * r * sin(t)
                green = float(rng.uniform(0.7, 1.2)) * (0.75 + 0.3 * (y - 2.6) / crown / 2)
                leaf = Paint((0.055 * green, 0.10 * green, 0.03 * green), bevel=0.5 * size)
                layer.ellipse((r * cos(t), y), (size, size * 0.7), leaf)
        elif kind < 0.6:  # a traffic sign
            layer.capsule((0, 0), (0, 2.6), 0.035, Paint((0.35, 0.35, 0.36), bevel=0.03))
            layer.ellipse((0, 2.5), (0.32, 0.32), Paint((0.5, 0.04, 0.04)))
            layer.ellipse((0, 2.5), (0.22, 0.22), Paint((0.6, 0.6, 0.6)))
        elif kind < 0.85:  # bollards
            for k in range(3):
                layer.capsule((k * 0.9 - 0.9, 0), (k * 0.9 - 0.9, 0.85), 0.06, iron)
        else:  # a litter bin
            corners = [(-0.22, 0.1), (0.22, 0.1), (0.26, 0.95), (-0.26, 0.95)]
            layer.polygon(corners, Paint((0.07, 0.13, 0.08), bevel=0.2), 0.03)
        scene.things.append(Thing(layer, depth, None, (x, z, 0.3, 0.3), (0, 0, 0.2)))


def populate(scene: Scene, target: int) -> None:
    """Add objects until about `target` stand in the street."""
    for _ in range(3 * target):
        if sum(t.category is not None for t in scene.things) >= target:
            return
        draw = float(scene.rng.random())
        if draw < 0.30:
            add_person(scene)
        elif draw < 0.60:
            add_bicycle(scene)
        else:
            add_car(scene)
