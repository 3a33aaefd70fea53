"""RAW-Adapter's input level against its formulas written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from rawisp.isp.baselines.raw_adapter import (
    RawAdapterConfig,
    RawAdapterIsp,
    minkowski_mean,
    reflected,
)


def gelu(x: Any) -> Any:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def numbers(w: Any, name: str, image: Any) -> Any:
    """A predictor: trunk, one attention head, one linear layer per query."""
    v = image
    for at, layer in enumerate((0, 3, 6, 9)):
        v = w.batch_norm(w.conv(v, f"{name}.trunk.{layer}", 2), f"{name}.trunk.{layer + 1}")
        v = gelu(v) if at < 3 else v
    tokens = v.reshape(64, -1)
    keys = np.stack([w.linear(t, f"{name}.key") for t in tokens.T])
    values = np.stack([w.linear(t, f"{name}.value") for t in tokens.T])
    out = []
    for query in w[f"{name}.queries"]:
        share = np.exp(keys @ query / 8)
        seen = (share[:, None] * values).sum(axis=0) / share.sum()
        out.append(w.linear(w.linear(seen, f"{name}.project"), f"{name}.head")[0])
    return np.array(out)


def blurred(x: Any, size: int, along_x: float, along_y: float) -> Any:
    """The two-dimensional kernel at once."""
    at = np.arange(size) - size // 2
    kernel = np.exp(-(at[:, None] ** 2) / (2 * along_y**2) - at[None, :] ** 2 / (2 * along_x**2))
    kernel /= kernel.sum()
    pad = size // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    h, w = x.shape[1:]
    return sum(
        kernel[i, j] * padded[:, i : i + h, j : j + w] for i in range(size) for j in range(size)
    )


def reference(config: RawAdapterConfig, w: Any, i1: Any) -> Any:
    o = numbers(w, "kernel_predictor", i1)
    base = w["kernel_predictor.base_deviations"]
    gain = w["kernel_predictor.base_gain"][0] + o[2]
    sigma = 1 / (1 + np.exp(-o[3]))
    g = blurred(gain * i1, config.kernel, base[0] + 0.1 * o[0], base[1] + 0.1 * o[1])
    detail = gain * i1 if config.detail_gain else i1
    i2 = np.clip(g + sigma * (detail - g), 1e-5, 1)
    o = numbers(w, "matrix_predictor", i2)
    matrix = w["matrix_predictor.base_matrix"] + 0.1 * o[:9].reshape(3, 3)
    rho = 1 + max(o[9], 0)
    whole = (i2**rho).mean() ** (1 / rho)
    i3 = np.stack([c / ((c**rho).mean() ** (1 / rho) / whole) for c in i2])
    i4 = np.clip(np.einsum("ij,jhw->ihw", matrix, i3), 1e-5, 1)
    if not config.lut:
        return i4
    v = np.maximum(w.conv(i4, "lut.0"), 0)
    for layer in (2, 4, 6):
        v = np.tanh(w.conv(v, f"lut.{layer}"))
    return np.clip(i4 + w.conv(v, "lut.8"), 0, 1)


CONFIGS = [
    {},
    {"init": "paper"},
    {"kernel": 9, "light": "low"},
    {"kernel": 9, "detail_gain": False, "init": "paper"},
    {"lut": False, "detail_gain": False},
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("seed", range(2))
def test_equals_the_formulas(config: Any, seed: int, shaken: Any, weights: Any, scene: Any) -> None:
    torch.manual_seed(seed)
    isp = shaken(RawAdapterIsp(RawAdapterConfig(**config)), seed, by=0.1)
    with torch.no_grad():
        got = isp(torch.tensor(scene[None], dtype=torch.float32))[0].numpy()
    np.testing.assert_allclose(got, reference(isp.config, weights(isp), scene), atol=1e-4)


def test_plain_start_is_a_slight_blur_and_a_grey_world() -> None:
    isp = RawAdapterIsp().eval()
    x = 0.3 * torch.rand(1, 3, 40, 50) * torch.tensor([1.3, 1.0, 0.5]).view(1, 3, 1, 1)
    with torch.no_grad():
        means = isp(x).mean(dim=(2, 3))[0]
        smooth = (isp._blurred(x, torch.tensor([[3.0, 2.0]])) + x) / 2
        expected = smooth * smooth.mean() / smooth.mean(dim=(2, 3), keepdim=True)
        torch.testing.assert_close(isp(x), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(means, means.mean().expand(3), atol=1e-4, rtol=0)


def test_gain_survives_full_detail_unlike_the_published_formula() -> None:
    """Sigma near 1 keeps all detail."""
    x = 0.1 * torch.rand(1, 3, 20, 20)
    for detail_gain, expected in ((True, 4 * x), (False, x)):
        isp = RawAdapterIsp(RawAdapterConfig(detail_gain=detail_gain))
        parameters = {
            "deviations": torch.tensor([[3.0, 2.0]]),
            "gain": torch.tensor([[4.0]]),
            "sigma": torch.tensor([[1.0]]),
        }
        torch.testing.assert_close(isp._denoised(x, parameters), expected.clamp(1e-5, 1))


def test_low_light_starts_with_a_fixed_gain_of_three() -> None:
    for light, gain, learned in (("low", 3.0, False), ("normal", 1.0, True)):
        predictor = RawAdapterIsp(RawAdapterConfig(light=light)).kernel_predictor
        assert float(predictor.base_gain.detach()) == gain
        assert predictor.base_gain.requires_grad == learned


@pytest.mark.parametrize("rho", [1.0, 2.0, 6.0, 60.0])
def test_minkowski_means_do_not_underflow(rho: float) -> None:
    x = torch.rand(2, 500, generator=torch.Generator().manual_seed(0)).clamp(min=1e-3) * 1e-2
    x.requires_grad_(True)
    exponent = torch.full((2, 1), rho, requires_grad=True)
    got = minkowski_mean(x, exponent)
    got.sum().backward()
    expected = (x.detach().double() ** rho).mean(dim=1, keepdim=True) ** (1 / rho)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=0)
    for value in (x, exponent):
        assert value.grad is not None
        assert bool(value.grad.isfinite().all())


@pytest.mark.parametrize("count", [1, 2, 3, 5, 30])
@pytest.mark.parametrize("pad", [0, 1, 4])
def test_reflects_like_numpy_at_any_size(count: int, pad: int) -> None:
    expected = np.pad(np.arange(count), pad, mode="reflect")
    assert reflected(count, pad, torch.device("cpu")).tolist() == expected.tolist()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2)])
def test_a_nine_pixel_blur_takes_images_of_any_size(size: tuple[int, int]) -> None:
    isp = RawAdapterIsp(RawAdapterConfig(kernel=9)).eval()
    with torch.no_grad():
        assert isp(torch.rand(1, 3, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"kernel": 4}, "kernel is 4; it must be odd"),
        ({"light": "dark"}, "light is 'dark'; there are normal and low"),
        ({"floor": 0.0}, "floor is 0.0; it must be between"),
    ],
)
def test_refuses_impossible_settings(config: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RawAdapterIsp(RawAdapterConfig(**config))
