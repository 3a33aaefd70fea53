"""XYZ against LibRaw's own: rawpy.postprocess with daylight white balance and XYZ output.

LibRaw multiplies by pre_mul / min(pre_mul), clips, and applies S . rgb_cam. With daylight
multipliers S . rgb_cam . diag(pre_mul) = M^-1, so its output is M^-1 c / min(pre_mul), one factor
for all three channels, as far as nothing clips. Its arithmetic is 16 bit: steps of 1 / 65535.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rawpy

from rawisp.raw import RawFrame, open_raw
from rawisp.raw.container import CAMERA_BODIES, dng_tags, write_container

Array = npt.NDArray[Any]
WriteRaw = Callable[..., Path]

# LibRaw 0.22's xyz_rgb (dcraw's had fewer digits).
S = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
CODES = 3.5 / 65535  # three roundings: scaled sample, green average, matrix


def colourful(height: int, width: int, black: int, white: int, pattern: str = "RGGB") -> Array:
    """A mosaic that runs smoothly through saturated red, green, blue and their mixtures."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    planes = {"R": 0.02 + 0.4 * x, "G": 0.02 + 0.8 * y, "B": 0.02 + 0.7 * (1 - x) * (1 - y)}
    share = np.empty((height, width))
    for position, letter in enumerate(pattern):
        dy, dx = divmod(position, 2)
        share[dy::2, dx::2] = planes[letter][dy::2, dx::2]
    return np.rint(black + (white - black) * share).astype(np.uint16)


def libraw_xyz(path: Path) -> tuple[Array, Array]:
    """(LibRaw's half-size XYZ in 0..1, its daylight multipliers by colour R, G, B)."""
    with open(path, "rb") as file, rawpy.imread(file) as raw:
        multipliers = np.array(raw.daylight_whitebalance[:3])
        image = raw.postprocess(
            output_color=rawpy.ColorSpace.XYZ,
            gamma=(1, 1),
            half_size=True,
            no_auto_bright=True,
            output_bps=16,
            user_flip=0,
            adjust_maximum_thr=0,
            highlight_mode=rawpy.HighlightMode.Clip,
            use_camera_wb=False,
            use_auto_wb=False,
        )
    return image / 65535.0, multipliers


