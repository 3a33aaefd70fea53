"""What re-implementations of GenISP and of the staged ISP have to show, beyond their formulas.

The formulas are in test_genisp.py, test_staged.py and test_staged_parity.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rawisp.isp.contract import night
from rawisp.isp.genisp import GenIsp, GenIspConfig
from rawisp.isp.staged import StagedConfig, StagedIsp

# --- GenISP ------------------------------------------------------------------------------------


def multiplications(module: nn.Module, run: Callable[[], object]) -> int:
    """Of the module's convolutions while `run` runs."""
    total = 0

    def add(layer: Any, _: Any, output: Tensor) -> None:
        nonlocal total
        total += output[0, 0].numel() * layer.weight.numel()

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    run()
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize(("pools", "billions"), [((2, 2, 2), 0.515), ((4, 3, 2), 0.223)])
def test_a_trunk_costs_half_a_billion_multiplications(
    pools: tuple[int, int, int], billions: float
) -> None:
    isp = GenIsp(GenIspConfig(pools=pools)).eval()
    with torch.no_grad():
        found = multiplications(isp.conv_wb, lambda: isp.conv_wb(torch.zeros(1, 3, 256, 256)))
    assert found / 1e9 == pytest.approx(billions, abs=5e-4)


def test_the_shallow_network_costs_9840_multiplications_a_pixel() -> None:
    isp = GenIsp()
    shallow = nn.ModuleList([isp.conv1, isp.conv2, isp.conv3])
    weights = sum(layer.weight.numel() for layer in (isp.conv1, isp.conv2, isp.conv3))
    assert weights == 9_840
    assert sum(p.numel() for p in shallow.parameters()) == 9_923
    assert weights * 1200 * 800 == pytest.approx(9.45e9, rel=1e-3)


def test_normalisation_keeps_nothing_of_other_images() -> None:
    names = GenIsp().state_dict()
    assert not [name for name in names if "running" in name or "norm" in name]
    affine = GenIsp(GenIspConfig(norm_affine=True)).state_dict()
    assert sum(value.numel() for name, value in affine.items() if "norm" in name) == 160


def test_pytorchs_start_gives_small_gains_half_of_them_negative() -> None:
    """Why the identity is the default start."""
    gains = []
    for seed in range(12):
        torch.manual_seed(seed)
        isp = GenIsp(GenIspConfig(preset="capsar")).eval()
        with torch.no_grad():
            thumbnail = torch.rand(1, 3, 256, 256)
            gains.append(isp.conv_wb(thumbnail)[0].numpy())
    assert 0.02 < np.abs(gains).mean() < 0.1
    assert 0.25 < (np.array(gains) < 0).mean() < 0.75


@pytest.mark.parametrize("preset", ["paper", "capsar", "revilla"])
def test_no_network_is_registered_and_unused(preset: str) -> None:
    """One reproduction carries a third trunk, 52,192 weights that nothing reads."""
    torch.manual_seed(0)
    isp = GenIsp(GenIspConfig(preset=preset, init="default")).train()
    x = night(24, 30, batch=2)
    (isp(x) * torch.rand_like(x)).sum().backward()
    unused = {name for name, p in isp.named_parameters() if p.grad is None}
    assert unused == {"conv1.bias", "conv2.bias"}, "taken away again by the normalisation"


def test_values_below_black_reach_the_shallow_network() -> None:
    isp = GenIsp().eval()
    x = night(20, 31) - 0.005
    with torch.no_grad():
        parameters = isp.predict(x)
        corrected = isp.corrected(x, parameters)
    assert float(x.min()) < 0
    torch.testing.assert_close(corrected, x * parameters["gain"].view(1, 1, 1, 1))


def test_the_output_is_not_cut_while_training() -> None:
    torch.manual_seed(0)
    isp = GenIsp().train()
    x = night(24, 30)
    with torch.no_grad():
        free, cut = isp(x), isp.eval()(x)
    assert float(free.min()) < 0
    torch.testing.assert_close(cut, free.clamp(0.0, 1.0), atol=1e-5, rtol=0)


def test_each_image_of_a_batch_has_its_own_diagonal() -> None:
    """`diag` of a (2, 3) matrix is a pair of numbers, and no error."""
    isp = GenIsp(GenIspConfig(pre_gain_percentile=0.0)).eval()
    x = torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    gains = torch.tensor([[2.0, 3.0, 5.0], [7.0, 11.0, 13.0]])
    parameters = {
        "gain": torch.ones(2, 1),
        "white_balance": gains,
        "color": torch.eye(3).expand(2, 3, 3),
    }
    expected = x * gains.view(2, 3, 1, 1)
    torch.testing.assert_close(isp.corrected(x, parameters), expected)


# --- The staged ISP, mended --------------------------------------------------------------------


def linear(**settings: Any) -> StagedIsp:
    """No matrix and no gamma at the start, in eval mode."""
    return StagedIsp(StagedConfig(input_color="camera", gamma=1.0, **settings)).eval()


def put(isp: StagedIsp, name: str, value: Any) -> None:
    with torch.no_grad():
        isp.get_parameter(name).copy_(torch.as_tensor(value))


def ramp(low: float = 0.0, high: float = 1.0, count: int = 257) -> Tensor:
    return torch.linspace(low, high, count).view(1, 1, 1, count).expand(1, 3, 3, count)


