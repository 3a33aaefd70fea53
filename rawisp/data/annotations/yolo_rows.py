"""What a row of a YOLO label file may be.

`class cx cy width height`, relative to the frame; the same and keypoints, where data.yaml has a
kpt_shape; or `class x y x y ...`, a polygon of three points or more, which becomes its box. Other
rows have as many values and are something else: a tracker's `class x y w h confidence id`, a
detector's output with its confidence, a pose whose data.yaml is missing. Those are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rawisp.data.annotations.rows import Box, short
from rawisp.data.annotations.yolo_config import YoloConfig
from rawisp.errors import AnnotationError, display_path

Line = tuple[str, str]  # its place, its text

_MOST_UNNAMED_CLASSES = 10_000  # a larger number is no class but a mistake
_BEYOND = 0.01  # how far past 0 or 1 a coordinate may be and still be meant as relative
# So many rows of equal length are needed to tell keypoints of two values from polygons.
_FEW = 8
# Points of a pose reach so far towards the edges of their box, in so many rows.
_FILLED, _MOST = 0.35, 0.8


@dataclass(frozen=True)
class Row:
    """The class number and the box, x, y of the upper left corner, width, height; or a complaint.

    written: the four numbers of a box (not of a polygon) as they stand there, also where they make
    no sense; None where there are none.
    """

    complaint: str = ""
    number: int = 0
    box: Box = (0.0, 0.0, 0.0, 0.0)
    written: Box | None = None


def read_row(line: str, config: YoloConfig) -> Row:
    """One row."""
    values = _values(line)
    if isinstance(values, str):
        return Row(values)
    number = _class_number(values[0], config)
    if isinstance(number, str):
        return Row(number)
    count = len(values)
    if count == 5 or (config.keypoint_values and count == 5 + config.keypoint_values):
        return _box(number, (values[1], values[2], values[3], values[4]))
    if count == 7 and _from_a_tracker(line, values):
        return Row(
            "has 7 values, the last a whole number: a tracker's class, x, y, width, height, "
            "confidence and id are no polygon; leave the last two away"
        )
    if count >= 7 and count % 2 == 1:
        return _polygon(number, values)
    return Row(_wrong_count(count))


def _values(line: str) -> list[float] | str:
    """The numbers of a row, or what is wrong."""
    try:
        values = [float(text) for text in line.split()]
    except ValueError:
        return f"{short(repr(line))} is not numbers"
    if not np.isfinite(values).all():
        return f"{short(repr(line))} has a value that is not finite"
    return values


def _box(number: int, written: Box) -> Row:
    cx, cy, width, height = written
    beyond = [v for v in written if v > 1 + _BEYOND]
    beyond += [v for v in (cx, cy) if v < -_BEYOND]
    box = (cx - width / 2, cy - height / 2, width, height)
    return Row(_outside(beyond), number, box, written)


def _polygon(number: int, values: list[float]) -> Row:
    xs, ys = values[1::2], values[2::2]
    beyond = [v for v in values[1:] if not -_BEYOND <= v <= 1 + _BEYOND]
    box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    return Row(_outside(beyond), number, box)


def _outside(beyond: list[float]) -> str:
    return f"has the coordinate {beyond[0]:g}, not within 0 to 1" if beyond else ""


def _from_a_tracker(line: str, values: list[float]) -> bool:
    """Trackers write the id as a whole number; a triangle's last coordinate has a fraction."""
    relative = all(-_BEYOND <= value <= 1 + _BEYOND for value in values[1:6])
    return relative and line.split()[-1].isdecimal()


def _wrong_count(count: int) -> str:
    if count == 1:
        return "is a class without a box"
    if count == 6:
        return "has 6 values; a box has 5, the sixth looks like a detector's confidence"
    more = "; keypoints after a box need kpt_shape in data.yaml" if count > 7 else ""
    return f"has {count} values; a box has 5, a polygon 7 or more, and an odd number{more}"


def _class_number(value: float, config: YoloConfig) -> int | str:
    if value < 0 or not value.is_integer():
        return f"its class {value:g} is no whole number from 0"
    number = int(value)
    if config.names is not None and number not in config.names:
        return f"its class {number} is not among the {len(config.names)} that are named"
    if config.names is None and number >= _MOST_UNNAMED_CLASSES:
        return f"its class {number} is too large a number where no classes are named"
    return number


def refuse_poses(path: str, lines: Sequence[str]) -> None:
    """AnnotationError when long rows are a box and keypoints, which would pass for polygons.

    Polygons have different numbers of points; rows of a pose are all of one length. Keypoints of
    three values are told by every third, the visibility 0, 1 or 2; those of two by lying inside
    the box while its width and height, taken as a point, lie elsewhere.
    """
    long = [line for line in lines if len(line.split()) >= 7]
    counts = {len(line.split()) for line in long}
    if len(counts) != 1:
        return
    rows = [values for line in long if not isinstance(values := _values(line), str)]
    if not rows:
        return
    table = np.array(rows)
    more = table.shape[1] - 5
    triples = table[:, 5:].reshape(len(rows), -1, 3) if more % 6 == 0 else None
    if triples is not None and _are_visibilities(triples):
        shape = [more // 3, 3]
    elif more % 2 == 0 and len(rows) >= _FEW and _are_inside(table):
        shape = [more // 2, 2]
    else:
        return
    raise AnnotationError(
        f"{display_path(path)}: {len(rows)} rows of {table.shape[1]} values look like a box and "
        f"keypoints, not like polygons; write kpt_shape: {shape} into data.yaml"
    )


def _are_visibilities(triples: Any) -> bool:
    """(rows, keypoints, 3): whether the third values are flags, and the others are not."""
    flags, points = triples[..., 2], triples[..., :2]
    return bool(np.isin(flags, (0, 1, 2)).all() and (points % 1 != 0).any())


def _are_inside(table: Any) -> bool:
    """(rows, values): whether points lie in the box in all rows, and its size is no point of them.

    That is so where the points fill the box, as those of a pose do, in most rows; or where the
    size, taken as a point, lies farther from the other points than they reach: not so the second
    point of an outline. Keypoints at 0, 0 are not labelled.
    """
    elsewhere = filled = 0
    for row in table:
        centre, size, points = row[1:3], row[3:5], row[5:].reshape(-1, 2)
        points = points[(points != 0).any(axis=1)]
        reach = np.abs(points - centre).max(axis=0, initial=0.0)
        if (reach > size * 0.55 + _BEYOND).any():
            return False
        filled += bool((reach > size * _FILLED / 2).all())
        others = np.concatenate([centre[None], points])
        low, high = others.min(axis=0), others.max(axis=0)
        margin = (high - low).max()
        elsewhere += bool((size < low - margin).any() or (size > high + margin).any())
    return elsewhere > len(table) / 2 or filled > len(table) * _MOST
