"""The ten operators against formulas written out pixel by pixel, and the paper's facts."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from rawisp.isp.adaptive import operators

Array = npt.NDArray[np.float64]
INDEX = {key: number for number, key in enumerate(operators.KEYS)}


def image(height: int = 9, width: int = 11, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64)


def run(key: str, x: Tensor, theta: list[list[float]], fixed: bool = True) -> Array:
    y = operators.run_operator(INDEX[key], x, torch.tensor(theta, dtype=x.dtype), fixed)
    return y.detach().numpy()


def luma(p: Array) -> float:
    return float(0.27 * p[0] + 0.67 * p[1] + 0.06 * p[2])


def reference(key: str, p: Array, theta: list[float], fixed: bool) -> Array:
    """One pixel p = (R, G, B) through one pointwise operator."""
    t = theta[0]
    if key == "E":
        return p * 2**t
    if key == "G":
        return np.maximum(p, 1e-3) ** t
    if key == "CCM":
        m = np.reshape(theta, (3, 3))
        m = np.eye(3) + m - m.mean(1, keepdims=True) if fixed else m / m.sum(1, keepdims=True)
        return m @ p
    if key == "T":
        curve = [sum(w * min(max(c - i / 8, 0), 1 / 8) for i, w in enumerate(theta)) for c in p]
        return 8 / sum(theta) * np.array(curve)
    if key == "Ct":
        y = min(max(luma(p), 0), 1)
        return (1 - t) * p + t * p * (0.5 * (1 - math.cos(math.pi * y))) / (y + 1e-6)
    if key == "S+":
        h, s, v = colorsys.rgb_to_hsv(*p)
        boosted = s + (1 - s) * 0.8 * (0.5 - abs(0.5 - v))
        vivid = np.array(colorsys.hsv_to_rgb(h, boosted, v))
        if fixed:
            vivid = p + (vivid - p) * min(s / 0.05, 1)
        return (1 - t) * p + t * vivid
    if key == "BW":
        return (1 - t) * p + t * luma(p)
    g = np.array(theta)
    return p * g / (1e-5 + luma(g))


THETAS = {
    "E": [[1.5], [-2.0]],
    "G": [[0.4], [2.2]],
    "CCM": [[1.0, 0.2, -0.1, 0.3, 0.9, 0.1, -0.2, 0.4, 1.1], [0.5] * 4 + [0.9] + [0.2] * 4],
    "T": [[0.5, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0], [2.0, 1.0] * 4],
    "Ct": [[0.7], [-0.5]],
    "S+": [[1.0], [0.3]],
    "BW": [[0.6], [1.0]],
    "W": [[1.0, 0.7, 1.5], [1.0, 1.6, 0.65]],
}


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "parity"])
@pytest.mark.parametrize("key", THETAS)
def test_pointwise_operators_follow_their_formulas(key: str, fixed: bool) -> None:
    x = image()
    result = run(key, x, THETAS[key], fixed)
    for n in range(2):
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                expected = reference(key, x[n, :, i, j].numpy(), THETAS[key][n], fixed)
                np.testing.assert_allclose(result[n, :, i, j], expected, atol=1e-6)


def test_sharpening_blends_with_a_blur_of_thirteen() -> None:
    x = image()
    result = run("Shr", x, [[1.8], [0.3]])
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    for n, t in enumerate((1.8, 0.3)):
        for i in range(9):
            for j in range(11):
                window = padded[n, :, i : i + 3, j : j + 3]
                blur = (window.sum((1, 2)) + 4 * window[:, 1, 1]) / 13
                expected = t * window[:, 1, 1] + (1 - t) * blur
                np.testing.assert_allclose(result[n, :, i, j], expected, atol=1e-9)


def test_parity_sharpening_keeps_the_border() -> None:
    x = image()
    border = np.ones((9, 11), bool)
    border[1:-1, 1:-1] = False
    fixed, parity = run("Shr", x, [[3.0], [3.0]]), run("Shr", x, [[3.0], [3.0]], fixed=False)
    np.testing.assert_array_equal(parity[..., border], x.numpy()[..., border])
    np.testing.assert_allclose(parity[..., ~border], fixed[..., ~border], atol=1e-12)


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "parity"])
def test_denoising_is_non_local_means_written_out(fixed: bool) -> None:
    x = image(8, 7)
    theta = [0.05, 0.4]
    result = run("NLM", x, [[t] for t in theta], fixed)
    mode = "edge" if fixed else "wrap"
    for n in range(2):
        p = x[n].numpy()
        y = np.tensordot([0.299, 0.587, 0.114], p, 1)
        far, colors = np.pad(y, 7, mode=mode), np.pad(p, ((0, 0), (5, 5), (5, 5)), mode=mode)
        for i in range(8):
            for j in range(7):
                total, weights = np.zeros(3), 0.0
                for dy in range(-5, 6):
                    for dx in range(-5, 6):
                        here = far[i + 5 : i + 10, j + 5 : j + 10]
                        there = far[i + 5 + dy : i + 10 + dy, j + 5 + dx : j + 10 + dx]
                        distance = math.sqrt(((here - there) ** 2).sum())
                        w = math.exp(-distance / (theta[n] + 1e-8))
                        total += w * colors[:, i + 5 + dy, j + 5 + dx]
                        weights += w
                np.testing.assert_allclose(result[n, :, i, j], total / weights, atol=1e-5)


def test_denoising_reduces_noise_as_much_as_measured() -> None:
    """A flat patch with noise of 0.02 comes out at 0.0094 for theta 0.02, 0.0022 for 0.05."""
    generator = torch.Generator().manual_seed(0)
    flat = 0.5 + 0.02 * torch.randn(1, 3, 64, 64, generator=generator)
    for theta, expected in ((0.02, 0.0094), (0.05, 0.0022)):
        y = operators.denoise(flat, torch.tensor([[theta]]), fixed=True)
        assert float(y.std()) == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("key", operators.KEYS)
def test_zero_is_the_identity_or_nearly(key: str) -> None:
    x = image()
    number = INDEX[key]
    raw = torch.zeros(2, operators.PARAMETER_COUNTS[number], dtype=x.dtype)
    theta = operators.parameters_from_raw(number, raw, fixed=True)
    y = operators.run_operator(number, x, theta, fixed=True)
    assert float((y - x).abs().max()) < 0.02, key


PARITY_AT_ZERO = {
    "E": 0.0,
    "G": 1.0,
    "CCM": 0.0,
    "Shr": 5.0,
    "NLM": 0.5,
    "T": 1.25,
    "Ct": 0.0,
    "S+": 0.5,
    "BW": 0.5,
    "W": 1.0,
}


@pytest.mark.parametrize("key", operators.KEYS)
def test_released_parametrisations_at_zero(key: str) -> None:
    number = INDEX[key]
    raw = torch.zeros(1, operators.PARAMETER_COUNTS[number])
    theta = operators.parameters_from_raw(number, raw, fixed=False)
    torch.testing.assert_close(theta, torch.full_like(theta, PARITY_AT_ZERO[key]))


@pytest.mark.parametrize("fixed", [True, False])
def test_ranges_of_the_parameters(fixed: bool) -> None:
    raw = torch.tensor([[-50.0], [50.0]])
    low, high = operators.parameters_from_raw(0, raw, fixed).squeeze(1).tolist()
    assert (low, high) == pytest.approx((-3.5, 3.5))
    low, high = operators.parameters_from_raw(1, raw, fixed).squeeze(1).tolist()
    assert (low, high) == pytest.approx((1 / 3, 3.0))
    low, high = operators.parameters_from_raw(3, raw, fixed).squeeze(1).tolist()
    assert (low, high) == pytest.approx((0.0, 2.0 if fixed else 10.0), abs=1e-5)
    gains = operators.parameters_from_raw(9, torch.tensor([[50.0, -50.0, 50.0]]), fixed)
    torch.testing.assert_close(gains, torch.tensor([[1.0, math.exp(-0.5), math.exp(0.5)]]))


def test_published_defects_are_there_in_parity_and_mended_by_default() -> None:
    grey = torch.full((1, 3, 4, 4), 0.5)
    red = operators.saturate(grey, torch.ones(1, 1), fixed=False)
    torch.testing.assert_close(red[0, :, 0, 0], torch.tensor([0.5, 0.3, 0.3]))
    torch.testing.assert_close(operators.saturate(grey, torch.ones(1, 1), fixed=True), grey)
    black = operators.gamma(torch.zeros(1, 3, 2, 2), torch.tensor([[1 / 3]]))
    assert float(black.max()) == pytest.approx(0.1)
    cancelling = torch.tensor([[1.0, -1.0, 1e-7, 0, 1, 0, 0, 0, 1]])
    assert operators.color_matrix(grey + grey.cumsum(1), cancelling, False).abs().max() > 1e5
    assert operators.color_matrix(grey + grey.cumsum(1), cancelling, True).abs().max() < 10


def test_white_balance_keeps_the_brightness_of_grey() -> None:
    grey = torch.full((1, 3, 2, 2), 0.4)
    y = operators.white_balance(grey, torch.tensor([[1.0, 0.7, 1.6]]))
    assert float(operators.luma(y)[0, 0, 0, 0]) == pytest.approx(0.4, rel=1e-4)


@pytest.mark.parametrize("key", operators.KEYS)
def test_gradients_reach_the_parameters_and_are_finite(key: str) -> None:
    number = INDEX[key]
    raw = (0.3 * torch.ones(2, operators.PARAMETER_COUNTS[number])).requires_grad_(True)
    for x in (image().float(), torch.zeros(2, 3, 6, 6), torch.full((2, 3, 6, 6), 0.5)):
        theta = operators.parameters_from_raw(number, raw, fixed=True)
        y = operators.run_operator(number, x, theta, fixed=True)
        (gradient,) = torch.autograd.grad((y * torch.rand_like(y)).sum(), raw)
        assert torch.isfinite(gradient).all()
    assert gradient.shape == raw.shape