def test_the_tone_curve_is_the_identity_at_equal_logits() -> None:
    x = ramp()
    for level in (0.0, -3.0, 7.0):
        isp = linear()
        put(isp, "tone_logits", [level] * 16)
        with torch.no_grad():
            torch.testing.assert_close(isp(x), x.clamp(min=1e-4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [0.5, 3.0, 20.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_tone_curve_rises_from_0_to_1_whatever_its_logits(seed: int, scale: float) -> None:
    isp = linear()
    logits = scale * torch.randn(16, generator=torch.Generator().manual_seed(seed))
    put(isp, "tone_logits", logits)
    with torch.no_grad():
        y = isp(ramp())[0, 0, 0]
    assert (float(y[0]), float(y[-1])) == pytest.approx((1e-4, 1.0), abs=1e-6)
    assert bool((y.diff() >= 0).all())
    if scale < 1:
        assert bool((y.diff() > 0).all())


@pytest.mark.parametrize("gamma", [0.2, 1 / 2.2, 1.0, 3.0])
def test_gradients_of_gamma_are_finite_and_bounded_at_black(gamma: float) -> None:
    isp = StagedIsp(StagedConfig(input_color="camera", gamma=gamma)).train()
    x = torch.tensor([0.0, 1e-12, 1e-7, 1e-4, 2e-4]).view(1, 1, 1, 5)
    x = x.expand(1, 3, 3, 5).clone().requires_grad_(True)
    isp(x).sum().backward()
    at_floor = gamma * 1e-4 ** (gamma - 1)
    for tensor in (x.grad, isp.get_parameter("log_gamma").grad):
        assert tensor is not None
        assert torch.isfinite(tensor).all()
    assert x.grad is not None
    assert float(x.grad.abs().max()) <= max(at_floor, 1.0) * 1.001


@pytest.mark.parametrize("seed", range(4))
def test_the_blur_keeps_flat_areas_whatever_its_logits(seed: int) -> None:
    """The published kernel is divided by a sum that can come near zero."""
    isp = linear()
    put(isp, "blur_logits", 5 * torch.randn(9, generator=torch.Generator().manual_seed(seed)))
    put(isp, "sharpening", [3.0])
    flat = torch.full((1, 3, 8, 9), 0.37)
    with torch.no_grad():
        torch.testing.assert_close(isp(flat), flat, atol=1e-5, rtol=0)


def test_sharpening_raises_a_step_and_repeats_the_edges() -> None:
    x = torch.full((1, 3, 6, 8), 0.2)
    x[..., 4:] = 0.6
    isp = linear(sharpening=0.5)
    with torch.no_grad():
        y = isp(x)
    # Binomial columns weigh 1/4, 1/2, 1/4: next to the step the blur is off by a quarter of it.
    expected = torch.tensor([0.2, 0.2, 0.2, 0.15, 0.65, 0.6, 0.6, 0.6])
    torch.testing.assert_close(y, expected.expand(1, 3, 6, 8), atol=1e-6, rtol=0)


def test_learned_gains_stand_in_front_of_everything() -> None:
    """Tone knots at equal distances would else be spent above what night RAW holds."""
    isp = linear()
    put(isp, "tone_logits", torch.linspace(1, -1, 16))
    dark = ramp(0.0, 0.01)
    with torch.no_grad():
        bright = isp(dark * torch.tensor([20.0, 50.0, 90.0]).view(1, 3, 1, 1))
        put(isp, "log_gain", torch.tensor([20.0, 50.0, 90.0]).log())
        torch.testing.assert_close(isp(dark), bright, atol=1e-5, rtol=0)


def test_the_start_shows_daylight_neutral_and_srgb_encoded() -> None:
    """XYZ of a grey of 18 percent under D65, chromaticity (0.3127, 0.3290)."""
    grey = 0.18 * np.array([0.3127 / 0.3290, 1.0, (1 - 0.3127 - 0.3290) / 0.3290])
    x = torch.tensor(grey, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    with torch.no_grad():
        y = StagedIsp().eval()(x)
    torch.testing.assert_close(y, torch.full_like(y, 0.18 ** (1 / 2.2)), atol=1e-3, rtol=0)


def test_a_shoulder_lets_gradients_pass_where_a_cut_would_stop_them() -> None:
    """Else a gain that is too high could not be mended by the pixels that show it."""
    slopes = {}
    for shoulder in (1.0, 0.6):
        isp = linear(shoulder=shoulder).train()
        isp(torch.full((1, 3, 4, 4), 1.5)).sum().backward()
        gradient = isp.get_parameter("log_gain").grad
        assert gradient is not None
        slopes[shoulder] = float(gradient.abs().min())
    assert slopes[1.0] == 0
    assert slopes[0.6] > 0.1


def test_colours_are_kept_at_the_start_and_grey_at_full_desaturation() -> None:
    x = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0)).clamp(min=1e-3)
    isp = linear()
    with torch.no_grad():
        torch.testing.assert_close(isp(x), x, atol=1e-6, rtol=0)
        put(isp, "desaturation", [1.0])
        grey = x.mean(dim=1, keepdim=True).expand_as(x)
        torch.testing.assert_close(isp(x), grey, atol=1e-6, rtol=0)
        put(isp, "desaturation", [-0.5])  # stronger colours
        torch.testing.assert_close(isp(x), (1.5 * x - 0.5 * grey).clamp(1e-4, 1.0))


def test_the_colour_matrix_multiplies_column_vectors() -> None:
    isp = linear()
    put(isp, "color_matrix", [[0.1, 0.2, 0.3], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]])
    x = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1).expand(1, 3, 3, 3)
    with torch.no_grad():
        y = isp(x)[0, :, 1, 1]
    torch.testing.assert_close(y, torch.tensor([0.02 + 0.08 + 0.18, 0.2, 0.3]))
