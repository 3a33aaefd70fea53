"""Settings refuse nonsense in one sentence and survive JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rawisp.data.synth.bodies import BODIES, body_named, noise_of
from rawisp.data.synth.settings import SENSOR_NOISE, NightSettings
from rawisp.errors import UsageError
from rawisp.raw.container import CameraBody


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stops": (7, 3)}, "stops 7 3 is not within -2 and 14, the lower number first"),
        ({"stops": (3, 99)}, "stops 3 99 is not within -2 and 14"),
        ({"stops": (float("nan"), 3)}, "stops nan 3 is not within"),
        ({"scale": 0}, "scale 0 is not within 0.05 and 8"),
        ({"illuminant_k": (500, 4000)}, "illuminant_k 500 4000 is not within 1667 and 25000"),
        ({"lamps": (-1, 2)}, "lamps -1 2 is not within 0"),
        ({"pattern": "RGBG"}, "pattern 'RGBG' is none of RGGB"),
    ],
)
def test_values_that_are_none_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NightSettings(**changes)


def test_the_record_of_a_manifest_gives_the_settings_back() -> None:
    settings = NightSettings(stops=(3.5, 4.5), lamps=(0, 2), pattern="GBRG", noise=False)
    line = json.loads(json.dumps({"verb": "synth", "seed": 3, **settings.record()}))
    assert NightSettings.from_record(line) == settings


def test_every_camera_has_a_noise_model_and_is_found_by_name() -> None:
    assert set(BODIES) == set(SENSOR_NOISE)
    assert [noise_of(body_named(name)) for name in BODIES] == list(SENSOR_NOISE.values())
    with pytest.raises(UsageError, match="camera 'D750' is none of DSC-RX100M7, NIKON D750, dng"):
        body_named("D750")
    stranger = CameraBody("A", "B", ".DNG", 0, 16383, BODIES["dng"].xyz_to_camera)
    with pytest.raises(UsageError, match="no noise is known for B"):
        noise_of(stranger)
