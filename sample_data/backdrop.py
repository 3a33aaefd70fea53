"""What stands still: sky, rows of houses, and the ground with its markings."""

from __future__ import annotations

from math import cos, sin

import numpy as np

from . import drawing as dr
from .drawing import Array
from .layout import Light, Scene


def _noise(rng: np.random.Generator, height: int, width: int, cell: float) -> Array:
    """Smooth noise of unit spread with features about `cell` pixels wide."""
    rows, cols = int(height / cell) + 3, int(width / cell) + 3
    grid = rng.standard_normal((rows, cols)).astype(np.float32)
    y, x = np.arange(height) / cell, np.arange(width) / cell
    yi, xi = y.astype(int), x.astype(int)
    fy, fx = (y - yi).astype(np.float32)[:, None], (x - xi).astype(np.float32)[None, :]
    fy, fx = fy * fy * (3 - 2 * fy), fx * fx * (3 - 2 * fx)
    upper = grid[yi][:, xi] * (1 - fx) + grid[yi][:, xi + 1] * fx
    lower = grid[yi + 1][:, xi] * (1 - fx) + grid[yi + 1][:, xi + 1] * fx
    noise: Array = (upper * (1 - fy) + lower * fy).astype(np.float32)
    return noise


def _step(value: Array, size: Array) -> Array:
    """A soft step at 0 for values measured in metres where a pixel is `size` metres."""
    cover: Array = np.clip(value / size + 0.5, 0.0, 1.0)
    return cover


def _band(value: Array, low: float, high: float, size: Array) -> Array:
    """1 between `low` and `high`, 0 outside, with soft ends."""
    return np.minimum(_step(value - low, size), _step(high - value, size))


def _spread(value: Array) -> Array:
    """How much a coordinate changes from one pixel to the next."""
    gy, gx = np.gradient(value)
    size: Array = np.clip(np.abs(gx) + np.abs(gy), 1e-4, 50.0).astype(np.float32)
    return size


