"""Light on the shading buffer: shadows, lamps and headlights, glow around bright sources."""

from __future__ import annotations

from math import hypot

import numpy as np

from . import drawing as dr
from .drawing import Array
from .layout import Light, Scene, Thing


def shadows(scene: Scene, things: list[Thing], depth: Array, flat: Array) -> tuple[Array, Array]:
    """Factors on the ground light: contact shadows, and shadows cast from the nearest lamp."""
    contact, cast = np.ones_like(depth), np.ones_like(depth)
    columns = (np.arange(scene.width, dtype=np.float32) + 0.5 - scene.cx) / scene.focal
    for thing in things:
        foot_x = thing.layer.foot[0]
        cam_x = (foot_x - scene.cx) * thing.depth / scene.focal
        ax, az, width = thing.shadow
        reach = hypot(ax, az) + 3.0
        near = max(thing.depth - reach, 0.8)
        y0 = int(scene.horizon + scene.focal * scene.eye / (thing.depth + reach))
        y1 = min(int(scene.horizon + scene.focal * scene.eye / near) + 1, scene.height)
        half = scene.focal * reach / near
        x0, x1 = max(int(foot_x - half), 0), min(int(foot_x + half) + 1, scene.width)
        if y1 <= y0 or x1 <= x0:
            continue
        part = np.s_[y0:y1, x0:x1]
        z = depth[part] - thing.depth
        x = columns[x0:x1][None, :] * depth[part] - cam_x

        def stroke(bx: float, bz: float, ex: float, ez: float, x: Array = x, z: Array = z) -> Array:
            dx, dz = ex - bx, ez - bz
            t = ((x - bx) * dx + (z - bz) * dz) / max(dx * dx + dz * dz, 1e-6)
            t = np.clip(t, 0, 1)
            return np.hypot(x - bx - t * dx, z - bz - t * dz)

        inset = max(1 - width / max(hypot(ax, az), 1e-3), 0.0)
        d = stroke(-ax * inset, -az * inset, ax * inset, az * inset)
        contact[part] *= 1 - 0.75 * flat[part] * np.clip(1.5 - d / width, 0, 1) ** 1.5
        if thing.tall and scene.lights:
            lamp = min(
                scene.lights, key=lambda p: (p.at[0] - cam_x) ** 2 + (p.at[2] - thing.depth) ** 2
            )
            dx, dz = cam_x - lamp.at[0], thing.depth - lamp.at[2]
            far = max(hypot(dx, dz), 0.3)
            length = min(thing.tall * far / (lamp.at[1] + scene.eye - thing.tall), 2.6) / far
            d = stroke(0.0, 0.0, dx * length, dz * length)
            cast[part] *= 1 - 0.6 * flat[part] * np.clip(1.3 - d / 0.26, 0, 1)
    return contact, cast


