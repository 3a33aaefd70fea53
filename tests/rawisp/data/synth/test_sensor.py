"""The noise law, levels and mosaic, measured on flat patches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rawisp.data.synth.bodies import BODIES, noise_of
from rawisp.data.synth.sensor import counted, mosaicked, read_out
from rawisp.data.synth.settings import SensorNoise
from rawisp.packing import PHASES
from rawisp.raw.container import CameraBody

CAMERAS = pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)


def codes_of(body: CameraBody) -> float:
    """14-bit codes from black to white."""
    return (body.white - body.black) / (4 if body.white == 65535 else 1)


def flat(body: CameraBody, level: float, iso: int, noise: SensorNoise) -> np.ndarray:
    """Electrons, float64, of a flat patch."""
    rng = np.random.Generator(np.random.PCG64(int(level * 1e6) + iso))
    light = np.full((500, 600), level, np.float32)
    samples = read_out(light, body, noise, iso, rng).astype(np.float64)
    electrons: np.ndarray = (samples - body.black) / (body.white - body.black)
    return electrons * noise.electrons_at_white(iso)


@CAMERAS
@pytest.mark.parametrize("iso", [800, 3200])
@pytest.mark.parametrize("level", [0.0, 0.002, 0.02, 0.2, 0.6])
def test_variance_follows_the_mean(body: CameraBody, iso: int, level: float) -> None:
    noise = replace(noise_of(body), row_electrons=0.0)
    electrons = flat(body, level, iso, noise)
    per_code = noise.electrons_at_white(iso) / codes_of(body)
    expected = noise.electrons_at_white(iso) * level
    converter = (noise.converter_codes**2 + 1 / 12) * per_code**2  # 1/12: rounding to codes
    assert electrons.mean() == pytest.approx(expected, rel=0.01, abs=0.05)
    assert electrons.var() == pytest.approx(
        expected + noise.read_electrons**2 + converter, rel=0.05
    )


def test_variance_over_several_levels_has_the_slope_of_poisson() -> None:
    body = BODIES["NIKON D750"]
    patches = [flat(body, level, 3200, noise_of(body)) for level in np.linspace(0.01, 0.5, 12)]
    slope, _ = np.polyfit([p.mean() for p in patches], [p.var() for p in patches], 1)
    assert slope == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("read", [1.0, 1.6, 3.0])
@pytest.mark.parametrize("mean", [0.0, 0.3, 1.0, 2.5, 6.0, 40.0])
def test_one_normal_draw_stands_for_poisson_and_gauss(read: float, mean: float) -> None:
    """The largest distance of the two distribution functions; 400,000 draws alone give 0.002."""
    shape = (400, 1000)
    noise = SensorNoise(1e4, read, 0.0, 0.0)
    ours = counted(np.full(shape, mean, np.float32), noise, 1.0, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    true = rng.poisson(mean, shape) + read * rng.standard_normal(shape)
    grid = np.linspace(true.min(), true.max(), 2000)
    a, b = (np.searchsorted(np.sort(values.ravel()), grid) for values in (ours, true))
    assert np.abs(a - b).max() / ours.size < (0.006 if read > 1 else 0.012)


def test_rows_share_an_offset_that_is_seen_in_their_means() -> None:
    body = BODIES["DSC-RX100M7"]
    noise = noise_of(body)
    means = flat(body, 0.002, 3200, noise).mean(axis=1)
    without = flat(body, 0.002, 3200, replace(noise, row_electrons=0.0)).mean(axis=1)
    assert without.std() < 0.12 < means.std()
    assert means.std() == pytest.approx(np.hypot(noise.row_electrons, without.std()), rel=0.15)


@CAMERAS
def test_noise_goes_below_black_and_never_beyond_white(body: CameraBody) -> None:
    rng = np.random.default_rng(0)
    light = np.linspace(0, 3, 10000, dtype=np.float32).reshape(100, 100)
    light[:50] = 0
    samples = read_out(light, body, noise_of(body), 3200, rng)
    assert samples.dtype == np.uint16 and samples[:50].min() < body.black < samples[:50].max()
    assert samples.max() == body.white and (samples[-20:] == body.white).all()


@CAMERAS
def test_samples_are_14_bit_codes(body: CameraBody) -> None:
    light = np.linspace(0, 0.9, 40000, dtype=np.float32).reshape(200, 200)
    samples = read_out(light, body, None, 800, np.random.default_rng(0))
    step = 4 if body.white == 65535 else 1
    assert ((samples - body.black) % step == 0).all()
    assert len(np.unique(samples)) == np.ptp(samples) // step + 1
    exact = body.black + light.astype(np.float64) * (body.white - body.black)
    assert np.abs(samples - exact).max() <= step / 2 + 1e-2


@pytest.mark.parametrize("pattern", PHASES)
def test_each_site_sees_its_own_colour(pattern: str) -> None:
    light = np.stack([np.full((4, 6), value, np.float32) for value in (1, 2, 3)])
    mosaic = mosaicked(light, 8, 12, pattern)
    letters = np.array(list("RGB"))[mosaic.astype(int) - 1]
    assert (letters == np.tile(np.array(list(pattern)).reshape(2, 2), (4, 6))).all()
