"""`rawpy-default` against LibRaw itself, and both fixed pipelines under the contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rawpy
import torch

import rawisp
from rawisp.isp.contract import check_isp, night
from rawisp.isp.fixed import (
    LINEAR_UNTIL,
    OFFSET,
    POWER,
    SLOPE,
    RawpyDefaultConfig,
    RawpyDefaultIsp,
    classic_settings,
)


@pytest.mark.parametrize("name", ["classic", "rawpy-default"])
def test_both_keep_the_contract_and_have_nothing_to_learn(name: str) -> None:
    check_isp(lambda: rawisp.create_isp(name))
    assert sum(p.numel() for p in rawisp.create_isp(name).parameters()) == 0


def test_classic_is_a_start_for_staged() -> None:
    x = night(40, 50)
    with torch.no_grad():
        learned = rawisp.create_isp("staged", **classic_settings()).eval()
        torch.testing.assert_close(learned(x), rawisp.create_isp("classic").eval()(x))
    assert sum(p.numel() for p in learned.parameters()) == 40


@pytest.mark.parametrize("name", ["Sony/DSC01316.ARW", "Nikon/DSC_4219.NEF", "Sony/DSC02799.ARW"])
def test_rawpy_default_is_what_libraw_renders(name: str, sample_data: Path) -> None:
    path = str(sample_data / name)
    with rawpy.imread(path) as raw:
        expected = raw.postprocess(half_size=True).astype(int)
    packed = rawisp.open_raw(path).pack(color="xyz", layout="chw", orient="upright")
    with torch.no_grad():
        y = RawpyDefaultIsp().eval()(torch.from_numpy(packed)[None])[0]
    image = (y.permute(1, 2, 0).numpy() * 255.999).astype(int)  # LibRaw cuts 16 bits to 8
    difference = np.abs(image - expected)
    # Where the sensor clips, LibRaw cuts before the matrix: lamps, under 3 % of these pictures.
    assert difference.mean() < 0.5
    assert (difference > 2).mean() < 0.03


def test_the_curve_is_bt709_without_a_step() -> None:
    line = SLOPE * LINEAR_UNTIL
    power = (1 + OFFSET) * LINEAR_UNTIL**POWER - OFFSET
    assert line == pytest.approx(power, abs=1e-9)
    slope = (1 + OFFSET) * POWER * LINEAR_UNTIL ** (POWER - 1)
    assert slope == pytest.approx(SLOPE, abs=1e-6)


def test_white_is_where_one_percent_of_the_brightest_channel_lies() -> None:
    isp = RawpyDefaultIsp(RawpyDefaultConfig(clip_level=1.0))
    grey = torch.full((1, 3, 20, 50), 0.02)
    grey[:, :, 0, :11] = 0.5  # 11 of 1000 pixels, more than one percent
    xyz = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(isp.matrix), grey)
    white = float(isp.predict(xyz)["white"])
    assert white == pytest.approx(0.5, abs=2 * 8 / 65535)
    grey[:, :, 0, 10] = 0.02  # 10 of 1000, not more
    xyz = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(isp.matrix), grey)
    assert float(isp.predict(xyz)["white"]) == pytest.approx(0.02, abs=2 * 8 / 65535)


@pytest.mark.parametrize("settings", [{"auto_bright_share": 1.0}, {"clip_level": 0.0}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(rawisp.UsageError):
        rawisp.create_isp("rawpy-default", **settings)
