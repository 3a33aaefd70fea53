"""Colour and light of a photograph, against published numbers and by inversion."""

from __future__ import annotations

import numpy as np
import pytest

from rawisp.color import XYZ_FROM_LINEAR_SRGB
from rawisp.data.synth import scene


def chromaticity(xyz: np.ndarray) -> tuple[float, float]:
    return float(xyz[0] / xyz.sum()), float(xyz[1] / xyz.sum())


def tone_curve(light: float, shoulder: float, headroom: float) -> float:
    """The curve that the decoding table undoes, written the other way round."""
    if light <= shoulder:
        return light
    ratio = (headroom - shoulder) / (1 - shoulder)
    u = (light - shoulder) / (1 - shoulder)
    return shoulder + (1 - shoulder) * u / (1 + u * (1 - 1 / ratio))


@pytest.mark.parametrize(
    ("kelvin", "x", "y"),
    [
        (2856, 0.4476, 0.4074),  # CIE standard illuminant A
        (5003, 0.3457, 0.3585),  # D50
        (6504, 0.3127, 0.3290),  # D65
        (7504, 0.2990, 0.3149),  # D75
    ],
)
def test_white_has_the_published_chromaticity(kelvin: float, x: float, y: float) -> None:
    assert chromaticity(scene.white_of(kelvin)) == pytest.approx((x, y), abs=6e-4)


def test_warmer_light_is_redder_and_brightness_stays() -> None:
    whites = [scene.white_of(kelvin) for kelvin in (2000, 2221, 2223, 3000, 3999, 4500, 6504, 9000)]
    reds = [chromaticity(white)[0] for white in whites]
    assert reds == sorted(reds, reverse=True)
    assert all(white[1] == 1 for white in whites)


def test_adaptation_takes_white_to_white_and_does_nothing_at_d65() -> None:
    d65 = XYZ_FROM_LINEAR_SRGB.sum(axis=1)
    assert scene.adaptation(2500) @ d65 == pytest.approx(scene.white_of(2500), abs=1e-9)
    assert scene.adaptation(6504) == pytest.approx(np.eye(3), abs=2e-3)


def test_the_table_undoes_srgb_up_to_the_shoulder() -> None:
    table = scene.decoding_table(0.5, 3.0)
    assert table[[0, 10, 118]] == pytest.approx([0, 0.003035, 0.181164], abs=1e-6)


def test_the_table_undoes_the_tone_curve_above_it() -> None:
    table = scene.decoding_table(0.5, 3.0)
    code = np.arange(256) / 255
    encoded = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    again = [tone_curve(float(light), 0.5, 3.0) for light in table]
    assert again == pytest.approx(encoded, abs=1e-6)
    assert table[255] == pytest.approx(3.0) and (np.diff(table) > 0).all()


def test_without_headroom_nothing_is_spread() -> None:
    assert scene.decoding_table(0.5, 1.0)[[200, 255]] == pytest.approx([0.577580, 1.0], abs=1e-6)


def test_the_table_cannot_be_written_to_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        scene.decoding_table(0.5, 3.0)[0] = 1


def test_mid_tone_is_the_median_luminance_and_has_a_floor() -> None:
    rgb = np.full((8, 8, 3), 118, np.uint8)
    rgb[:3] = 255
    assert scene.mid_tone(scene.scene_light(rgb, 0.5, 3.0)) == pytest.approx(0.1812, abs=1e-4)
    black = np.zeros((1, 1, 3), np.uint8)
    assert scene.mid_tone(scene.scene_light(black, 0.5, 3.0)) == pytest.approx(0.02)


def test_camera_light_is_the_matrix_and_never_negative() -> None:
    rng = np.random.default_rng(0)
    light = rng.random((3, 5, 7)).astype(np.float32)
    matrix = rng.normal(size=(3, 3))
    naive = np.maximum(np.einsum("ij,jhw->ihw", matrix, light.astype(np.float64)), 0)
    assert scene.camera_light(light, matrix) == pytest.approx(naive, abs=1e-6)
