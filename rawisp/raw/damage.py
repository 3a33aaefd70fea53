"""What a mosaic says of its own damage: parts that nobody wrote, or that no sensor writes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rawisp.errors import CorruptFileError
from rawisp.raw.poison import CANARY

Mosaic = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]

# Noise never leaves so many neighbours equal; the narrowest tiles in use are 64 wide or more.
_RUN = 64
# A bad row or two of the sensor is no damage of the file.
_FEWEST_SAMPLES = 512
# Flat stretches above black are strange, too, but so few rows may be chance.
_FEWEST_FLAT_ROWS = 8
_FEWEST_REPEATED_ROWS = 4
_BLOCK_SAMPLES = 1 << 18  # half a megabyte, which every processor's second cache holds
_ALIGNED = 2  # a tile's edge may look a sample or two further out where neighbours happen to agree
# Above this share of the way from black to white a constant value is taken for clipping.
_CLIPPED = 0.5
# A camera whose black level is 0 writes zeros wherever it is dark. Zeros mean damage only where
# there are hardly any (this share) in the rest of the picture.
_STRAY_ZEROS = 0.01


@dataclass(frozen=True)
class Rows:
    """The longest run of each row: where it begins, its length (0: none), its two values; and
    whether the row repeats the one two above it."""

    start: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    repeats: Mask


def examined_copy(visible: Mosaic) -> tuple[Mosaic, Rows]:
    """A C-contiguous copy of `visible`, uint16 (H, W), and what its rows look like.

    Both at once, block by block: the second look finds the samples in the processor's cache.
    """
    from rawisp.kernels import damage

    height, width = visible.shape
    mosaic = np.empty((height, width), np.uint16)
    start, length = np.zeros(height, np.int64), np.zeros(height, np.int64)
    repeats = np.zeros(height, np.bool_)
    block = max(_BLOCK_SAMPLES // width, 2)
    for first in range(0, height, block):
        last = min(first + block, height)
        mosaic[first:last] = visible[first:last]
        if width >= 3:
            damage.longest_flat_runs(
                mosaic[first:last], min(_RUN, width), start[first:last], length[first:last]
            )
        above = max(first - 2, 0)  # the rows that the block's first ones are compared with
        here = np.zeros(last - above, np.bool_)
        damage.repeated_rows(mosaic[above:last], here)
        repeats[first:last] = here[first - above :]
    row = np.arange(height)
    pair = np.stack([mosaic[row, start], mosaic[row, np.minimum(start + 1, width - 1)]])
    low, high = pair.min(0).astype(np.int64), pair.max(0).astype(np.int64)
    return mosaic, Rows(start, length, low, high, repeats)


def suspicions_of(
    name: str,
    mosaic: Mosaic,
    rows: Rows,
    black: npt.NDArray[np.float64],
    white: npt.NDArray[np.float64],
) -> tuple[str, ...]:
    """A sentence for each kind of rows that no sensor writes; empty for a sound picture.

    mosaic, rows: of `examined_copy`, of memory that was poisoned. black, white: levels by colour.
    CorruptFileError where part of it was never written, or where everything is zero.
    """
    _check_written(name, mosaic, rows)
    first = mosaic[0, 0]
    if (mosaic[0] == first).all() and (mosaic == first).all():
        if first == 0:
            raise CorruptFileError(
                name,
                "decodes to nothing but zeros",
                "it is damaged, or in a compression that LibRaw does not really read",
            )
        return (f"every sample is {int(first)}",)
    found = []
    below = _below_black(mosaic, rows, float(black.min()))
    if below.any():
        values = np.unique(rows.low[below])
        value = f"one value ({values[0]})" if len(values) == 1 else "constant values"
        found.append(
            f"{_ranges(below)} hold {value} below the black level, which no sensor writes: the "
            "file is damaged there"
        )
    flat = _flat_above_black(mosaic, rows, float(black.min()), float(white.max())) & ~below
    if flat.any():
        found.append(
            f"{_ranges(flat)} hold flat stretches, which no sensor writes: the file is damaged or "
            "cut short there"
        )
    repeats = _repeating(mosaic, rows) & ~below & ~flat
    if repeats.any():
        found.append(
            f"{_ranges(repeats)} repeat the rows above, which no sensor writes: the file is "
            "damaged or cut short there"
        )
    return tuple(found)


def _check_written(name: str, mosaic: Mosaic, rows: Rows) -> None:
    missing = (rows.length > 0) & (rows.low == CANARY) & (rows.high == CANARY)
    if missing.any():
        share = 100 * (mosaic == CANARY).mean()
        raise CorruptFileError(
            name,
            f"is damaged: {share:.3g} % of its picture cannot be decoded ({_ranges(missing)})",
            "copy it again from the card",
        )


def _below_black(mosaic: Mosaic, rows: Rows, black: float) -> Mask:
    """Rows with a run below black, if there are enough of them to be no defect of the sensor."""
    if black > 0:
        chosen = (rows.length > 0) & (rows.high < black)
    else:
        chosen = (rows.length > 0) & (rows.high == 0)
        if chosen.any():
            zeros = int((mosaic == 0).sum())
            inside = int(rows.length[chosen].sum())
            if zeros - inside > _STRAY_ZEROS * (mosaic.size - inside):
                chosen[:] = False
    if rows.length[chosen].sum() < min(_FEWEST_SAMPLES, 2 * mosaic.shape[1]):
        chosen[:] = False
    return chosen


def _flat_above_black(mosaic: Mosaic, rows: Rows, black: float, white: float) -> Mask:
    """Flat runs below one another, neither below black nor likely to be clipped: a tile's width.

    A sensor of very little noise has flat runs here and there, but they begin anywhere.
    """
    clipped = rows.high >= black + _CLIPPED * (white - black)
    flat = (rows.length > 0) & ~clipped & (rows.high >= max(black, 1))
    aligned = np.abs(np.diff(rows.start, prepend=rows.start[:1])) <= _ALIGNED
    return _in_a_row(flat & aligned, _FEWEST_FLAT_ROWS)


def _repeating(mosaic: Mosaic, rows: Rows) -> Mask:
    flat = rows.length >= mosaic.shape[1]
    return _in_a_row(rows.repeats & ~flat, _FEWEST_REPEATED_ROWS)


def _in_a_row(chosen: Mask, fewest: int) -> Mask:
    """`chosen` without stretches shorter than `fewest`."""
    kept = np.zeros_like(chosen)
    for first, last in _stretches(chosen):
        if last - first + 1 >= fewest:
            kept[first : last + 1] = True
    return kept


def _stretches(chosen: Mask) -> list[tuple[int, int]]:
    """(first, last) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _ranges(chosen: Mask) -> str:
    """The longest stretch and how many others: "rows 603 to 3463 (83 % of the height)", "row 7"."""
    stretches = _stretches(chosen)
    first, last = max(stretches, key=lambda one: one[1] - one[0])
    text = f"row {first}" if first == last else f"rows {first} to {last}"
    if len(stretches) > 1:
        text += f" and {len(stretches) - 1} more stretches"
    return f"{text} ({100 * chosen.mean():.3g} % of the height)" if chosen.sum() > 1 else text
