"""The one place that knows geometry: frames by name, and one affine map between any two.

Coordinates are continuous pixel edges: x to the right, y down, (0, 0) the outer corner of the
top-left pixel, so pixel (row i, column j) covers [j, j + 1] x [i, i + 1] and a box [x0, x1] of
the sensor is [x0 / 2, x1 / 2] of the packed image, exactly, with no half-pixel terms.

Frames of a RAW file (widths and heights in sensor pixels):

    raw           everything the sensor delivered, masked border included
    visible       the exposed area; what `pack` packs, and "the sensor frame" of annotations
    crop          the vendor's crop, the size of the camera's own JPEG before rotation
    upright       visible, turned as the orientation flag says
    upright-crop  crop, turned likewise; the size of the camera's JPEG as a viewer shows it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rawisp.errors import FrameMismatchError, InvalidArrayError

# EXIF orientation (TIFF tag 274) to LibRaw's flip code, from dcraw's "50132467"[orientation & 7].
FLIP_FROM_EXIF_ORIENTATION = {1: 0, 2: 1, 3: 3, 4: 2, 5: 4, 6: 6, 7: 7, 8: 5}
EXIF_ORIENTATION_FROM_FLIP = {flip: exif for exif, flip in FLIP_FROM_EXIF_ORIENTATION.items()}


@dataclass(frozen=True)
class Affine:
    """x' = xx x + xy y + x0 and y' = yx x + yy y + y0, on continuous pixel-edge coordinates."""

    xx: float = 1.0
    xy: float = 0.0
    x0: float = 0.0
    yx: float = 0.0
    yy: float = 1.0
    y0: float = 0.0

    @staticmethod
    def translation(dx: float, dy: float) -> Affine:
        """Moves by (dx, dy)."""
        return Affine(x0=dx, y0=dy)

    @staticmethod
    def scaling(sx: float, sy: float) -> Affine:
        """Scales about the origin."""
        return Affine(xx=sx, yy=sy)

    @staticmethod
    def from_rows(rows: Sequence[Sequence[float]]) -> Affine:
        """The inverse of `rows`: two rows of three numbers."""
        (xx, xy, x0), (yx, yy, y0) = rows
        return Affine(float(xx), float(xy), float(x0), float(yx), float(yy), float(y0))

    def rows(self) -> list[list[float]]:
        """[[xx, xy, x0], [yx, yy, y0]], as manifests store it."""
        return [[self.xx, self.xy, self.x0], [self.yx, self.yy, self.y0]]

    def then(self, later: Affine) -> Affine:
        """The map that applies this one first and `later` second."""
        a = np.array([*self.rows(), [0.0, 0.0, 1.0]])
        b = np.array([*later.rows(), [0.0, 0.0, 1.0]])
        return Affine.from_rows((b @ a)[:2].tolist())

    def inverse(self) -> Affine:
        """The map back. Every map rawisp makes is invertible."""
        m = np.linalg.inv(np.array([*self.rows(), [0.0, 0.0, 1.0]]))
        return Affine.from_rows(m[:2].tolist())

    @property
    def area_scale(self) -> float:
        """The factor by which areas grow (a mirrored map counts as positive)."""
        return abs(self.xx * self.yy - self.xy * self.yx)

    def points(self, xy: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Maps points of shape (..., 2), float64 out."""
        p = np.asarray(xy, dtype=np.float64)
        m = np.array(self.rows())
        return np.asarray(p @ m[:, :2].T + m[:, 2])

    def boxes(self, xywh: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Maps COCO boxes (x, y, width, height) of shape (N, 4); not clipped to any frame.

        Every map here keeps axes parallel (quarter turns, mirrors, scales), so a box stays a box.
        """
        box = np.asarray(xywh, dtype=np.float64).reshape(-1, 4)
        a = self.points(box[:, :2])
        b = self.points(box[:, :2] + box[:, 2:])
        low, high = np.minimum(a, b), np.maximum(a, b)
        return np.concatenate([low, high - low], axis=1)


def flip_affine(flip: int, width: float, height: float) -> Affine:
    """The map that turns a `width` x `height` frame upright by LibRaw's flip code.

    dcraw's flip bits: 1 mirrors columns, 2 mirrors rows, 4 transposes afterwards; so 0 none,
    3 half turn, 5 quarter turn counter-clockwise, 6 quarter turn clockwise, the rest mirrored.
    """
    x = Affine(xx=-1.0, x0=float(width)) if flip & 1 else Affine()
    y = Affine(yy=-1.0, y0=float(height)) if flip & 2 else Affine()
    turned = x.then(y)
    return turned.then(Affine(0.0, 1.0, 0.0, 1.0, 0.0, 0.0)) if flip & 4 else turned


def flip_array(array: npt.NDArray[np.generic], flip: int) -> npt.NDArray[np.generic]:
    """`array` (..., H, W) turned upright by LibRaw's flip code: a view, not a copy."""
    if flip & 1:
        array = array[..., :, ::-1]
    if flip & 2:
        array = array[..., ::-1, :]
    return np.swapaxes(array, -1, -2) if flip & 4 else array


def inverse_flip(flip: int) -> int:
    """The code that undoes `flip`: the two quarter turns undo each other, the rest themselves."""
    return {5: 6, 6: 5}.get(flip, flip)


def flip_size(flip: int, width: int, height: int) -> tuple[int, int]:
    """(width, height) after turning upright."""
    return (height, width) if flip & 4 else (width, height)


@dataclass(frozen=True)
class Frame:
    """A named pixel grid of one file and the map from its coordinates to the visible frame's."""

    name: str
    width: int
    height: int
    to_visible: Affine


def sensor_frames(
    *,
    raw_size: tuple[int, int],
    visible_origin: tuple[int, int],
    visible_size: tuple[int, int],
    crop_origin: tuple[int, int] | None,
    crop_size: tuple[int, int] | None,
    flip: int,
) -> dict[str, Frame]:
    """The frames of one RAW file. Sizes are (width, height), origins (left, top) in the raw frame.

    `crop` is left out when the file names none or names one that leaves the raw frame.
    """
    frames = {
        "raw": Frame("raw", *raw_size, Affine.translation(-visible_origin[0], -visible_origin[1])),
        "visible": Frame("visible", *visible_size, Affine()),
    }
    if crop_origin is not None and crop_size is not None:
        fits = all(
            size > 0 and origin >= 0 and origin + size <= raw
            for origin, size, raw in zip(crop_origin, crop_size, raw_size, strict=True)
        )
        if fits:
            offset = Affine.translation(
                crop_origin[0] - visible_origin[0], crop_origin[1] - visible_origin[1]
            )
            frames["crop"] = Frame("crop", *crop_size, offset)
    for base, name in (("visible", "upright"), ("crop", "upright-crop")):
        if base in frames:
            b = frames[base]
            back = flip_affine(flip, b.width, b.height).inverse()
            size = flip_size(flip, b.width, b.height)
            frames[name] = Frame(name, *size, back.then(b.to_visible))
    return frames


def chosen_frame(
    path: str, frames: dict[str, Frame], choice: str, width: int, height: int
) -> Frame:
    """The frame that annotations of `width` x `height` were drawn on.

    choice: "auto" (by size), "center", or a frame's name. FrameMismatchError when none fits.
    """
    if choice == "auto":
        return annotation_frame(path, frames, width, height)
    if choice == "center":
        return centered_frame(path, frames, width, height)
    return named_frame(path, frames, choice, width, height)


def annotation_frame(path: str, frames: dict[str, Frame], width: int, height: int) -> Frame:
    """The one frame of `path` whose size is `width` x `height`.

    Frames that share size and map (an unturned file's visible and upright) count as one. Two
    candidates that would put boxes in different places are an error, as is none at all.
    """
    fitting = [f for f in frames.values() if (f.width, f.height) == (width, height)]
    known = ", ".join(f"{f.name} {f.width}x{f.height}" for f in frames.values())
    if not fitting:
        raise FrameMismatchError(
            path,
            f"the annotations say {width}x{height}, which is no frame of this file ({known})",
            "correct the annotations' width and height, or say --annotation-frame center if they "
            "were drawn on a centred crop",
        )
    if any(f.to_visible != fitting[0].to_visible for f in fitting[1:]):
        names = " or ".join(f.name for f in fitting)
        raise FrameMismatchError(
            path,
            f"the annotations' size {width}x{height} fits more than one frame ({names})",
            "say which with --annotation-frame",
        )
    return fitting[0]


def named_frame(path: str, frames: dict[str, Frame], name: str, width: int, height: int) -> Frame:
    """The frame called `name`, which must have the annotations' size."""
    frame = frames.get(name)
    if frame is None:
        raise FrameMismatchError(path, f"has no {name} frame", f"choose one of {', '.join(frames)}")
    if (frame.width, frame.height) != (width, height):
        raise FrameMismatchError(
            path,
            f"its {name} frame is {frame.width}x{frame.height}, the annotations say "
            f"{width}x{height}",
            "choose another --annotation-frame or correct the annotations",
        )
    return frame


def centered_frame(path: str, frames: dict[str, Frame], width: int, height: int) -> Frame:
    """A crop of `width` x `height` in the middle of the visible frame, its corner on even pixels.

    For cameras whose files do not state the crop of their JPEGs; even, because crops keep the CFA's
    phase.
    """
    visible = frames["visible"]
    if width > visible.width or height > visible.height:
        raise FrameMismatchError(
            path,
            f"its visible frame is {visible.width}x{visible.height}, smaller than the annotations' "
            f"{width}x{height}",
            "correct the annotations' width and height",
        )
    left, top = ((visible.width - width) // 4 * 2, (visible.height - height) // 4 * 2)
    return Frame("center", width, height, Affine.translation(left, top))


Fit = tuple[int, int]


def parse_fit(text: str) -> Fit | None:
    """``"1333x800"`` to (1333, 800), the limits of the long and the short side; ``"none"`` to None.

    The order of the two numbers does not matter. Raises InvalidArrayError on anything else.
    """
    if text.strip().lower() == "none":
        return None
    parts = text.lower().split("x")
    if len(parts) == 2 and all(p.strip().isdecimal() and int(p) > 0 for p in parts):
        a, b = int(parts[0]), int(parts[1])
        return max(a, b), min(a, b)
    raise InvalidArrayError(f"--fit {text!r} is no size; write it like 1333x800, or none")


def check_fit(fit: object) -> None:
    """InvalidArrayError unless `fit` is a pair of whole numbers above 0."""
    good = isinstance(fit, tuple | list) and len(fit) == 2
    if not good or not all(isinstance(side, int) and side > 0 for side in fit):  # type: ignore[attr-defined]
        raise InvalidArrayError(
            f"fit {fit!r} is neither a pair of sides like (1333, 800) nor None for full size"
        )


def fit_size(width: int, height: int, fit: Fit | None) -> tuple[int, int]:
    """The size that `width` x `height` takes within `fit` (long, short), never enlarged.

    scale = min(1, short_limit / short, long_limit / long), as detectors resize (GenISP: 1333x800).
    """
    if fit is None:
        return width, height
    long, short = max(fit), min(fit)
    scale = min(1.0, short / min(width, height), long / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def packed_affine(
    visible_size: tuple[int, int], *, flip: int = 0, fit: Fit | None = None
) -> tuple[Affine, tuple[int, int]]:
    """The map from visible sensor pixels to output pixels, and the output's (width, height).

    Packing halves (a last odd row or column is dropped), `flip` turns the packed image upright
    (0: left as the sensor saw it), `fit` scales it down.
    """
    packed = visible_size[0] // 2, visible_size[1] // 2
    affine = Affine.scaling(0.5, 0.5).then(flip_affine(flip, *packed))
    turned = flip_size(flip, *packed)
    final = fit_size(*turned, fit)
    return affine.then(resize_affine(turned, final)), final


def resize_affine(source: tuple[int, int], target: tuple[int, int]) -> Affine:
    """The map of a resize from `source` to `target` (width, height)."""
    return Affine.scaling(target[0] / source[0], target[1] / source[1])


def clip_boxes(
    xywh: npt.NDArray[np.float64], width: float, height: float
) -> npt.NDArray[np.float64]:
    """Boxes (N, 4) cut to the frame; one that lies outside comes back with zero area."""
    low = np.clip(xywh[:, :2], 0.0, (width, height))
    high = np.clip(xywh[:, :2] + xywh[:, 2:], 0.0, (width, height))
    return np.concatenate([low, high - low], axis=1)
