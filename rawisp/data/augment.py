"""Augmentation of linear images before any ISP; boxes move along through the same affine map.

Every draw comes from the generator that is handed in, so a sample of an epoch is the same whoever
loads it and in which order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rawisp import geometry

Planar = npt.NDArray[np.float32]
# XYZ of CIE illuminant A over that of D65 (CIE 15): where tungsten lamps take white.
_TUNGSTEN_XYZ = np.array([1.0985 / 0.9505, 1.0, 0.3558 / 1.0888])
# The same for a camera's red, green and blue, about: the RX100M7's matrix times both whites.
_TUNGSTEN_CAMERA = np.array([1.79, 1.0, 0.47])


@dataclass(frozen=True)
class AugmentSettings:
    """How much is varied; zeros for nothing.

    flip: probability of a mirror image. crop: probability of a zoom into a window of `crop_scale`
    to 1 times the sides. exposure_stops: up to so many stops brighter or darker. illuminant: how
    far the white moves, 1 from daylight to tungsten (or as far the other way). noise: standard
    deviation at black of the strongest added noise, as a share of white; its variance also grows
    with the signal as photon noise does.
    """

    flip: float = 0.5
    crop: float = 0.5
    crop_scale: float = 0.6
    exposure_stops: float = 0.5
    illuminant: float = 0.2
    noise: float = 0.0


@dataclass(frozen=True)
class Augmented:
    """image: float32 (3, H, W). boxes: float32 (N, 4) corners; kept: which of the input's boxes."""

    image: Planar
    boxes: npt.NDArray[np.float32]
    kept: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Window:
    """What is seen of a picture: a zoom in shares of its sides, mirrored afterwards or not.

    Independent of resolution, so that one window shows the same of a photograph, of its night and
    of its boxes.
    """

    left: float = 0.0
    top: float = 0.0
    scale: float = 1.0
    mirrored: bool = False

    def of(self, picture: Planar) -> Planar:
        """(3, H, W) of the same size; bilinear."""
        if self.scale < 1.0:
            height, width = picture.shape[1:]
            start = (self.top * height, self.left * width)
            extent = (self.scale * height, self.scale * width)
            picture = _resampled(picture, start, extent, (height, width))
        return picture[:, :, ::-1] if self.mirrored else picture

    def affine(self, width: int, height: int) -> geometry.Affine:
        """Where a point of a picture of this size lies in what is seen."""
        zoom = geometry.Affine.translation(-self.left * width, -self.top * height).then(
            geometry.Affine.scaling(1.0 / self.scale, 1.0 / self.scale)
        )
        return zoom.then(geometry.flip_affine(1, width, height)) if self.mirrored else zoom


WHOLE = Window()


def draw_window(rng: np.random.Generator, settings: AugmentSettings) -> Window:
    """The window of a sample; what is drawn does not depend on the picture."""
    mirrored, cropped = rng.random() < settings.flip, rng.random() < settings.crop
    scale, across, down = rng.uniform(settings.crop_scale, 1.0), rng.random(), rng.random()
    if not cropped:
        return Window(mirrored=mirrored)
    return Window(across * (1.0 - scale), down * (1.0 - scale), scale, mirrored)


def augment(
    image: Planar,
    boxes: npt.NDArray[np.float32],
    rng: np.random.Generator,
    settings: AugmentSettings,
    input_color: str = "xyz",
) -> Augmented:
    """A variation of a linear image, float32 (3, H, W), of the same size.

    A box of which less than a third remains in the window is left out.
    """
    window = draw_window(rng, settings)
    return relight(window.of(image), boxes, window, rng, settings, input_color)


def relight(
    image: Planar,
    boxes: npt.NDArray[np.float32],
    window: Window,
    rng: np.random.Generator,
    settings: AugmentSettings,
    input_color: str = "xyz",
) -> Augmented:
    """`augment` of an image that shows the window already; the boxes do not yet."""
    image = _light(image, rng, settings, input_color)
    size = (image.shape[2], image.shape[1])
    boxes, kept = _move(boxes, window.affine(*size), size)
    return Augmented(np.ascontiguousarray(image, dtype=np.float32), boxes, kept)


def enlarged(image: Planar, height: int, width: int) -> Planar:
    """(3, H, W) enlarged bilinearly, pixel centres at half integers, edges repeated."""
    return _resampled(image, (0.0, 0.0), image.shape[1:], (height, width))


def _resampled(
    image: Planar,
    start: tuple[float, float],
    extent: tuple[float, ...],
    size: tuple[int, int],
) -> Planar:
    """The part (top, left) + (height, width) of an image, at `size`; bilinear, edges repeated."""
    for axis, target in ((1, size[0]), (2, size[1])):
        count = image.shape[axis]
        step = extent[axis - 1] / target
        at = np.clip(start[axis - 1] + (np.arange(target) + 0.5) * step - 0.5, 0, count - 1)
        low = np.minimum(at.astype(np.int64), max(count - 2, 0))
        share = (at - low).astype(np.float32)
        share = share[:, None] if axis == 1 else share
        first = np.take(image, low, axis)
        second = np.take(image, np.minimum(low + 1, count - 1), axis)
        image = first + share * (second - first)
    return image


def _light(
    image: Planar, rng: np.random.Generator, settings: AugmentSettings, input_color: str
) -> Planar:
    """Exposure, illuminant and noise, in this order; what clips at the sensor does not matter."""
    stops = rng.uniform(-1.0, 1.0) * settings.exposure_stops
    shift = rng.uniform(-1.0, 1.0) * settings.illuminant
    level = rng.random() * settings.noise
    gains = _TUNGSTEN_XYZ if input_color == "xyz" else _TUNGSTEN_CAMERA
    factor = (2.0**stops * gains**shift).astype(np.float32)
    image = image * factor[:, None, None]
    if settings.noise > 0.0:
        # Variance level^2 (1 + 20 x): at 5 % of white photon noise equals read noise.
        deviation = level * np.sqrt(1.0 + 20.0 * np.maximum(image, 0.0))
        draw = rng.standard_normal(image.shape, dtype=np.float32)
        image = (image + deviation * draw).astype(np.float32)
    return image


def _move(
    boxes: npt.NDArray[np.float32], to_output: geometry.Affine, size: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    if len(boxes) == 0:
        return boxes, np.zeros(0, bool)
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)
    moved = to_output.boxes(xywh)
    cut = geometry.clip_boxes(moved, *size)
    share = (cut[:, 2] * cut[:, 3]) / np.maximum(moved[:, 2] * moved[:, 3], 1e-12)
    kept = (share >= 1 / 3) & (cut[:, 2] >= 1.0) & (cut[:, 3] >= 1.0)
    corners = np.concatenate([cut[:, :2], cut[:, :2] + cut[:, 2:]], axis=1)[kept]
    return corners.astype(np.float32), kept