def backdrop(scene: Scene) -> tuple[Array, Array, Array]:
    """Sky, houses and ground as a full shading buffer, with the sky by day and by night."""
    rng, h, w = scene.rng, scene.height, scene.width
    rx = ((np.arange(w, dtype=np.float32) + 0.5 - scene.cx) / scene.focal)[None, :]
    ry = ((scene.horizon - np.arange(h, dtype=np.float32) - 0.5) / scene.focal)[:, None]
    c, s = cos(scene.turn), sin(scene.turn)
    dx, dz = rx * c + s + 0 * ry, c - rx * s + 0 * ry  # the ray in street coordinates
    wall = np.where(dx > 0, scene.front - scene.x, -scene.front - scene.x)
    t_side = np.clip(np.abs(wall) / np.maximum(np.abs(dx), 1e-4), 0.1, 400.0)
    z_side = t_side * dz
    t_cross = scene.gap_end / np.maximum(dz, 1e-3)
    in_gap = (z_side > scene.gap) & (z_side < scene.gap_end)
    t_back = np.where(dz > 0, scene.end, 25.0) / np.maximum(np.abs(dz), 1e-3)
    t_side = np.where(in_gap, t_cross, t_side)
    faces_back = in_gap | (t_back < t_side)
    t_wall = np.clip(np.minimum(t_side, t_back), 0.1, 200.0)
    t_ground = np.where(ry < -1e-4, scene.eye / np.maximum(-ry, 1e-4), 1e4)
    ground = t_ground < t_wall
    along = np.where(faces_back, scene.x + t_wall * dx + 300, t_wall * dz + 100)
    along = np.where(faces_back | (dx > 0), along, along + 600).astype(np.float32)
    up = (scene.eye + ry * t_wall).astype(np.float32)
    buffer: Array = np.zeros((h, w, dr.CHANNELS), np.float32)
    depth = np.where(ground, t_ground, t_wall).astype(np.float32)
    # Houses: plots of different width, height, colour and windows.
    edges = np.cumsum(rng.uniform(7, 14, 140)).astype(np.float32)
    plot = np.searchsorted(edges, along).clip(0, 139)
    count = 140
    low_town = rng.random() < 0.4
    storey = rng.uniform(2.9, 3.5, count).astype(np.float32)
    floors = rng.integers(2, 4 if low_town else 7, count)
    roof = (4.0 + floors * storey).astype(np.float32)[plot]
    tints = np.array(
        [
            [0.42, 0.34, 0.26],
            [0.30, 0.16, 0.11],
            [0.48, 0.45, 0.40],
            [0.22, 0.22, 0.23],
            [0.38, 0.28, 0.16],
            [0.30, 0.33, 0.34],
            [0.46, 0.40, 0.28],
        ],
        np.float32,
    )
    tint = tints[rng.integers(len(tints), size=count)] * rng.uniform(0.7, 1.15, (count, 1))
    size_u = np.clip(
        t_wall / scene.focal / np.maximum(np.abs(np.where(faces_back, dz, dx)), 0.05), 1e-3, 5.0
    ).astype(np.float32)
    size_v = (t_wall / scene.focal).astype(np.float32)
    pitch = rng.uniform(1.7, 3.0, count).astype(np.float32)[plot]
    share = rng.uniform(0.4, 0.65, count).astype(np.float32)[plot]
    offset = along - edges[np.maximum(plot - 1, 0)]
    column = np.floor(offset / pitch).astype(int)
    u = (offset / pitch - column - 0.5) * pitch
    level = np.floor((up - 4.0) / storey[plot]).astype(int)
    v = (up - 4.0) - level * storey[plot]
    upper = _step(share * pitch / 2 - np.abs(u), size_u) * _band(v, 0.8, 2.3, size_v) * (level >= 0)
    frame = _step(share * pitch / 2 + 0.12 - np.abs(u), size_u)
    frame *= _band(v, 0.62, 2.42, size_v) * (level >= 0)
    mullion = 1.0 - 0.8 * _step(0.04 - np.abs(u), size_u)
    shop_flag, open_flag = rng.random(count) < 0.55, rng.random(count) < 0.5
    shop_plot, open_shop = shop_flag[plot], open_flag[plot]
    shop = _step(0.46 * pitch - np.abs(u), size_u) * _band(up, 0.5, 2.9, size_v) * shop_plot
    door = _step(0.5 - np.abs(u), size_u) * _band(up, 0.0, 2.2, size_v)
    door *= ~shop_plot & (column % 3 == 1)
    sign = _band(up, 3.05, 3.65, size_v) * shop_plot
    lit = rng.random((count, 9, 9)).astype(np.float32)[plot, level.clip(-1, 7), column.clip(0, 8)]
    warm = rng.random((count, 9)).astype(np.float32)[plot, (level * 2 + column * 3) % 9]
    colour = tint.astype(np.float32)[plot]
    colour = colour * (1.0 + 0.03 * np.sin(up * 40.0) * (size_v < 0.03))[..., None]
    colour = colour * (1.0 - 0.25 * _band(up, 3.7, 3.95, size_v))[..., None]
    trim = np.float32(rng.uniform(0.5, 1.6))
    colour += (frame * (1 - upper))[..., None] * (np.minimum(colour * trim, 0.6) - colour)
    brand = rng.uniform(0.03, 0.5, (count, 3)).astype(np.float32)[plot]
    colour += sign[..., None] * (brand - colour)
    colour += door[..., None] * (brand * 0.4 - colour)
    panes = np.maximum(upper * mullion, shop)
    colour += panes[..., None] * (np.float32(0.05) + 0.03 * v[..., None] / 3 - colour)
    lamp = np.stack([np.ones_like(warm), 0.62 + 0.33 * warm, 0.28 + 0.6 * warm], -1)
    homes = (
        np.where(lit < 0.26, 0.008 * np.exp(10.0 * lit), 0.0)
        * upper
        * mullion
        * (0.55 + 0.3 * v / 1.5)
    )
    goods = rng.random((4, 31)).astype(np.float32)  # what stands in the shop windows
    goods = goods[np.floor(up * 1.8).astype(int) % 4, np.floor(along * 2.7).astype(int) % 31]
    shelves = np.where(up < 0.9 + goods, 0.2 + 0.5 * goods, 0.85 + 0.05 * up)
    shops = shop * open_shop * 0.02 * np.exp(1.8 * lit) * shelves
    neon = sign * open_shop * (warm > 0.4)
    glow = lamp * (homes + shops)[..., None] + brand * (neon * 0.5)[..., None]
    for k in np.flatnonzero(shop_flag & open_flag)[1:]:
        where = float(edges[k - 1] + edges[k]) / 2
        z, side = (where - 100, 1.0) if where < 230 else (where - 700, -1.0)
        cam_x, cam_z = scene.to_camera(side * (scene.front - 0.5), z)
        if 0 < cam_z < 32 and abs(cam_x) < cam_z + 4 and len(scene.lights) < 5:
            scene.lights.append(Light((cam_x, 1.9 - scene.eye, cam_z), (0.16, 0.14, 0.11)))
    side_normal = np.stack([-np.sign(dx) * c, 0 * dx, -np.sign(dx) * s], -1)
    back_normal = np.array([np.sin(scene.turn), 0.0, -np.cos(scene.turn)])
    buffer[..., dr.ALBEDO], buffer[..., dr.GLOW] = colour, glow
    buffer[..., dr.NORMAL] = np.where(faces_back[..., None], back_normal, side_normal)
    buffer[..., dr.GLOSS] = 0.3 * panes
    # Ground: carriageway, kerbs, pavements, markings.
    gt = np.where(ground, t_ground, 50.0)
    gx, gz = (scene.x + gt * dx).astype(np.float32), (gt * dz).astype(np.float32)
    fx, fz = _spread(gx), _spread(gz)
    out = np.abs(gx)
    cross = _band(gz, scene.gap + 1.0, scene.gap_end - 1.0, fz)
    road = np.maximum(_step(scene.kerb - out, fx), cross)
    tarmac, stone = float(rng.uniform(0.06, 0.1)), float(rng.uniform(0.16, 0.26))
    slabs = np.minimum(np.abs((gx + 50) % 0.8 - 0.4), np.abs((gz + 100) % 0.8 - 0.4))
    joints = _step(0.03 - slabs, np.maximum(fx, fz)) * np.clip(0.05 / np.maximum(fx, fz), 0, 1)
    level_g = stone * (1 - 0.35 * joints) * (1 - road) + tarmac * road
    kerb = _band(out, scene.kerb, scene.kerb + 0.18, fx) * (1 - cross)
    level_g = level_g + kerb * (0.36 - level_g)
    dash = _band((gz + 200) % 6.0, 0.0, 2.6, fz) * (1 - cross)
    paint = _step(0.07 - out, fx) * dash
    edge = scene.kerb - (2.1 if scene.parked else 0.3)
    paint = np.maximum(paint, 0.8 * _step(0.05 - np.abs(out - edge), fx) * (1 - cross))
    zebra_at = scene.gap - 4.0 if rng.random() < 0.7 else float(rng.uniform(3, 8))
    zebra = _band(gz, zebra_at, zebra_at + 3.0, fz) * _step(scene.kerb - 0.2 - out, fx)
    paint = np.maximum(paint * (1 - zebra), zebra * _band((gx + 50) % 1.0, 0.0, 0.5, fx))
    worn = np.clip(0.8 + 0.08 * _noise(rng, h, w, 5 * scene.unit), 0.3, 1.0)
    level_g = level_g + paint * worn * (0.55 - level_g)
    patch = 1 + 0.05 * _noise(rng, h, w, 60 * scene.unit) + 0.04 * _noise(rng, h, w, 7)
    wet = float(rng.uniform(0.25, 0.9)) if rng.random() < 0.45 else 0.05
    puddles = np.clip(0.6 + 0.22 * _noise(rng, h, w, 30 * scene.unit), 0.1, 1.2)
    warmth = np.array([1.03, 1.0, 0.95], np.float32)
    buffer[ground] = 0.0
    flat = (level_g * patch)[..., None] * warmth
    buffer[ground, 0:3] = flat[ground]
    buffer[ground, 4] = 1.0
    buffer[ground, dr.GLOSS] = (wet * puddles)[ground]
    grain = 1 + 0.05 * rng.standard_normal((h, w)).astype(np.float32)
    buffer[..., dr.ALBEDO] *= (grain + 0.04 * _noise(rng, h, w, 4))[..., None]
    # Sky.
    sky = np.where(ground, 0.0, _step(up - roof, size_v)).astype(np.float32)
    sky = np.where(t_wall >= 199.0, np.where(ground, 0.0, 1.0), sky).astype(np.float32)
    buffer *= (1 - sky)[..., None]
    buffer[..., dr.DEPTH] = depth
    height = np.clip((scene.horizon - np.arange(h)) / scene.horizon, 0, 1)[:, None, None]
    cloud = (0.5 + 0.25 * _noise(rng, h, w, 90 * scene.unit))[..., None].clip(0, 1)
    day = (1 - height) * np.array([0.78, 0.82, 0.88]) + height * np.array([0.42, 0.58, 0.85])
    day = day + 0.25 * cloud * (0.85 - day)
    glow_sky = np.array([[0.0055, 0.0038, 0.0024], [0.0018, 0.0022, 0.0042]])
    night = (1 - height) * glow_sky[0] + height * glow_sky[1]
    night = night * float(rng.uniform(0.3, 1.4)) * (0.7 + 0.6 * cloud)
    sky3 = sky[..., None]
    return buffer, (day * sky3).astype(np.float32), (night * sky3).astype(np.float32)
