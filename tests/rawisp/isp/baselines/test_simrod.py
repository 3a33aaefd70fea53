"""SimROD against its formulas written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rawisp.isp.baselines.powers import smooth_power
from rawisp.isp.baselines.simrod import SimrodConfig, SimrodIsp


def reference(w: Any, image: Any, floor: float) -> Any:
    def leaky(x: Any) -> Any:
        return np.where(x > 0, x, 0.01 * x)

    def block(x: Any, name: str) -> Any:
        v = leaky(w.batch_norm(w.conv(x, f"{name}.0"), f"{name}.1"))
        return leaky(w.batch_norm(w.conv(v, f"{name}.3"), f"{name}.4"))

    r, g, b = image
    gamma = 7 + 3.5 * (np.tanh(w["gamma"]) + 1) / 2
    p = (1 / gamma)[:, None, None]
    x = np.stack([r, g, g, b])
    if floor:
        x = ((np.maximum(x, 0) + floor) ** p - floor**p) / ((1 + floor) ** p - floor**p)
    else:
        x = np.maximum(x, 0.0) ** p
    a, greens = block(255 * x, "all_channels"), block(255 * x[1:3], "green")
    return np.clip(w.conv(np.concatenate([a, a + greens]), "out"), 0, 1)


@pytest.mark.parametrize("init", ["plain", "paper"])
@pytest.mark.parametrize("floor", [0.0, 2.0**-15])
def test_equals_the_formulas(
    init: str, floor: float, shaken: Any, weights: Any, scene: Any
) -> None:
    torch.manual_seed(0)
    isp = shaken(SimrodIsp(SimrodConfig(init=init, floor=floor)), by=0.02)
    with torch.no_grad():
        isp.out.weight.mul_(0.05 if init == "paper" else 1.0)  # within [0, 1]
        got = isp(torch.tensor(scene[None], dtype=torch.float32))[0].numpy()
    assert np.mean((got > 0) & (got < 1)) > 0.05
    np.testing.assert_allclose(got, reference(weights(isp), scene, floor), atol=2e-4)


def test_plain_start_is_a_plain_gamma() -> None:
    isp = SimrodIsp().eval()
    x = torch.rand(2, 3, 17, 22) ** 4
    with torch.no_grad():
        expected = smooth_power(x, torch.tensor(1 / 8.75), 2.0**-15)
        torch.testing.assert_close(isp(x), expected, atol=1e-4, rtol=0)


def test_plain_start_standardises_while_training() -> None:
    isp = SimrodIsp().train()
    x = torch.rand(4, 3, 40, 40) ** 4
    with torch.no_grad():
        y = isp(x)
        power = smooth_power(x, torch.tensor(1 / 8.75), 2.0**-15)
    for c in range(3):
        expected = 0.5 + 0.25 * (power[:, c] - power[:, c].mean()) / power[:, c].std()
        torch.testing.assert_close(y[:, c], expected, atol=1e-3, rtol=0)


def test_gammas_stay_in_their_range() -> None:
    isp = SimrodIsp()
    with torch.no_grad():
        isp.gamma.copy_(torch.tensor([-1e3, 0.0, 0.0, 1e3]))
    expected = torch.tensor([7.0, 8.75, 8.75, 10.5])
    torch.testing.assert_close(isp.predict(torch.zeros(1, 3, 4, 4))["gamma"][0], expected)