def unclipped(frame: RawFrame, multipliers: Array, libraw: Array) -> Array:
    """Where all four samples of a cell, and what LibRaw makes of them, lie inside 0..1."""
    rows, columns = (2 * (side // 2) for side in frame.mosaic.shape)
    cells = frame.mosaic[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2).astype(float)
    darkest = cells.min(axis=(1, 3))
    scaled = frame.pack("camera") * multipliers / multipliers.min()
    brightest = (cells.max(axis=(1, 3)) - frame.black.min()) / (frame.white - frame.black).min()
    good = (darkest > frame.black.max()) & (scaled < 0.999).all(axis=-1)
    good &= brightest * multipliers[1] / multipliers.min() < 0.999
    return np.asarray(good & ((libraw > 0) & (libraw < 1)).all(axis=-1))


@pytest.mark.parametrize("pattern", ["RGGB", "GRBG", "GBRG", "BGGR"])
@pytest.mark.parametrize("body", CAMERA_BODIES.values(), ids=CAMERA_BODIES.keys())
def test_xyz_is_libraws_for_saturated_colours(write_raw: WriteRaw, body: Any, pattern: str) -> None:
    mosaic = colourful(80, 120, body.black, body.white, pattern)
    path = write_raw("a.raw", mosaic, model=body.model, pattern=pattern)
    frame = open_raw(path)
    libraw, multipliers = libraw_xyz(path)
    camera = frame.pack("camera")
    ours = frame.pack("xyz") / multipliers.min()
    good = unclipped(frame, multipliers, libraw)
    assert good.mean() > 0.3
    saturation = camera[good].max(axis=-1) / camera[good].min(axis=-1)
    assert np.percentile(saturation, 75) > 3, "the picture must not be grey"
    assert np.abs(libraw[good] - ours[good]).max() < CODES


@pytest.mark.parametrize("body", CAMERA_BODIES.values(), ids=CAMERA_BODIES.keys())
def test_libraws_multipliers_are_those_of_the_matrix(write_raw: WriteRaw, body: Any) -> None:
    path = write_raw("a.raw", model=body.model)
    balance = open_raw(path).daylight_balance
    assert balance is not None
    response = (np.array(body.xyz_to_camera) @ S).sum(axis=1)
    np.testing.assert_allclose(balance[:3], 1 / response, rtol=1e-5)
    assert balance[3] == balance[1]


def test_uninverted_xyz_is_not_libraws(write_raw: WriteRaw) -> None:
    body = CAMERA_BODIES["DSC-RX100M7"]
    path = write_raw("a.raw", colourful(80, 120, body.black, body.white))
    frame = open_raw(path)
    libraw, multipliers = libraw_xyz(path)
    good = unclipped(frame, multipliers, libraw)
    wrong = frame.pack("xyz-uninverted") / multipliers.min()
    assert np.abs(libraw[good] - wrong[good]).max() > 0.2


@pytest.mark.parametrize("active_area", [None, (4, 6, 78, 118), (3, 5, 77, 118)])
def test_a_dngs_own_matrix_gives_what_libraw_gives_for_the_same_table(
    write_raw: WriteRaw, active_area: Any
) -> None:
    """LibRaw hides a DNG's matrix from rawpy, and uses it in postprocess."""
    M = CAMERA_BODIES["DSC-RX100M7"].xyz_to_camera
    mosaic = colourful(80, 120, 512, 16000)
    tags = dng_tags(color_matrices=[(21, M)], black=(512,), white=16000, active_area=active_area)
    path = write_raw("a.dng", mosaic, extra_tags=tags)
    frame = open_raw(path)
    assert frame.matrix is not None
    np.testing.assert_allclose(frame.matrix.xyz_to_camera, M, atol=1e-6)
    libraw, multipliers = libraw_xyz(path)
    ours = frame.pack("xyz") / multipliers.min()
    libraw = libraw[: ours.shape[0], : ours.shape[1]]  # LibRaw keeps half a cell at odd borders
    good = unclipped(frame, multipliers, libraw)
    assert good.mean() > 0.3
    assert np.abs(libraw[good] - ours[good]).max() < CODES


@pytest.mark.parametrize("model", ["ACME One", "DSC-RX100M7"])
def test_a_dngs_own_matrix_counts_whether_or_not_libraw_knows_the_camera(
    tmp_path: Path, model: str
) -> None:
    """LibRaw develops a DNG with the file's matrix and daylight multipliers, also where its table
    has the camera; a rgb_xyz_matrix from the table would contradict daylight_balance."""
    own = np.array([[0.9, -0.3, 0.05], [-0.3, 1.1, 0.2], [-0.05, 0.2, 0.8]])
    path = tmp_path / "a.dng"
    tags = dng_tags(color_matrices=[(21, own)], black=(512,), white=16000)
    mosaic = colourful(80, 120, 512, 16000)
    write_container(path, mosaic, make="SONY", model=model, extra_tags=tags)
    frame = open_raw(path)
    libraw, multipliers = libraw_xyz(path)
    np.testing.assert_allclose(multipliers, 1 / (own @ S).sum(axis=1), rtol=1e-5)
    good = unclipped(frame, multipliers, libraw)
    ours = frame.pack("xyz") / multipliers.min()
    assert np.abs(libraw[good] - ours[good]).max() < CODES


def test_a_real_dng_agrees_up_to_the_white_balance_of_its_light(real_raw: Path) -> None:
    """colorchart.dng has its own white balance, which LibRaw applies as daylight multipliers."""
    path = real_raw / "colorchart.dng"
    frame = open_raw(path)
    assert frame.matrix is not None
    libraw, multipliers = libraw_xyz(path)
    response = (frame.matrix.xyz_to_camera @ S).sum(axis=1)
    # Undo the balance that LibRaw chose, then bring its white (S . 1) back to M's own.
    camera = frame.pack("camera").astype(np.float64)
    balanced = camera * multipliers / multipliers.min()
    good = unclipped(frame, multipliers, libraw)
    rgb_cam = np.linalg.inv((frame.matrix.xyz_to_camera @ S) / response[:, None])
    expected = balanced @ (S @ rgb_cam).T
    assert good.mean() > 0.5
    assert np.abs(libraw[good] - expected[good]).max() < CODES
    # and the product's XYZ is that without any balance
    np.testing.assert_allclose(
        frame.pack("xyz"), camera @ (S @ rgb_cam @ np.diag(1 / response)).T, atol=5e-6
    )
