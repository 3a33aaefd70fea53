"""A photograph by day becomes the mosaic that a camera would have recorded of it at night."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from rawisp.data.synth import scene
from rawisp.data.synth.bodies import noise_of
from rawisp.data.synth.darkness import Night, add_lamps, draw_night
from rawisp.data.synth.sensor import mosaicked, read_out
from rawisp.data.synth.settings import NightSettings
from rawisp.errors import InvalidArrayError
from rawisp.raw.container import CameraBody


def night_mosaic(
    rgb: npt.NDArray[np.uint8],
    body: CameraBody,
    settings: NightSettings,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint16], Night]:
    """(mosaic uint16 (H, W), what was drawn) of an sRGB photograph uint8 (h, w, 3).

    H and W are `mosaic_size`'s. The same photograph, settings and state of `rng` give the same
    samples; draw again for another night of the same photograph.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise InvalidArrayError(f"rgb must be uint8 (h, w, 3), not {rgb.dtype} {rgb.shape}")
    height, width = rgb.shape[:2]
    night = draw_night(settings, (width, height), rng)
    return render_night(rgb, body, settings, night, rng), night


def render_night(
    rgb: npt.NDArray[np.uint8],
    body: CameraBody,
    settings: NightSettings,
    night: Night,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint16]:
    """`night_mosaic` of a given night; `rng` for the noise alone."""
    light = scene.scene_light(rgb, settings.shoulder, settings.white_headroom)
    exposure = settings.normal_level * 2.0**-night.stops / scene.mid_tone(light)
    matrix = exposure * scene.camera_from_scene(body.xyz_to_camera, night.kelvin)
    light = scene.camera_light(light, matrix)
    add_lamps(light, night, body.xyz_to_camera)
    width, height = mosaic_size((rgb.shape[1], rgb.shape[0]), settings.scale)
    mosaic = mosaicked(light, height, width, settings.pattern)
    noise = noise_of(body) if settings.noise else None
    return read_out(mosaic, body, noise, night.iso, rng)


def mosaic_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(width, height) of the mosaic of a photograph of `size`: scaled, nearest even numbers."""
    width, height = (max(2, 2 * round(side * scale / 2)) for side in size)
    return width, height


def night_generator(seed: int, name: str, number: int = 0) -> np.random.Generator:
    """The random stream of night `number` of the photograph `name`.

    name: path below the annotated folder, with "/", so that order, workers and the place of the
    folder do not matter. Training counts `number` on for a fresh night each epoch.
    """
    words = np.frombuffer(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest(), "<u4")
    return np.random.Generator(np.random.PCG64([seed, number, *words.tolist()]))
