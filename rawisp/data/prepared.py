"""Photographs as training and evaluation see them: packed arrays of final size, boxes beside them.

Decoding, packing and scaling are `pack`'s; here is only where the boxes go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rawisp import geometry
from rawisp.data.augment import WHOLE, Window


class Darkener(Protocol):
    """A photograph that can be darkened anew; see `rawisp.data.fresh.FreshNight`."""

    def __call__(self, rng: np.random.Generator, window: Window = WHOLE) -> npt.NDArray[np.float32]:
        """Another night of what the window shows, linear float32 (3, H, W)."""

    def by_day(self, window: Window = WHOLE) -> npt.NDArray[np.float32]:
        """The photograph, sRGB-encoded float32 (3, H, W) in [0, 1]."""


@dataclass(frozen=True)
class PreparedImage:
    """One packed photograph with its boxes.

    name: relative to the data's root, without suffix. source: the RAW file. array: the packed file,
    float16 (H, W, 3). size: (width, height). boxes: float32 (N, 4), x1, y1, x2, y2 in its pixels,
    cut to it, positive area. classes: int64 (N,). ignore: bool (N,), crowds and difficult ones.
    attributes: per box, what the annotations say besides. darken: makes another night of a
    synthesized photograph, of the same size; None for real ones.
    """

    name: str
    source: str
    array: str
    size: tuple[int, int]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    ignore: npt.NDArray[np.bool_]
    attributes: tuple[Mapping[str, Any], ...] = ()
    darken: Darkener | None = None

    def load(self) -> npt.NDArray[np.float32]:
        """The packed image, float32 (3, H, W), linear; 1.0 is the sensor's white."""
        stored = np.load(self.array)
        return np.ascontiguousarray(np.moveaxis(stored, -1, 0), dtype=np.float32)

    def load_night(self, rng: np.random.Generator, window: Window) -> npt.NDArray[np.float32]:
        """As `load`, through a window; a synthesized photograph is darkened anew.

        It is so after the zoom, and has a sensor's noise, not an enlarged one.
        """
        return window.of(self.load()) if self.darken is None else self.darken(rng, window)


def hash_of(images: Sequence[PreparedImage], numbers: npt.NDArray[np.int64] | None = None) -> str:
    """SHA-256 of names, sizes, boxes and classes, in this order: whether two runs see the same.

    numbers: what to take for each class instead of its own number.
    """
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.name} {image.size} {image.darken is not None}".encode())
        classes = image.classes if numbers is None else numbers[image.classes]
        for part in (image.boxes, classes, image.ignore):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def moved_boxes(
    boxes: npt.NDArray[np.float64], to_output: geometry.Affine, size: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """(corners float32 (N, 4) in output pixels, cut to the image; which have area left).

    boxes: x, y, width, height in the frame that `to_output` starts from. A box that had no area to
    begin with has none.
    """
    if len(boxes) == 0:
        return np.zeros((0, 4), np.float32), np.zeros(0, bool)
    moved = geometry.clip_boxes(to_output.boxes(boxes), *size)
    corners = np.concatenate([moved[:, :2], moved[:, :2] + moved[:, 2:]], axis=1)
    # float32 may round the last bit of an edge beyond the image or onto the other edge.
    corners32 = np.minimum(corners, np.array([*size, *size])).astype(np.float32)
    area = (corners32[:, 2] > corners32[:, 0]) & (corners32[:, 3] > corners32[:, 1])
    return corners32, area & (boxes[:, 2:] > 0).all(axis=1)
