"""From photograph to RAW file and back through `open_raw`: colour, exposure, boxes, seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rawisp
from rawisp.color import XYZ_FROM_LINEAR_SRGB
from rawisp.data.synth import (
    BODIES,
    NightSettings,
    mosaic_size,
    night_generator,
    night_mosaic,
    render_night,
    write_night,
)
from rawisp.errors import InvalidArrayError
from rawisp.packing import PHASES
from rawisp.raw.container import CameraBody

CAMERAS = pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
# The photograph under its own light, with nothing added: what physics can be checked on.
PLAIN = NightSettings(
    stops=(1, 1), illuminant_k=(6504, 6504), lamps=(0, 0), glare=(0, 0), noise=False
)


def photograph(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """Smooth colours with a bright corner."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 200, (4, 5, 3)).astype(np.uint8)
    coarse[0, 0] = 255
    return coarse.repeat(-(-height // 4), axis=0).repeat(-(-width // 5), axis=1)[:height, :width]


def packed(
    path: Path, rgb: np.ndarray, body: CameraBody, settings: NightSettings, seed: int = 0
) -> np.ndarray:
    """XYZ (H/2, W/2, 3), as `rawisp pack` gives it of the file."""
    mosaic, night = night_mosaic(rgb, body, settings, night_generator(seed, "a"))
    write_night(path, mosaic, body, pattern=settings.pattern, iso=night.iso)
    return rawisp.open_raw(path).pack("xyz")


@CAMERAS
@pytest.mark.parametrize("pattern", PHASES)
def test_grey_under_d65_comes_back_as_d65(tmp_path: Path, body: CameraBody, pattern: str) -> None:
    rgb = np.full((20, 24, 3), 118, np.uint8)
    settings = replace(PLAIN, pattern=pattern)
    x, y, z = packed(tmp_path / f"a{body.suffix}", rgb, body, settings).mean(axis=(0, 1))
    assert (x / (x + y + z), y / (x + y + z)) == pytest.approx((0.3127, 0.3290), abs=1e-3)
    assert y == pytest.approx(0.18 / 2, rel=1e-3)  # one stop below 18 %


@CAMERAS
def test_colours_come_back_as_their_xyz(tmp_path: Path, body: CameraBody) -> None:
    codes = np.array([[150, 90, 60], [60, 120, 80], [70, 90, 160], [118, 118, 118]], np.uint8)
    rgb = codes.repeat(12, axis=0)[:, None].repeat(24, axis=1)
    settings = replace(PLAIN, stops=(0, 0), scale=1.0)
    xyz = packed(tmp_path / f"a{body.suffix}", rgb, body, settings)[3::6, 4]
    linear = ((codes / 255 + 0.055) / 1.055) ** 2.4
    expected = linear @ XYZ_FROM_LINEAR_SRGB.T
    assert xyz / xyz[3, 1] == pytest.approx(expected / expected[3, 1], rel=4e-3)


@CAMERAS
def test_files_say_what_they_are(tmp_path: Path, body: CameraBody) -> None:
    mosaic, night = night_mosaic(photograph(), body, NightSettings(), night_generator(0, "a"))
    path = tmp_path / f"a{body.suffix}"
    write_night(path, mosaic, body, iso=night.iso)
    frame = rawisp.open_raw(path)
    assert (frame.mosaic == mosaic).all() and frame.pattern == "RGGB" and not frame.warnings
    assert (frame.exposure.model, frame.exposure.iso) == (body.model, night.iso)
    assert (frame.black == body.black).all() and (frame.white == body.white).all()
    assert frame.matrix is not None
    assert frame.matrix.xyz_to_camera == pytest.approx(np.array(body.xyz_to_camera), abs=1e-6)


@CAMERAS
def test_mid_tones_lie_as_far_below_as_drawn(body: CameraBody, tmp_path: Path) -> None:
    settings = NightSettings(stops=(4, 4), lamps=(0, 0))
    xyz = packed(tmp_path / f"a{body.suffix}", photograph(240, 320), body, settings)
    assert np.median(xyz[..., 1]) == pytest.approx(0.18 / 16, rel=0.1)


def test_more_stops_are_darker() -> None:
    body = BODIES["NIKON D750"]
    means = []
    for stops in (2, 3, 4, 5, 6, 7, 8):
        settings = NightSettings(stops=(stops, stops))
        mosaic, _ = night_mosaic(photograph(), body, settings, night_generator(0, "a"))
        means.append(mosaic.mean())
    assert means == sorted(means, reverse=True) and len(set(means)) == len(means)


@CAMERAS
def test_lamps_reach_white(body: CameraBody) -> None:
    settings = NightSettings(lamps=(3, 3), lamp_size=(0.1, 0.1))
    mosaic, night = night_mosaic(photograph(), body, settings, night_generator(0, "a"))
    for lamp in night.lamps:
        row, column = (int(v * mosaic.shape[1]) // 2 * 2 for v in (lamp.y, lamp.x))
        cell = mosaic[row : row + 2, column : column + 2]
        assert cell.size and (cell == body.white).all()


def test_the_same_seed_gives_the_same_samples_and_another_does_not() -> None:
    body = BODIES["DSC-RX100M7"]

    def made(seed: int, name: str, number: int = 0) -> bytes:
        rng = night_generator(seed, name, number)
        return night_mosaic(photograph(), body, NightSettings(), rng)[0].tobytes()

    first = made(0, "a.jpg")
    assert first == made(0, "a.jpg")
    others = [made(1, "a.jpg"), made(0, "b.jpg"), made(0, "a.jpg", 1), made(0, "Straße/夜.jpg")]
    assert len({first, *others}) == 5


def test_the_clean_picture_is_of_the_same_night() -> None:
    body, rng = BODIES["NIKON D750"], night_generator(0, "a")
    noisy, night = night_mosaic(photograph(240, 320), body, NightSettings(), rng)
    clean_settings = NightSettings(noise=False)
    clean, same = night_mosaic(photograph(240, 320), body, clean_settings, night_generator(0, "a"))
    assert same == night
    again = render_night(photograph(240, 320), body, clean_settings, night, rng)
    assert (again == clean).all()
    inside = clean < 30000  # what clips has no noise to average
    assert noisy[inside].mean() == pytest.approx(clean[inside].mean(), rel=0.005)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [((640, 480), 2, (1280, 960)), ((641, 479), 1, (640, 480)), ((1, 1), 2, (2, 2)),
     ((1, 1), 0.1, (2, 2)), ((101, 33), 1.5, (152, 50)), ((640, 427), 0.5, (320, 214))],
)  # fmt: skip
def test_mosaics_have_even_sides(
    size: tuple[int, int], scale: float, expected: tuple[int, int]
) -> None:
    assert mosaic_size(size, scale) == expected
    rgb = np.zeros((*size[::-1], 3), np.uint8)
    settings = NightSettings(scale=scale)
    mosaic, _ = night_mosaic(rgb, BODIES["dng"], settings, night_generator(0, "a"))
    assert mosaic.shape == expected[::-1]


@pytest.mark.parametrize(
    "rgb",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32),
     np.zeros((0, 4, 3), np.uint8)],
)  # fmt: skip
def test_other_arrays_are_refused(rgb: np.ndarray) -> None:
    with pytest.raises(InvalidArrayError, match="rgb must be uint8"):
        night_mosaic(rgb, BODIES["dng"], NightSettings(), night_generator(0, "a"))