def light_night(scene: Scene, buffer: Array, lights: list[Light], cast: Array) -> Array:
    """Diffuse and glossy light of the lamps on the shading buffer, in lamp units."""
    h, w = cast.shape
    z = np.maximum(buffer[..., dr.DEPTH], 0.5)
    x = ((np.arange(w, dtype=np.float32) + 0.5 - scene.cx) / scene.focal)[None, :] * z
    y = ((scene.horizon - np.arange(h, dtype=np.float32) - 0.5) / scene.focal)[:, None] * z
    nx, ny, nz = (np.ascontiguousarray(buffer[..., k]) for k in (3, 4, 5))
    inverse = 1.0 / np.sqrt(x * x + y * y + z * z)
    gloss = buffer[..., dr.GLOSS]
    light = np.zeros((h, w, 3), np.float32)
    shine = np.zeros((h, w, 3), np.float32)
    for lamp in lights:
        lx, ly, lz = lamp.at[0] - x, lamp.at[1] - y, lamp.at[2] - z
        d2 = lx * lx + ly * ly + lz * lz + np.float32(0.15)
        r = 1.0 / np.sqrt(d2)
        power = 1.0 / d2
        if lamp.beam is not None:
            size = float(np.sqrt(sum(b * b for b in lamp.beam)))
            bx, by, bz = (b / size for b in lamp.beam)
            aim = -(lx * bx + ly * by + lz * bz) * r
            dip = -ly * r  # above the lamp's own height a dipped beam is weak
            power = np.clip((aim - 0.8) / 0.18, 0, 1) ** 2 / (d2 + 1.5)
            power *= 0.18 + 0.82 * np.clip((0.02 - dip) / 0.05, 0, 1)
        elif lamp.at[1] > 0.5:  # a street lamp shines downwards
            power = power * (0.15 + 0.85 * np.clip(ly * r, 0, 1))
        facing = (nx * lx + ny * ly + nz * lz) * r
        diffuse = np.clip((facing + 0.22) / 1.22, 0, None) * power
        hx, hy, hz = lx * r - x * inverse, ly * r - y * inverse, lz * r - z * inverse
        mirror = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz + 1e-6)
        mirror = np.clip(mirror, 0, 1)
        mirror *= mirror
        mirror *= mirror
        mirror *= mirror
        mirror *= mirror
        mirror *= mirror  # to the power 32
        mirror *= gloss * power * (facing > 0) * np.float32(1.0 if lamp.beam is None else 0.3)
        for k in range(3):
            light[..., k] += diffuse * np.float32(lamp.power[k])
            shine[..., k] += mirror * np.float32(lamp.power[k])
    lift = (0.5 + 0.5 * ny) * 0.0022
    for k, tint in enumerate((1.0, 0.9, 0.85)):
        light[..., k] += lift * np.float32(tint)
    return (buffer[..., dr.ALBEDO] * light + 0.6 * shine) * cast[..., None]


def halos(scene: Scene, emitted: Array, strength: float) -> Array:
    """Glow around bright sources: wide tails from a coarse picture of what shines."""
    h, w = emitted.shape[:2]
    cell = max(round(2 * scene.unit), 1)
    rows, cols = -(-h // cell), -(-w // cell)
    padded = np.zeros((rows * cell, cols * cell, 3), np.float32)
    padded[:h, :w] = np.maximum(emitted - 0.4, 0)
    coarse = padded.reshape(rows, cell, cols, cell, 3).mean((1, 3))
    ky = np.minimum(np.arange(2 * rows), 2 * rows - np.arange(2 * rows))[:, None]
    kx = np.minimum(np.arange(2 * cols), 2 * cols - np.arange(2 * cols))[None, :]
    r2 = ((ky * ky + kx * kx) * float(cell**2) / scene.unit**2).astype(np.float64)
    kernel = 0.02 / (1 + r2 / 9.0) ** 1.15 * np.exp(-r2 / 150.0**2) + 0.03 * np.exp(-r2 / 8.0)
    spectrum = np.fft.rfft2(kernel)[..., None]
    blurred = np.fft.irfft2(
        np.fft.rfft2(coarse, s=(2 * rows, 2 * cols), axes=(0, 1)) * spectrum,
        s=(2 * rows, 2 * cols),
        axes=(0, 1),
    )[:rows, :cols]
    yi, xi = (np.arange(h) + 0.5) / cell - 0.5, (np.arange(w) + 0.5) / cell - 0.5
    y0, x0 = np.clip(yi.astype(int), 0, rows - 2), np.clip(xi.astype(int), 0, cols - 2)
    fy, fx = np.clip(yi - y0, 0, 1)[:, None, None], np.clip(xi - x0, 0, 1)[None, :, None]
    upper = blurred[y0][:, x0] * (1 - fx) + blurred[y0][:, x0 + 1] * fx
    lower = blurred[y0 + 1][:, x0] * (1 - fx) + blurred[y0 + 1][:, x0 + 1] * fx
    glow: Array = (np.maximum(upper * (1 - fy) + lower * fy, 0) * strength).astype(np.float32)
    return glow
