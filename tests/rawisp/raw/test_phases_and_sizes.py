"""Files against rawpy: the packed image rebuilt sample by sample from LibRaw's colour indices.

rawpy's raw_colors_visible says of every visible sample which colour it is, so the oracle knows
nothing of phases, patterns or margins.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rawpy
import tifffile

from rawisp.errors import InputError, UnsupportedRawError
from rawisp.raw import RawFrame, open_raw
from rawisp.raw.container import dng_tags

Array = npt.NDArray[Any]
WriteRaw = Callable[..., Path]

# Not any camera's: no symmetry that could hide a transposition.
MATRIX = np.array(
    [[1.0315, -0.4390, -0.0937], [-0.4859, 1.2734, 0.2365], [-0.0734, 0.1537, 0.5997]]
)
BLACK = (100.0, 160.0, 220.0, 310.0)  # by position in the cell
WHITE = 4095

PATTERNS = ["RGGB", "GRBG", "GBRG", "BGGR"]
SIZES = [(30, 40), (31, 40), (30, 41), (31, 41)]  # LibRaw refuses less than 22
AREAS = {
    "whole": None,
    "even corner": (2, 4, 29, 39),
    "odd row": (3, 4, 29, 38),
    "odd column": (2, 5, 28, 39),
    "odd corner": (3, 5, 30, 40),
}


def mosaic_of(height: int, width: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.integers(0, WHITE + 1, (height, width)).astype(np.uint16)


def rebuilt(path: Path, matrix: Array | None, blacks: Array | None = None) -> Array:
    """(H // 2, W // 2, 3) float64 from what rawpy says of every single sample.

    `blacks`: a level for each raw sample, where LibRaw's own are known to be wrong.
    """
    with open(path, "rb") as file, rawpy.imread(file) as raw:
        samples, colours = raw.raw_image_visible, raw.raw_colors_visible
        white = raw.white_level
        by_index = np.array(raw.black_level_per_channel, np.float64)
        black = by_index[colours]
        if blacks is not None:
            top, left = raw.sizes.top_margin, raw.sizes.left_margin
            black = blacks[top : top + samples.shape[0], left : left + samples.shape[1]]
        assert raw.color_desc == b"RGBG"
        rows, columns = samples.shape[0] // 2, samples.shape[1] // 2
        out = np.zeros((rows, columns, 3))
        for y in range(2 * rows):
            for x in range(2 * columns):
                index = int(colours[y, x])
                value = (float(samples[y, x]) - black[y, x]) / (white - black[y, x])
                channel, share = [(0, 1.0), (1, 0.5), (2, 1.0), (1, 0.5)][index]
                out[y // 2, x // 2, channel] += share * value
    return out if matrix is None else out @ matrix.T


def write_dng(write_raw: WriteRaw, mosaic: Array, pattern: str, **facts: Any) -> Path:
    facts = {"black": BLACK, "white": WHITE, "color_matrices": [(21, MATRIX)]} | facts
    return write_raw("a.dng", mosaic, pattern=pattern, extra_tags=dng_tags(**facts))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("area", AREAS.values(), ids=AREAS.keys())
def test_packing_follows_libraws_colour_of_every_sample(
    write_raw: WriteRaw, pattern: str, size: tuple[int, int], area: Any
) -> None:
    path = write_dng(write_raw, mosaic_of(*size), pattern, active_area=area)
    frame = open_raw(path)
    # LibRaw does not move BlackLevel's cell along with a corner that it rounds up.
    top, left = area[:2] if area else (0, 0)
    y, x = np.mgrid[: size[0], : size[1]]
    blacks = np.array(BLACK).reshape(2, 2)[(y - top) % 2, (x - left) % 2]
    camera = rebuilt(path, None, blacks)
    for color, expected in {
        "camera": camera,
        "xyz": camera @ np.linalg.inv(MATRIX).T,
        "xyz-uninverted": camera @ MATRIX.T,
    }.items():
        hwc = frame.pack(color)  # type: ignore[arg-type]
        chw = frame.pack(color, layout="chw")  # type: ignore[arg-type]
        np.testing.assert_allclose(hwc, expected, atol=2e-6, err_msg=color)
        np.testing.assert_allclose(np.moveaxis(chw, 0, -1), expected, atol=2e-6, err_msg=color)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("model", ["DSC-RX100M7", "NIKON D750"])
def test_a_camera_of_libraws_table_needs_no_tags_of_its_own(
    write_raw: WriteRaw, pattern: str, model: str
) -> None:
    path = write_raw("a.raw", mosaic_of(35, 45), model=model, pattern=pattern)
    with open(path, "rb") as file, rawpy.imread(file) as raw:
        matrix = np.linalg.inv(raw.rgb_xyz_matrix[:3].astype(np.float64))
    np.testing.assert_allclose(open_raw(path).pack("xyz"), rebuilt(path, matrix), atol=2e-6)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_one_bright_sample_reaches_only_its_own_colour(write_raw: WriteRaw, pattern: str) -> None:
    for row, column in [(8, 10), (8, 11), (9, 10), (9, 11)]:
        mosaic = np.full((30, 40), 64, np.uint16)
        mosaic[row, column] = 1064
        path = write_dng(write_raw, mosaic, pattern, black=(64,), white=2064)
        image = open_raw(path).pack("camera")
        expected = np.zeros((15, 20, 3))
        letter = pattern[2 * (row % 2) + column % 2]
        expected[4, 5, "RGB".index(letter)] = 0.25 if letter == "G" else 0.5
        np.testing.assert_allclose(image, expected, atol=1e-7)


def dark_dng(write_raw: WriteRaw, pattern: str, area: tuple[int, int, int, int] | None) -> Path:
    """A mosaic in which every sample is exactly its own black level.

    The DNG specification counts CFAPattern and BlackLevel from the ActiveArea's corner.
    """
    top, left = area[:2] if area else (0, 0)
    y, x = np.mgrid[0:30, 0:40]
    by_position = np.array(BLACK).reshape(2, 2)
    mosaic = by_position[(y - top) % 2, (x - left) % 2].astype(np.uint16)
    return write_dng(write_raw, mosaic, pattern, active_area=area)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", ["whole", "even corner"])
def test_a_dark_frame_with_four_blacks_becomes_zero(
    write_raw: WriteRaw, pattern: str, name: str
) -> None:
    image = open_raw(dark_dng(write_raw, pattern, AREAS[name])).pack("camera")
    np.testing.assert_allclose(image, 0.0, atol=1e-7)


@pytest.mark.parametrize("name", ["odd row", "odd column", "odd corner"])
def test_an_odd_active_area_moves_the_four_blacks_along_with_the_colours(
    write_raw: WriteRaw, name: str
) -> None:
    """LibRaw moves the colours only: it rounds the corner up and then reads BlackLevel there."""
    image = open_raw(dark_dng(write_raw, "RGGB", AREAS[name])).pack("camera")
    np.testing.assert_allclose(image, 0.0, atol=1e-7)


@pytest.mark.parametrize("black", [(64.9,), (64.25, 64.5, 63.75, 64.9)], ids=["one", "four"])
def test_a_fractional_black_level_keeps_its_fraction(
    write_raw: WriteRaw, black: tuple[float, ...]
) -> None:
    """Phones write such; cut to whole numbers, a dark frame's mean is off by up to a step."""
    path = write_dng(write_raw, mosaic_of(30, 40), "RGGB", black=black, white=1023)
    expected = black * 4 if len(black) == 1 else (black[0], black[1], black[3], black[2])
    np.testing.assert_allclose(open_raw(path).black, expected, atol=1e-4)


@pytest.mark.parametrize(
    "letters", ["RRBB", "RBGG", "GGRB", "RGRB", "GGGG", "RRRR", "BGBR", "RGBR"]
)
def test_other_arrangements_of_four_colours_are_never_packed_wrongly(
    write_raw: WriteRaw, letters: str
) -> None:
    path = write_dng(write_raw, mosaic_of(30, 40), letters, black=(64,))
    with pytest.raises(UnsupportedRawError) as caught:
        open_raw(path)
    assert "\n" not in str(caught.value)


# (rows, columns) of CFARepeatPatternDim and the letters row by row.
LARGER_CELLS = {
    "two rows, then shifted": ((4, 2), "RGGBGRBG"),
    "two columns, then shifted": ((2, 4), "RGGRGBBG"),
    "quad Bayer": ((4, 4), "RRGGRRGGGGBBGGBB"),
    "starts like Bayer": ((4, 4), "RGGRGBBGRGGRGBBG"),
    "eight rows, the last four shifted": ((8, 2), "RGGBRGGBGRBGGRBG"),
    "3x3": ((3, 3), "RGGGBGRGB"),
    "X-Trans": ((6, 6), "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG"),
}


@pytest.mark.parametrize(("cell", "letters"), LARGER_CELLS.values(), ids=LARGER_CELLS.keys())
def test_larger_cells_are_refused_or_follow_libraws_colours(
    tmp_path: Path, cell: tuple[int, int], letters: str
) -> None:
    path = tmp_path / "a.dng"
    tags = dng_tags(color_matrices=[(21, MATRIX)], black=(64,), white=WHITE)
    tags += [(271, "s", 0, "ACME"), (272, "s", 0, "One"), (33421, "H", 2, cell)]
    tags.append((33422, "B", len(letters), bytes("RGB".index(letter) for letter in letters)))
    tifffile.imwrite(
        path,
        mosaic_of(36, 48),
        photometric=32803,
        metadata=None,
        extratags=[(*tag, True) for tag in sorted(tags)],
    )
    try:
        frame = open_raw(path)
    except UnsupportedRawError as error:
        assert "\n" not in str(error)
        return
    np.testing.assert_allclose(frame.pack("camera"), rebuilt(path, None), atol=2e-6)


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (4, 5), (22, 22), (23, 25)])
def test_the_smallest_mosaics_are_packed_or_refused_in_one_sentence(
    write_raw: WriteRaw, size: tuple[int, int]
) -> None:
    """LibRaw refuses some tiny frames itself; what it does decode must come out right."""
    path = write_dng(write_raw, mosaic_of(*size), "RGGB")
    try:
        frame: RawFrame = open_raw(path)
    except InputError as error:
        assert "\n" not in str(error)
        return
    np.testing.assert_allclose(frame.pack("camera"), rebuilt(path, None), atol=2e-6)
