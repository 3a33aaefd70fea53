"""DIAP against its formulas written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from rawisp.isp.baselines.diap import DiapConfig, DiapIsp, upsample_part
from rawisp.isp.baselines.powers import smooth_power

RAOD = {"gamma_low": 7.0, "gamma_high": 10.5}


def corner_on_corner(image: Any, height: int, width: int) -> Any:
    """Bilinear resizing with the corner samples on each other."""
    rows = np.linspace(0, image.shape[1] - 1, height)
    columns = np.linspace(0, image.shape[2] - 1, width)
    tall = np.apply_along_axis(lambda v: np.interp(rows, np.arange(len(v)), v), 1, image)
    return np.apply_along_axis(lambda v: np.interp(columns, np.arange(len(v)), v), 2, tall)


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def leaky(x: Any) -> Any:
    return np.where(x > 0, x, 0.1 * x)


def reference(isp: DiapIsp, w: Any, image: Any) -> Any:
    small = corner_on_corner(image, 256, 256)
    # Image level.
    v = relu(w.conv(small, "image_level.0", stride=2))
    v = relu(w.conv(v, "image_level.2", stride=2))
    v = relu(w.conv(v, "image_level.4", stride=2))
    v = relu(w.conv(v, "image_level.6")).mean(axis=(1, 2))
    v = w.linear(leaky(w.linear(v, "image_level.10")), "gamma_head")
    low, high = isp.config.gamma_low, isp.config.gamma_high
    g = (1 / (low + (high - low) * (np.tanh(v) + 1) / 2))[:, None, None]
    if isp.config.floor:
        e = isp.config.floor
        first = ((relu(image) + e) ** g - e**g) / ((1 + e) ** g - e**g)
    else:
        first = np.maximum(image, 0.0) ** g
    # Pixel level: each pixel and channel through its own curve.
    v = relu(w.conv(small, "pixel_level.0", stride=2))
    v = relu(w.conv(v, "pixel_level.2", stride=2))
    v = w.conv(relu(w.conv(v, "pixel_level.4")), "curve_head")
    height, width = image.shape[1:]
    v = 0.1 + 99.8 * (np.tanh(corner_on_corner(v, height, width)) + 1) / 2
    second = np.zeros_like(image)
    for c in range(3):
        for i in range(height):
            for j in range(width):
                a, s = v[8 * c : 8 * c + 8, i, j], v[24 + 8 * c : 32 + 8 * c, i, j]
                a = a / a.sum()
                knots, values = np.cumsum([0, *a]), np.cumsum([0, *(a * s)])
                second[c, i, j] = np.interp(image[c, i, j], knots, values / values[-1])
    y = w.conv(leaky(w.conv((first + second) / 2, "fusion_in")), "fusion_out")
    return np.clip(y, 0, 1)


@pytest.mark.parametrize("config", [{}, {"floor": 0.0}, {**RAOD, "width": 4, "init": "paper"}])
def test_equals_the_formulas(config: Any, shaken: Any, weights: Any, scene: Any) -> None:
    torch.manual_seed(0)
    isp = shaken(DiapIsp(DiapConfig(**config)), by=0.1)
    with torch.no_grad():
        got = isp(torch.tensor(scene[None], dtype=torch.float32))[0].numpy()
    np.testing.assert_allclose(got, reference(isp, weights(isp), scene), atol=1e-4)


@pytest.mark.parametrize("config", [{}, RAOD])
def test_plain_start_is_half_gamma_half_linear(config: Any) -> None:
    isp = DiapIsp(DiapConfig(**config)).eval()
    gamma = (isp.config.gamma_low + isp.config.gamma_high) / 2
    x = torch.rand(2, 3, 30, 41)
    with torch.no_grad():
        expected = (smooth_power(x, torch.tensor(1 / gamma), 2.0**-15) + x) / 2
        torch.testing.assert_close(isp(x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("floor", [2.0**-15, 2.0**-25])
@pytest.mark.parametrize("gamma", [1.0, 2.2, 10.5])
def test_smooth_power_keeps_black_and_white_and_has_finite_slopes(
    floor: float, gamma: float
) -> None:
    x = torch.tensor([-1.0, 0.0, 2.0**-24, 1e-3, 1.0], requires_grad=True)
    y = smooth_power(x, torch.tensor(1 / gamma), floor)
    y.sum().backward()
    torch.testing.assert_close(y[[0, 1, 4]], torch.tensor([0.0, 0.0, 1.0]))
    assert bool((y[1:].diff() > 0).all())
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_without_a_floor_it_is_the_published_power_and_black_stays_black() -> None:
    x = torch.tensor([-1.0, 0.0, 2.0**-24, 1e-3, 1.0], requires_grad=True)
    exponent = torch.tensor(1 / 8.75, requires_grad=True)
    y = smooth_power(x, exponent, 0.0)
    expected = torch.tensor([0.0, 0.0, 2.0 ** (-24 / 8.75), 1e-3 ** (1 / 8.75), 1.0])
    torch.testing.assert_close(y.detach(), expected)
    y.sum().backward()
    for tensor in (x, exponent):
        assert tensor.grad is not None
        assert bool(tensor.grad.isfinite().all())


def test_curves_rise_from_black_to_white_whatever_the_network_says() -> None:
    isp = DiapIsp()
    generator = torch.Generator().manual_seed(3)
    curves = 4 * torch.randn(1, 48, 5, 101, generator=generator)
    curves = curves[:, :, :, :1].expand(1, 48, 5, 101)  # one curve per row
    y = isp._through_curves(torch.linspace(0, 1, 101).expand(1, 3, 5, 101), curves)
    assert bool((y.diff(dim=3) >= -1e-6).all())
    torch.testing.assert_close(y[..., 0], torch.zeros(1, 3, 5))
    torch.testing.assert_close(y[..., -1], torch.ones(1, 3, 5))


@pytest.mark.parametrize("size", [(90, 131), (64, 64), (20, 300), (1, 7), (2, 1)])
def test_upsampling_is_bilinear_and_the_same_in_parts(size: tuple[int, int]) -> None:
    planes = torch.randn(2, 5, 64, 64, generator=torch.Generator().manual_seed(0))
    height, width = size
    whole = upsample_part(planes, [0, 0, height, width], [height, width])
    expected = functional.interpolate(planes, size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(whole, expected, atol=1e-4, rtol=0)
    top, left, bottom, right = height // 3, width // 4, height, width // 4 + (width + 1) // 2
    part = upsample_part(planes, [top, left, bottom, right], [height, width])
    assert torch.equal(part, whole[:, :, top:bottom, left:right])


def test_a_narrower_gamma_range_is_kept() -> None:
    isp = DiapIsp(DiapConfig(init="paper", gamma_low=1.5, gamma_high=2.5))
    gamma = isp.predict(100 * torch.rand(4, 3, 40, 40))["gamma"].detach()
    assert float(gamma.min()) >= 1.5
    assert float(gamma.max()) <= 2.5
    with pytest.raises(ValueError, match="gamma_high no less"):
        DiapIsp(DiapConfig(gamma_low=3, gamma_high=2))
