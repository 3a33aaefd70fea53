"""Another night of a photograph that `rawisp synth` has darkened, without writing a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rawisp.color import InputColor
from rawisp.data.augment import WHOLE, Window, enlarged
from rawisp.data.synth.bodies import body_named
from rawisp.data.synth.photograph import read_photograph
from rawisp.data.synth.render import night_mosaic
from rawisp.data.synth.settings import NightSettings
from rawisp.highlights import neutral_highlights, scene_white
from rawisp.packing import pack_bayer
from rawisp.resize import shrink


@dataclass(frozen=True)
class FreshNight:
    """Calls make nights of one photograph: mosaic, packing and scaling as for a RAW file.

    photograph: its path. camera, settings: as `synth` recorded them. color: what the ISP is fed.
    size: (width, height) of the packed image.
    """

    photograph: str
    camera: str
    settings: NightSettings
    color: InputColor
    size: tuple[int, int]

    def __call__(self, rng: np.random.Generator, window: Window = WHOLE) -> npt.NDArray[np.float32]:
        """Linear float32 (3, height, width), as `RawFrame.pack` and scaling give it."""
        rgb = _seen(self.photograph, self.settings.scale, window)
        body = body_named(self.camera)
        mosaic, _ = night_mosaic(rgb, body, self.settings, rng)
        xyz_to_camera = np.array(body.xyz_to_camera)
        matrix = None if self.color == "camera" else np.linalg.inv(xyz_to_camera)
        planar = pack_bayer(
            mosaic,
            pattern=self.settings.pattern,
            black=body.black,
            white=body.white,
            matrix=matrix,
            layout="chw",
            threads=1,
        )
        # As in the cache: files that `synth` writes say no as-shot gains.
        white = scene_white(None, xyz_to_camera)
        neutral_highlights(planar, self.color, xyz_to_camera, white, planar=True)
        width, height = self.size
        return shrink(planar, height, width)

    def by_day(self, window: Window = WHOLE) -> npt.NDArray[np.float32]:
        """The photograph at the packed image's size, float32 (3, height, width), sRGB in [0, 1]."""
        rgb = _seen(self.photograph, self.settings.scale, window)
        planar = np.ascontiguousarray(np.moveaxis(rgb, -1, 0), dtype=np.float32) / np.float32(255)
        width, height = self.size
        if height > planar.shape[1] or width > planar.shape[2]:
            return enlarged(planar, height, width)
        return shrink(planar, height, width)


@lru_cache(maxsize=16)  # for night and day of a sample, which are asked for one after the other
def _seen(photograph: str, scale: float, window: Window) -> npt.NDArray[np.uint8]:
    """uint8 (h, w, 3), read-only: what the window shows, at the photograph's size. Bilinear."""
    from PIL import Image

    rgb = read_photograph(photograph, scale=scale)
    if window.scale < 1.0:
        height, width = rgb.shape[:2]
        left, top = window.left * width, window.top * height
        box = (left, top, left + window.scale * width, top + window.scale * height)
        zoomed = Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR, box=box)
        rgb = np.asarray(zoomed)
    rgb = np.ascontiguousarray(rgb[:, ::-1]) if window.mirrored else rgb
    rgb.flags.writeable = False
    return rgb


def fresh_night(
    entry: Mapping[str, Any], color: InputColor, size: tuple[int, int]
) -> FreshNight | None:
    """From a line of synth's manifest; None when its photograph is no longer there or changed."""
    photograph = entry.get("photograph", entry["source"])
    try:
        unchanged = os.stat(photograph).st_size == entry["source_bytes"]
    except OSError:
        unchanged = False
    if not unchanged or color == "xyz-uninverted":
        return None
    settings = NightSettings.from_record(entry["settings"])
    return FreshNight(photograph, entry["camera"], settings, color, size)
