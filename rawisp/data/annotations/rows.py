"""What the readers of all formats share: one rule for each row, and one place where it is kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rawisp.data.annotations.labels import LabeledImage, Problem
from rawisp.errors import printable
from rawisp.geometry import clip_boxes

Box = tuple[float, float, float, float]

# What rounding leaves past the edge of a frame, relative to its size: the six decimals of YOLO
# files, the four that rawisp writes. It is cut without a word.
_ROUNDING = 5e-6


def short(value: object, longest: int = 60) -> str:
    """`value` as a phrase for a message: one line, not endless."""
    text = printable(str(value)[: longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}..."


def finite(value: Any) -> float | None:
    """`value` as a finite float, None if it is none (a text, NaN, a whole number beyond range)."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def around_rotated(box: Box, degrees: float) -> Box:
    """The upright box around `box` turned by an angle about its centre."""
    x, y, width, height = box
    angle = math.radians(degrees)
    cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
    wide, high = width * cosine + height * sine, width * sine + height * cosine
    return x + (width - wide) / 2, y + (height - high) / 2, wide, high


@dataclass
class ProblemList:
    """What is wrong with one annotation file."""

    file: str
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, place: str, what: str) -> None:
        """Something was left out."""
        self.problems.append(Problem(self.file, place, what))

    def mended(self, place: str, what: str) -> None:
        """Something was put right."""
        self.problems.append(Problem(self.file, place, what, mended=True))


class Classes:
    """Class names in the order in which they come; the same name is the same class."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._index: dict[str, int] = {}
        for name in names:
            self.index(name)

    def index(self, name: str) -> int:
        """The class called `name`, a new one if there is none yet."""
        return self._index.setdefault(name, len(self._index))

    @property
    def names(self) -> tuple[str, ...]:
        """All names, by index."""
        return tuple(self._index)


@dataclass
class BoxRows:
    """The boxes of one photograph, row by row; those that cannot be used go to `problems`."""

    size: tuple[int, int] | None
    problems: ProblemList
    boxes: list[Box] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    attributes: list[Mapping[str, Any]] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    refused: int = 0

    def add(self, place: str, box: Box, label: int, attributes: Mapping[str, Any]) -> None:
        """Keeps the box of finite numbers, cut to the frame; refuses it if nothing is left."""
        limits = self.size or (1, 1)
        x, y, width, height = box
        if width < 0 or height < 0:
            self.refuse(place, f"its box {self._text(box)} has a negative width or height")
            return
        if x + width == x or y + height == y:  # also where rounding swallows them
            self.refused += 1
            self.problems.mended(place, f"its box {self._text(box)} has no area; left out")
            return
        inside = x >= 0 and y >= 0 and x + width <= limits[0] and y + height <= limits[1]
        cut = box if inside else self._cut(box, limits)
        if not inside and min(cut[2] / limits[0], cut[3] / limits[1]) <= _ROUNDING:
            self.refuse(place, f"its box {self._text(box)} lies outside the {self._frame()}")
            return
        past = max(-x, -y, x + width - limits[0], y + height - limits[1])
        if past > _ROUNDING * max(limits):
            self.problems.mended(
                place, f"its box {self._text(box)} reaches past the {self._frame()}; cut"
            )
        self.boxes.append(cut)
        self.classes.append(label)
        self.attributes.append(attributes)
        self.where.append(place)

    def add_rotated(
        self, place: str, box: Box, label: int, attributes: Mapping[str, Any], degrees: float
    ) -> None:
        """As `add`, the box around it where it is turned, as CVAT's rectangles can be."""
        if degrees % 180.0:
            self.problems.mended(
                place, f"is rotated by {degrees:g} degrees; the upright box around it is taken"
            )
            box = around_rotated(box, degrees)
        self.add(place, box, label, attributes)

    def refuse(self, place: str, what: str) -> None:
        """Leaves a row out."""
        self.refused += 1
        self.problems.wrong(place, what)

    def image(
        self, name: str, identity: int | str, *, place: str = "", split: str | None = None
    ) -> LabeledImage | None:
        """The photograph; None if it had rows and none could be used.

        Such a photograph shows something, and would pass for an empty one.
        """
        if self.refused and not self.boxes:
            what = f"none of its {self.refused} boxes can" if self.refused > 1 else "its box cannot"
            self.problems.wrong(place, f"{what} be used; {short(name)} is left out")
            return None
        return LabeledImage(
            name=name,
            id=identity,
            size=self.size,
            boxes=np.array(self.boxes, dtype=np.float64).reshape(-1, 4),
            classes=np.array(self.classes, dtype=np.int64),
            attributes=tuple(self.attributes),
            where=tuple(self.where),
            file=self.problems.file,
            place=place,
            split=split,
        )

    @staticmethod
    def _cut(box: Box, limits: tuple[int, int]) -> Box:
        x, y, width, height = clip_boxes(np.array([box]), *limits)[0].tolist()
        return x, y, width, height

    @staticmethod
    def _text(box: Box) -> str:
        return "[{}]".format(", ".join(f"{value:.7g}" for value in box))

    def _frame(self) -> str:
        return f"{self.size[0]}x{self.size[1]} frame" if self.size else "frame"
