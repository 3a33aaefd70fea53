"""Containers that this project writes are what LibRaw takes for the camera's own files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rawpy
import tifffile

from rawisp.errors import InvalidArrayError
from rawisp.raw import open_raw
from rawisp.raw.container import CAMERA_BODIES, dng_tags, write_container

WriteRaw = Callable[..., Path]
each_body = pytest.mark.parametrize("body", CAMERA_BODIES.values(), ids=CAMERA_BODIES.keys())


def mosaic_of(height: int = 30, width: int = 44, top: int = 16384) -> Any:
    return np.random.default_rng(0).integers(0, top, (height, width)).astype(np.uint16)


@each_body
@pytest.mark.parametrize("size", [(30, 44), (31, 45), (22, 22)])
def test_libraw_reads_back_every_sample(write_raw: WriteRaw, body: Any, size: Any) -> None:
    mosaic = mosaic_of(*size)
    path = write_raw(f"a{body.suffix}", mosaic, model=body.model)
    with open(path, "rb") as file, rawpy.imread(file) as raw:
        assert np.array_equal(raw.raw_image, mosaic)
        assert np.array_equal(raw.raw_image_visible, mosaic)
    assert np.array_equal(open_raw(path).mosaic, mosaic)


@each_body
def test_the_bodys_facts_are_libraws(write_raw: WriteRaw, body: Any) -> None:
    """The table in container.py is a copy; LibRaw's own is the truth."""
    path = write_raw(f"a{body.suffix}", mosaic_of(), model=body.model)
    with open(path, "rb") as file, rawpy.imread(file) as raw:
        assert raw.black_level_per_channel == [body.black] * 4
        assert raw.white_level == body.white
        table = raw.rgb_xyz_matrix[:3]
    np.testing.assert_allclose(table, body.xyz_to_camera, atol=1e-7)
    frame = open_raw(path)
    assert frame.matrix is not None
    assert np.array_equal(frame.matrix.xyz_to_camera, np.array(body.xyz_to_camera))
    assert frame.matrix.source == "LibRaw's table"
    assert frame.black.tolist() == [body.black] * 4
    assert frame.white.tolist() == [body.white] * 4
    assert frame.levels_source == "LibRaw"


def test_the_bytes_depend_on_nothing_else(tmp_path: Path) -> None:
    options: dict[str, Any] = {"make": "SONY", "model": "X", "iso": 100, "shutter_s": 1 / 30}
    for name in ("a", "b"):
        write_container(tmp_path / name, mosaic_of(), **options)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tags_are_written_in_ascending_order_as_tiff_demands(write_raw: WriteRaw) -> None:
    path = write_raw(
        "a.dng",
        mosaic_of(),
        iso=100,
        aperture_f=2.8,
        extra_tags=dng_tags(
            color_matrices=[(21, np.eye(3))],
            black=(1, 2, 3, 4),
            active_area=(0, 0, 30, 44),
            default_crop=(1, 1, 20, 20),
            analog_balance=(1, 1, 1),
        ),
    )
    with tifffile.TiffFile(path) as tiff:
        codes = [tag.code for tag in tiff.pages[0].tags]
        assert tiff.byteorder == "<"
    assert codes == sorted(codes)
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("white", [1023, 4095, 16383, 65535])
def test_a_dngs_levels_are_its_own(write_raw: WriteRaw, white: int) -> None:
    tags = dng_tags(black=(16, 17, 18, 19), white=white, color_matrices=[(21, np.eye(3))])
    frame = open_raw(write_raw("a.dng", mosaic_of(top=white), extra_tags=tags))
    assert frame.white.tolist() == [white] * 4
    # written by position in the cell: R, G1 in red's row, then G2, B
    assert frame.black.tolist() == [16, 17, 19, 18]


@pytest.mark.parametrize(
    "mosaic",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint16), np.zeros((4, 4), np.float32)],
    ids=["uint8", "three channels", "float"],
)
def test_only_a_uint16_mosaic_can_be_written(tmp_path: Path, mosaic: Any) -> None:
    with pytest.raises(InvalidArrayError, match="mosaic must be uint16"):
        write_container(tmp_path / "a", mosaic, make="SONY", model="X")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("pattern", ["", "RGG", "RGGBB", "rggb", "RGGE"])
def test_a_pattern_has_four_letters(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InvalidArrayError, match="pattern"):
        write_container(tmp_path / "a", mosaic_of(), make="SONY", model="X", pattern=pattern)


def test_names_that_are_no_utf8_can_be_written(tmp_path: Path) -> None:
    path = bytes(tmp_path) + b"/caf\xe9.ARW"
    write_container(path, mosaic_of(), make="SONY", model="DSC-RX100M7")  # type: ignore[arg-type]
    assert open_raw(path).pattern == "RGGB"
