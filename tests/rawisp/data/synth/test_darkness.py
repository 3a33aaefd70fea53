"""What is drawn for a night, and what lamps do to the light."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rawisp.data.synth.bodies import BODIES
from rawisp.data.synth.darkness import Lamp, Night, add_lamps, draw_night
from rawisp.data.synth.settings import NightSettings, iso_of

SONY = BODIES["DSC-RX100M7"].xyz_to_camera


def lit(lamps: tuple[Lamp, ...], glare: float, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    light = np.zeros((3, *shape), np.float32)
    add_lamps(light, Night(5.0, 4000.0, 1600, glare, lamps), SONY)
    return light


def lamp(kind: str = "point", size: float = 0.1, light: float = 10.0, **changes: float) -> Lamp:
    values = {"x": 0.5, "y": 0.375, "width": size, "height": size, "kelvin": 4000.0, **changes}
    return Lamp(kind=kind, light=light, **values)


def test_draws_lie_in_their_ranges() -> None:
    rng = np.random.default_rng(0)
    settings = NightSettings(stops=(4, 5), illuminant_k=(2500, 5000), lamps=(2, 4))
    nights = [draw_night(settings, (640, 480), rng) for _ in range(300)]
    assert {len(night.lamps) for night in nights} == {2, 3, 4}
    assert all(4 <= night.stops <= 5 and night.iso == iso_of(night.stops) for night in nights)
    kelvins = np.array([night.kelvin for night in nights])
    assert kelvins.min() >= 2500 and kelvins.max() <= 5000
    # Uniform in mired: as many above as below the middle of 1e6 / kelvin.
    assert 0.4 < (1e6 / kelvins < (400 + 200) / 2).mean() < 0.6
    lamps = [lamp for night in nights for lamp in night.lamps]
    assert {one.kind for one in lamps} == {"point", "area"}
    assert all(0 <= one.x <= 1 and 0 <= one.y <= 0.75 * 0.8 for one in lamps)
    sizes = [max(one.width, one.height) for one in lamps]
    assert min(sizes) >= 0.004 and max(sizes) <= 0.03
    json.dumps(nights[0].record(), allow_nan=False)


def test_fixed_ranges_draw_just_that() -> None:
    settings = NightSettings(stops=(3, 3), illuminant_k=(6504, 6504), lamps=(0, 0), glare=(0, 0))
    night = draw_night(settings, (64, 48), np.random.default_rng(0))
    assert night == Night(3.0, pytest.approx(6504), 800, 0.0, ())


def test_iso_makes_up_half_of_the_darkness() -> None:
    assert [iso_of(stops) for stops in (3, 5, 7)] == [800, 1600, 3200]
    assert (iso_of(-2), iso_of(14)) == (200, 12800)


@pytest.mark.parametrize("kind", ["point", "area"])
@pytest.mark.parametrize("kelvin", [2000.0, 4000.0, 6500.0])
def test_the_weakest_lamp_saturates_every_colour(kind: str, kelvin: float) -> None:
    light = lit((lamp(kind, light=NightSettings().lamp_light[0], kelvin=kelvin),), glare=0.0)
    assert (light[:, 60, 80] > 1).all()


def test_a_disc_and_a_rectangle_have_their_areas() -> None:
    disc = lit((lamp("point", size=0.2),), glare=0.0)[1].sum() / 10
    assert disc == pytest.approx(np.pi * 16**2, rel=0.01)
    wide = lit((lamp("area", width=0.2, height=0.05),), glare=0.0)[1].sum() / 10
    assert wide == pytest.approx(32 * 8, rel=0.01)


def test_a_halo_falls_off_around_the_lamp_and_grows_with_glare() -> None:
    light = lit((lamp(),), glare=0.05)[1]
    along = light[60, 90:156]  # its outermost cells are constant
    assert (np.diff(along) < 0).all() and along[-1] > 0
    assert light[60, 120] == pytest.approx(light[100, 80], rel=0.05)  # round
    twice = lit((lamp(),), glare=0.1)[1]
    assert twice[60, 140] == pytest.approx(2 * light[60, 140], rel=1e-4)


def test_the_halo_holds_the_share_of_light_that_glare_says() -> None:
    """A Moffat profile of power 1.35 keeps 1 - (1 + (r / s)^2)^-0.35 of its light within r."""
    small = lamp(size=0.01, light=50.0)
    shape = (1200, 1200)
    light = lit((Lamp("point", 0.5, 0.5, small.width, small.height, 50.0, 4000.0),), 0.1, shape)
    core = lit((Lamp("point", 0.5, 0.5, small.width, small.height, 50.0, 4000.0),), 0.0, shape)
    y, x = np.mgrid[:1200, :1200] + 0.5
    near = np.hypot(x - 600, y - 600) < 500
    share = (light[1] - core[1])[near].sum() / core[1].sum()
    assert share == pytest.approx(0.1 * (1 - (1 + (500 / 18) ** 2) ** -0.35), rel=0.02)


def test_lamps_at_the_border_and_in_a_tiny_picture_do_no_harm() -> None:
    corners = tuple(lamp(x=x, y=y) for x in (0.0, 1.0) for y in (0.0, 0.75))
    assert np.isfinite(lit(corners, 0.1)).all()
    assert np.isfinite(lit(corners, 0.1, (1, 1))).all()
    assert np.isfinite(lit(corners, 0.1, (2, 300))).all()
