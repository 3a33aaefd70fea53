"""Night street scenes with people, bicycles and cars, and the same scenes in daylight.

A scene is laid out in metres (a street between two rows of houses, seen from any side), its
surfaces go into one shading buffer (reflectance, normal, depth, own light), and that buffer is
lit twice: softly for the day, and by street lamps, headlights and windows for the night.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import drawing as dr
from .backdrop import backdrop
from .drawing import Array, Layer
from .layout import Scene, Thing, add_furniture, populate
from .lighting import halos, light_night, shadows

MIN_VISIBLE, MIN_BOX, MAX_OBJECTS = 0.35, 10.0, 9


@dataclass(frozen=True)
class Box:
    """An annotated object; pixels of the rendered image, top-left origin, continuous edges."""

    category: str  # "person", "bicycle" or "car"
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Street:
    """A rendered scene: linear light by day and by night (1.0 clips), and its objects."""

    day: Array
    night: Array
    boxes: tuple[Box, ...]


def _window(layer: Layer, width: int, height: int) -> tuple[slice, slice, slice, slice]:
    """Slices of the layer and of the picture where they overlap (rows, columns of each)."""
    rows, cols = layer.mask.shape
    y0, y1 = max(layer.top, 0), max(min(layer.top + rows, height), 0)
    x0, x1 = max(layer.left, 0), max(min(layer.left + cols, width), 0)
    inner = slice(y0 - layer.top, max(y1, y0) - layer.top)
    across = slice(x0 - layer.left, max(x1, x0) - layer.left)
    return inner, across, slice(y0, max(y1, y0)), slice(x0, max(x1, x0))


def _kept(scene: Scene) -> tuple[list[Thing], list[Box]]:
    """Things worth painting, far to near, and the boxes of the objects among them."""
    taken = np.zeros((scene.height, scene.width), bool)
    kept: list[Thing] = []
    boxes: list[Box] = []
    for thing in sorted(scene.things, key=lambda t: t.depth):
        rows, cols, into_y, into_x = _window(thing.layer, scene.width, scene.height)
        solid = thing.layer.mask > 0.5
        inside = solid[rows, cols]
        if thing.category is not None:
            visible = int(np.count_nonzero(inside & ~taken[into_y, into_x]))
            if visible < max(MIN_VISIBLE * np.count_nonzero(solid), 1):
                continue
            ys, xs = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            w, h = int(xs[-1] - xs[0]) + 1, int(ys[-1] - ys[0]) + 1
            if max(w, h) < MIN_BOX or len(boxes) >= MAX_OBJECTS:
                continue
            x, y = into_x.start + int(xs[0]), into_y.start + int(ys[0])
            boxes.append(Box(thing.category, float(x), float(y), float(w), float(h)))
        taken[into_y, into_x] |= inside
        kept.append(thing)
    return kept[::-1], boxes[::-1]


def render_street(seed: int, width: int = 600, height: int = 400) -> Street:
    """Render the street scene `seed` by day and by night with its annotated objects."""
    rng = np.random.Generator(np.random.PCG64(seed))
    scene = Scene(rng, width, height)
    buffer, sky_day, sky_night = backdrop(scene)
    add_furniture(scene)
    target = int(rng.integers(4, 9))
    populate(scene, target)
    kept, boxes = _kept(scene)
    for _ in range(6):
        if len(boxes) >= min(3, target):
            break
        scene.things = [t for t in scene.things if any(t is k for k in kept)]
        populate(scene, target)
        kept, boxes = _kept(scene)
    flat = np.ascontiguousarray(buffer[..., 4])
    contact, cast = shadows(scene, kept, buffer[..., dr.DEPTH], flat)
    buffer[..., dr.ALBEDO] *= contact[..., None]
    buffer[..., dr.GLOSS] *= contact
    lights = list(scene.lights)
    for thing in kept:
        rows, cols, into_y, into_x = _window(thing.layer, width, height)
        layer = thing.layer.data[rows, cols]
        part = buffer[into_y, into_x]
        part *= 1 - layer[..., dr.COVER :]
        part += layer
        for sky in (sky_day, sky_night):
            sky[into_y, into_x] *= 1 - layer[..., dr.COVER :]
        shade = cast[into_y, into_x]
        shade += layer[..., dr.COVER] * (1 - shade)
        lights += thing.lights
    normal = buffer[..., dr.NORMAL]
    normal /= np.sqrt((normal**2).sum(-1, keepdims=True)) + np.float32(1e-3)
    sun = np.array([float(rng.uniform(-0.6, 0.6)), 0.7, -0.5])
    sun = (sun / np.sqrt((sun**2).sum())).astype(np.float32)
    soft = 0.55 + 0.25 * normal[..., 1] + 0.75 * np.clip(normal @ sun, 0, None)
    day = buffer[..., dr.ALBEDO] * soft[..., None] * np.array([1.0, 0.98, 0.94], np.float32)
    day += 0.06 * (buffer[..., dr.GLOSS])[..., None] * (0.5 + 0.5 * normal[..., 1:2]) + sky_day
    lit = light_night(scene, buffer, lights, cast)
    solid = sky_night.sum(-1) == 0
    level = float(np.median(lit[solid].mean(-1)))
    exposure = float(np.exp(rng.uniform(np.log(0.0035), np.log(0.0075)))) / max(level, 1e-6)
    night = lit * np.float32(exposure) + buffer[..., dr.GLOW] + sky_night
    night += halos(scene, night, float(rng.uniform(0.2, 0.5)))
    yy = ((np.arange(height) + 0.5) / height * 2 - 1)[:, None]
    xx = ((np.arange(width) + 0.5) / width * 2 - 1)[None, :]
    night *= (1 - 0.14 * (xx * xx + yy * yy))[..., None].astype(np.float32)
    return Street(day.astype(np.float32), night.astype(np.float32), tuple(boxes))
