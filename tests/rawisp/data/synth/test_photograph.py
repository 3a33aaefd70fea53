"""Photographs of every kind that a JPEG or PNG may hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rawisp.data.synth import read_photograph
from rawisp.errors import CorruptFileError, TooLargeError, UnreadableFileError


def colours() -> np.ndarray:
    """uint8 (6, 8, 3) with a different colour in each quarter."""
    rgb = np.zeros((6, 8, 3), np.uint8)
    rgb[:3, :4], rgb[:3, 4:], rgb[3:, :4] = (200, 30, 40), (20, 180, 60), (30, 60, 220)
    return rgb


def test_rgb_comes_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "a.png")
    rgb = read_photograph(tmp_path / "a.png")
    assert rgb.dtype == np.uint8 and (rgb == colours()).all() and rgb.flags.writeable


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, mode: str) -> None:
    Image.fromarray(colours()).convert(mode).save(tmp_path / "a.png")
    rgb = read_photograph(tmp_path / "a.png")
    assert rgb.shape == (6, 8, 3) and (rgb == rgb[..., :1]).all() and len(np.unique(rgb)) > 1


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    Image.fromarray(colours()).quantize(4).save(tmp_path / "a.png")
    assert np.abs(read_photograph(tmp_path / "a.png").astype(int) - colours()).max() <= 4


def test_16_bits_are_rounded_to_8(tmp_path: Path) -> None:
    grey = np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert read_photograph(tmp_path / "a.png")[0, :, 1].tolist() == [0, 0, 1, 1, 128, 255]


def test_transparent_parts_lie_on_black(tmp_path: Path) -> None:
    rgba = np.dstack([colours(), np.full((6, 8), 255, np.uint8)])
    rgba[0, 0, 3], rgba[0, 1, 3] = 0, 128
    Image.fromarray(rgba).save(tmp_path / "a.png")
    rgb = read_photograph(tmp_path / "a.png")
    assert rgb[0, :3].tolist() == [[0, 0, 0], [100, 15, 20], [200, 30, 40]]
    assert (rgb[3:] == colours()[3:]).all()


def test_cmyk_is_converted(tmp_path: Path) -> None:
    large = colours().repeat(8, axis=0).repeat(8, axis=1)
    Image.fromarray(large).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    rgb = read_photograph(tmp_path / "a.jpg")
    assert np.abs(rgb[4, 4].astype(int) - (200, 30, 40)).max() < 20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_as_viewers_show_it(tmp_path: Path, orientation: int) -> None:
    stored = Image.fromarray(colours())
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    flipped = {
        1: colours(), 2: colours()[:, ::-1], 3: colours()[::-1, ::-1], 4: colours()[::-1],
        5: colours().swapaxes(0, 1), 6: np.rot90(colours(), -1),
        7: np.rot90(colours(), 2).swapaxes(0, 1), 8: np.rot90(colours(), 1),
    }[orientation]  # fmt: skip
    assert (read_photograph(tmp_path / "a.png") == flipped).all()


def test_a_single_pixel_is_a_photograph(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read_photograph(tmp_path / "a.png").tolist() == [[[1, 2, 3]]]


def test_what_is_broken_is_said_in_one_sentence(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "short.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name in ("short.jpg", "text.jpg", "empty.jpg"):
        with pytest.raises(CorruptFileError, match="is damaged or no photograph"):
            read_photograph(tmp_path / name)
    for name in ("missing.jpg", "."):
        with pytest.raises(UnreadableFileError):
            read_photograph(tmp_path / name)


def test_a_mosaic_beyond_the_limit_is_refused_before_decoding(tmp_path: Path) -> None:
    Image.new("RGB", (400, 300)).save(tmp_path / "a.png")
    assert read_photograph(tmp_path / "a.png", scale=2, max_megapixels=0.48).shape == (300, 400, 3)
    with pytest.raises(TooLargeError, match="would become a mosaic of 1200x900, more than"):
        read_photograph(tmp_path / "a.png", scale=3, max_megapixels=0.48)
