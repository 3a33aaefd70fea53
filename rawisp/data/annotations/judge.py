"""A whole set of boxes judged: rows that are each possible, and together a mistake.

A file whose boxes are relative where pixels are meant, or corners where width and height are
meant, gives boxes that pass one by one, are cut at the frame, or vanish below a pixel. Each
question is asked of the boxes as they are written, before anything is mended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rawisp.errors import AnnotationError, display_path

Layout = Literal["xywh", "corners", "centre"]
Array = npt.NDArray[np.float64]
Mask = Any  # bool (N,); NumPy's own types take the result of .all(axis=1) for a scalar, too

# A set is wrong, not its rows, when so many boxes and this share of them are. People annotate past
# the frame on purpose (whole bodies, cut cars), so that alone has to hold for more than half.
_AT_LEAST = 3
_SHARE = 0.1
_MOST = 0.5
# A guess at the mistake has to explain nearly all boxes.
_NEARLY_ALL = 0.95
# Past the frame by less than this share of it is carelessness, not a mistake of layout.
_SLACK = 0.01
# In a smaller frame a box below a pixel may be meant.
_SMALL_FRAME = 32
# Below this size of a frame percent cannot be told from pixels; nor with so few boxes.
_LARGE_FRAME, _MANY = 500, 20


@dataclass
class Evidence:
    """Boxes as an annotation file has them, four numbers each, with their frame's (width, height).

    (1, 1) is the frame of a format that is relative itself.
    """

    boxes: list[Sequence[float]] = field(default_factory=list)
    sizes: list[tuple[float, float]] = field(default_factory=list)

    def add(self, box: Sequence[float], size: tuple[float, float] | None) -> None:
        """One row. size None: relative."""
        self.boxes.append(box)
        self.sizes.append(size or (1.0, 1.0))


def judge(path: str, evidence: Evidence, layout: Layout) -> None:
    """AnnotationError when the boxes of a file or folder cannot be what `layout` says.

    layout: how the format writes a box: "xywh" (COCO: upper left corner, width, height, pixels),
    "corners" (VOC: x and y of two corners, pixels), "centre" (YOLO: centre, width, height,
    relative). The sentence says which mistake it looks like. A few bad rows in a good set pass:
    they are row problems.
    """
    if not evidence.boxes:
        return
    boxes = np.array(evidence.boxes, np.float64)
    sizes = np.array(evidence.sizes, np.float64)
    if layout != "centre":
        large = (sizes >= _SMALL_FRAME).all(axis=1)
        boxes, sizes = boxes[large], sizes[large]
        if not len(boxes):
            return
    find = {"xywh": _xywh, "corners": _corners, "centre": _centre}[layout]
    if what := find(boxes, sizes):
        raise AnnotationError(f"{display_path(path)}: {what}")


def _xywh(boxes: Array, sizes: Array) -> str:
    extent = boxes[:, 2:]
    if what := _in_other_units(boxes, boxes[:, :2] + extent, extent, sizes):
        return what
    count = len(boxes)
    past: Mask = (boxes[:, :2] + extent > sizes * (1 + _SLACK)).any(axis=1)
    ordered = (extent > boxes[:, :2]).all(axis=1) & (extent <= sizes * (1 + _SLACK)).all(axis=1)
    if _many(past, _SHARE) and ordered.mean() >= _NEARLY_ALL:
        return (
            f"{past.sum()} of its {count} boxes reach past their frame, and all would fit as x1, "
            "y1, x2, y2; COCO's bbox is x, y, width, height: write x2 - x1 and y2 - y1 instead"
        )
    return _past(past, boxes[:, :2] + extent, sizes)


def _corners(boxes: Array, sizes: Array) -> str:
    between = boxes[:, 2:] - boxes[:, :2]  # the last pixel is the box's, so it is one wider
    if what := _in_other_units(boxes, boxes[:, 2:], between, sizes, included=1.0):
        return what
    count = len(boxes)
    exchanged: Mask = (between <= -1).any(axis=1)
    fits = (boxes[:, :2] + boxes[:, 2:] <= sizes * (1 + _SLACK)).all(axis=1)
    if _many(exchanged, _SHARE) and fits.mean() >= _NEARLY_ALL:
        return (
            f"{exchanged.sum()} of its {count} boxes have xmax below xmin or ymax below ymin, and "
            "all would fit as x, y, width, height; VOC's bndbox has two corners: write x + width "
            "as xmax and y + height as ymax"
        )
    reach = np.maximum(boxes[:, :2], boxes[:, 2:])
    return _past((reach > sizes * (1 + _SLACK)).any(axis=1), reach, sizes)


def _centre(boxes: Array, sizes: Array) -> str:
    count = len(boxes)
    beyond: Mask = (boxes > 1 + _SLACK).any(axis=1)
    if _many(beyond, _SHARE) or beyond.all():
        percent = boxes.max() <= 100 * (1 + _SLACK)
        unit = "percent: divide by 100" if percent else "pixels: divide by the frame's size"
        return (
            f"{beyond.sum()} of its {count} boxes have values above 1 (up to {boxes.max():.7g}); "
            f"YOLO's are relative to the frame, these look like {unit}"
        )
    centre, extent = boxes[:, :2], boxes[:, 2:]
    outside = (centre - extent / 2 < -_SLACK) | (centre + extent / 2 > 1 + _SLACK)
    past: Mask = outside.any(axis=1)
    if not _many(past, _SHARE):
        return ""
    said = f"{past.sum()} of its {count} boxes reach past the frame"
    ordered = (extent > centre).all(axis=1)
    if ordered.mean() >= _NEARLY_ALL:
        return (
            f"{said}, and all would fit as x1, y1, x2, y2; YOLO's boxes are centre x, centre y, "
            "width, height"
        )
    fits = (centre + extent <= 1 + _SLACK).all(axis=1)
    if fits.mean() >= _NEARLY_ALL:
        return (
            f"{said}, and all would fit as x, y, width, height with the upper left corner; YOLO's "
            "boxes are centre x, centre y, width, height"
        )
    return f"{said}; see whether they were drawn on these photographs" if _many(past, _MOST) else ""


def _in_other_units(
    boxes: Array, far: Array, extent: Array, sizes: Array, included: float = 0.0
) -> str:
    """Relative or percent where pixels are meant; far: the lower right corner.

    included: what a box in pixels is wider than `extent`.
    """
    count = len(boxes)
    some = (extent > 0).all(axis=1)
    relative: Mask = some & (boxes >= -_SLACK).all(axis=1) & (boxes <= 1 + _SLACK).all(axis=1)
    relative &= (extent < 1).any(axis=1)  # [0, 0, 1, 1] is a pixel, not the whole frame
    tiny: Mask = some & (extent + included < 1).any(axis=1)
    if _many(relative, _MOST) or relative.all():
        return (
            f"{relative.sum()} of its {count} boxes lie between 0 and 1; they look relative to the "
            "frame: multiply them by its width and height, pixels are meant"
        )
    if _many(tiny, _SHARE):
        return (
            f"{tiny.sum()} of its {count} boxes are less than a pixel wide or high; see in which "
            "unit they were written, pixels are meant"
        )
    if count >= _MANY and (sizes >= _LARGE_FRAME).all() and (far <= 100 * (1 + _SLACK)).all():
        return (
            f"all of its {count} boxes lie in the upper left 100 pixels of frames of "
            f"{sizes[0, 0]:.0f}x{sizes[0, 1]:.0f}; they look like percent: multiply by the frame's "
            "width or height and divide by 100"
        )
    return ""


def _past(past: Mask, far: Array, sizes: Array) -> str:
    if not _many(past, _MOST):
        return ""
    turned = (far <= sizes[:, ::-1] * (1 + _SLACK)).all()
    guess = (
        "all would fit if width and height were exchanged: write the frame's width and height as "
        "the boxes have them"
        if turned
        else "they look drawn on a picture of another size: write its width and height"
    )
    return f"{past.sum()} of its {len(past)} boxes reach past their frame; {guess}"


def _many(which: Mask, share: float) -> bool:
    return bool(which.sum() >= _AT_LEAST and which.mean() > share)
