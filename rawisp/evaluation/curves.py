"""Precision over recall at IoU 0.5 as a picture: a panel for each class, a colour per rendering."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from rawisp.errors import printable
from rawisp.evaluation.average_precision import RECALLS
from rawisp.evaluation.compare import Comparison, Row

Color = tuple[int, int, int]

# Okabe and Ito's, which people with any colour vision tell apart.
_COLORS: tuple[Color, ...] = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233),
    (0, 0, 0), (128, 94, 60),
)  # fmt: skip
_GREY: Color = (225, 225, 225)
_INK: Color = (60, 60, 60)
# Everything is drawn this many times too large and scaled down, which smooths lines and letters.
_OVER = 2
_PLOT, _LEFT, _TOP, _RIGHT, _BOTTOM = 260, 62, 34, 22, 50
_PANEL = (_LEFT + _PLOT + _RIGHT, _TOP + _PLOT + _BOTTOM)
_LINE = 22
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LONGEST = 60


def draw_curves(comparison: Comparison) -> Image.Image | None:
    """RGB; None where no rendering has a curve."""
    rows = [row for row in comparison.rows if row.precision.curves]
    if not rows:
        return None
    names = list(rows[0].precision.curves)
    columns = min(len(names), max(3, round(math.sqrt(len(names) * 1.5))))
    lines = math.ceil(len(names) / columns)
    size = columns * _PANEL[0], lines * _PANEL[1] + _LINE * len(rows) + 16
    pen = _Pen(*size)
    for n, name in enumerate(names):
        _panel(pen, n % columns * _PANEL[0], n // columns * _PANEL[1], name, rows)
    for n, row in enumerate(rows):
        y = lines * _PANEL[1] + _LINE * n + 4
        pen.line([(_LEFT, y + 8), (_LEFT + 26, y + 8)], color_of(n), 3)
        text = f"{_short(row.name)}   AP50 {row.precision.ap50:.3f}"
        pen.text((_LEFT + 36, y), text)
    return pen.picture()


def color_of(number: int) -> Color:
    """The colour of the rendering `number`, from 0."""
    if number < len(_COLORS):
        return _COLORS[number]
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618 % 1.0, 0.75, 0.75)
    return round(red * 255), round(green * 255), round(blue * 255)


def _panel(pen: _Pen, left: int, top: int, name: str, rows: Sequence[Row]) -> None:
    """Axes and curves of one class; (left, top) is the panel's corner."""
    x0, y0 = left + _LEFT, top + _TOP
    boxes = next((row.by_class[name]["boxes"] for row in rows if name in row.by_class), 0)
    title = f"{_short(name)} ({boxes:.0f} {'box' if boxes == 1 else 'boxes'})"
    pen.text((x0 + _PLOT / 2, top + 20), title, "mm", 15)
    for tick in _TICKS:
        x, y = x0 + tick * _PLOT, y0 + (1 - tick) * _PLOT
        pen.line([(x, y0), (x, y0 + _PLOT)], _GREY, 1)
        pen.line([(x0, y), (x0 + _PLOT, y)], _GREY, 1)
        pen.text((x, y0 + _PLOT + 12), f"{tick:g}", "mm")
        pen.text((x0 - 8, y), f"{tick:g}", "rm")
    pen.line([(x0, y0), (x0, y0 + _PLOT), (x0 + _PLOT, y0 + _PLOT)], _INK, 1)
    pen.text((x0 + _PLOT / 2, y0 + _PLOT + 30), "recall", "mm")
    pen.upright_text((left + 14, y0 + _PLOT / 2), "precision")
    for n, row in enumerate(rows):
        curve = row.precision.curves.get(name, [])
        points = [
            (x0 + float(recall) * _PLOT, y0 + (1 - precision) * _PLOT)
            for recall, precision in zip(RECALLS, curve, strict=False)
            if precision > 0
        ]
        if points:  # and down to the axis, where recall ends
            pen.line([*points, (points[-1][0], y0 + _PLOT)], color_of(n), 2)


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


class _Pen:
    """Draws in pixels of the finished picture, on a larger one."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width * _OVER, height * _OVER), "white")
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: Sequence[tuple[float, float]], color: Color, width: int) -> None:
        large = [(x * _OVER, y * _OVER) for x, y in points]
        self._draw.line(large, color, width * _OVER, joint="curve")

    def text(self, at: tuple[float, float], text: str, anchor: str = "la", size: int = 13) -> None:
        place = at[0] * _OVER, at[1] * _OVER
        self._draw.text(place, text, _INK, _font(size), anchor=anchor)

    def upright_text(self, center: tuple[float, float], text: str) -> None:
        """Read from below to above."""
        font = _font(13)
        box = [round(v) for v in font.getbbox(text, anchor="lt")]
        small = Image.new("L", (box[2], box[3]), 0)
        ImageDraw.Draw(small).text((0, 0), text, 255, font, anchor="lt")
        turned = small.transpose(Image.Transpose.ROTATE_90)
        left = round(center[0] * _OVER - turned.width / 2)
        top = round(center[1] * _OVER - turned.height / 2)
        self._image.paste(_INK, (left, top), turned)

    def picture(self) -> Image.Image:
        return self._image.reduce(_OVER)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _OVER)
