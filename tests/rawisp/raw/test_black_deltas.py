"""DNG's BlackLevelDeltaH and BlackLevelDeltaV: a black level that varies along rows and columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rawisp.raw import Overrides, RawFrame, open_raw
from rawisp.raw.container import CAMERA_BODIES, dng_tags

Array = npt.NDArray[Any]
WriteRaw = Callable[..., Path]

HEIGHT, WIDTH = 40, 60
ROWS = np.linspace(-40, 60, HEIGHT)  # BlackLevelDeltaV
COLUMNS = np.where(np.arange(WIDTH) % 2, 25.0, -12.5)  # BlackLevelDeltaH
MATRIX = CAMERA_BODIES["NIKON D750"].xyz_to_camera


def rationals(values: Array) -> tuple[int, ...]:
    return tuple(part for value in values for part in (round(value * 1000), 1000))


def write(write_raw: WriteRaw, mosaic: Array, *, rows: bool = True, columns: bool = True,
          black: tuple[float, ...] = (500,), **options: Any) -> Path:  # fmt: skip
    tags = dng_tags(color_matrices=[(21, MATRIX)], black=black, white=4095, **options)
    if columns:
        tags.append((50715, "2i", WIDTH, rationals(COLUMNS)))
    if rows:
        tags.append((50716, "2i", HEIGHT, rationals(ROWS)))
    return write_raw("deltas.dng", mosaic, extra_tags=tags)


def deltas(rows: bool, columns: bool) -> Array:
    return (ROWS[:, None] if rows else 0) + (COLUMNS[None] if columns else np.zeros((1, WIDTH)))


@pytest.mark.parametrize(("rows", "columns"), [(True, True), (True, False), (False, True)])
def test_a_flat_field_is_flat(write_raw: WriteRaw, rows: bool, columns: bool) -> None:
    """With the average instead of the deltas this field spans 0.26 to 0.30."""
    level = np.broadcast_to(1500 + deltas(rows, columns), (HEIGHT, WIDTH))
    path = write(write_raw, np.rint(level).astype(np.uint16), rows=rows, columns=columns)
    packed = open_raw(path).pack("camera")
    np.testing.assert_allclose(packed, 1000 / 3595, atol=0.51 / 3595)


@pytest.mark.parametrize("color", ["camera", "xyz"])
@pytest.mark.parametrize("orient", ["sensor", "upright"])
@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_packing_equals_a_slow_twin(
    write_raw: WriteRaw, color: Any, orient: str, layout: Any
) -> None:
    mosaic = np.random.default_rng(0).integers(400, 4095, (HEIGHT, WIDTH)).astype(np.uint16)
    frame: RawFrame = open_raw(write(write_raw, mosaic, black=(500, 510, 520, 530)))
    cell = np.tile(np.array([[500, 510], [520, 530]]), (HEIGHT // 2, WIDTH // 2))
    black = cell + deltas(True, True)
    light = (mosaic - black) / (4095 - cell)
    rgb = np.stack([light[::2, ::2], (light[::2, 1::2] + light[1::2, ::2]) / 2, light[1::2, 1::2]])
    matrix = np.eye(3) if color == "camera" else np.linalg.inv(np.array(MATRIX))
    expected = np.einsum("ij,jyx->iyx", matrix, rgb)
    packed = frame.pack(color, orient=orient, layout=layout)
    planar = packed if layout == "chw" else np.moveaxis(packed, -1, 0)
    np.testing.assert_allclose(planar, expected, atol=3e-6)


def test_the_facts_tell_how_far_it_varies(write_raw: WriteRaw) -> None:
    facts = open_raw(write(write_raw, np.full((HEIGHT, WIDTH), 1500, np.uint16))).facts()
    assert facts["black_varies"] == {"rows": [-40.0, 60.0], "columns": [-12.5, 25.0]}
    assert facts["black"] == [500.0] * 4


def test_a_given_black_level_stands_alone(write_raw: WriteRaw) -> None:
    path = write(write_raw, np.full((HEIGHT, WIDTH), 1500, np.uint16))
    frame = open_raw(path, overrides=Overrides(black=(300.0,)))
    assert frame.black_rows is None
    np.testing.assert_allclose(frame.pack("camera"), 1200 / 3795, atol=1e-6)


def test_the_active_areas_corner_counts(write_raw: WriteRaw) -> None:
    """The deltas begin at the active area, whose odd corner LibRaw rounds up."""
    mosaic = np.full((HEIGHT, WIDTH), 1500, np.uint16)
    frame = open_raw(write(write_raw, mosaic, active_area=(1, 3, HEIGHT, WIDTH)))
    with_top = frame.frames["raw"].to_visible.points([0, 0])
    left, top = (-with_top).tolist()
    assert frame.black_rows is not None
    assert frame.black_columns is not None
    np.testing.assert_allclose(frame.black_rows[:5], ROWS[int(top) - 1 :][:5], atol=1e-3)
    np.testing.assert_allclose(frame.black_columns[:5], COLUMNS[int(left) - 3 :][:5], atol=1e-3)


def test_without_a_black_level_the_deltas_are_added_to_zero(write_raw: WriteRaw) -> None:
    tags = [tag for tag in dng_tags(white=4095) if tag[0] != 50714]
    tags.append((50716, "2i", HEIGHT, rationals(ROWS + 100)))
    frame = open_raw(write_raw("a.dng", np.full((HEIGHT, WIDTH), 1500, np.uint16), extra_tags=tags))
    assert frame.black.tolist() == [0] * 4
    assert frame.black_rows is not None
    np.testing.assert_allclose(frame.black_rows, ROWS + 100, atol=1e-3)
