"""What re-implementations of TA-ISP and of its baselines have to show, beyond their formulas.

The formulas are in test_ta_isp.py and baselines/. What holds for all ISPs is checked for all here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rawisp.checkpoint import CheckpointMetadata, load_isp, save_native
from rawisp.isp.base import Isp
from rawisp.isp.baselines.diap import DiapIsp
from rawisp.isp.baselines.invisp import InvispConfig, InvispIsp
from rawisp.isp.baselines.mw_ispnet import MwIspNetConfig, MwIspNetIsp
from rawisp.isp.baselines.raw_adapter import RawAdapterIsp
from rawisp.isp.baselines.simrod import SimrodConfig, SimrodIsp
from rawisp.isp.contract import night
from rawisp.isp.registry import create_isp
from rawisp.isp.ta_isp import TaIsp, TaIspConfig

# Every ISP that learns, the large ones small.
ISPS: dict[str, tuple[str, dict[str, Any]]] = {
    "staged": ("staged", {"exposure_percentile": 0.75, "grey_world": True, "sharpening": 0.2}),
    "staged, parity": ("staged", {"parity": True}),
    "genisp": ("genisp", {}),
    "ta-isp": ("ta-isp", {}),
    "adaptive-isp": ("adaptive-isp", {"steps": 2}),
    "adaptive-isp, parity": ("adaptive-isp", {"steps": 2, "parity": True}),
    "diap": ("diap", {}),
    "raw-adapter": ("raw-adapter", {}),
    "mw-ispnet": ("mw-ispnet", {"blocks": 1}),
    "invisp": ("invisp", {"steps": 1}),
    "simrod": ("simrod", {}),
}


def away_from_start(case: str) -> Isp:
    torch.manual_seed(0)
    name, settings = ISPS[case]
    isp = create_isp(name, **settings).eval()
    with torch.no_grad():
        for parameter in isp.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return isp


def numbers(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# --- All ISPs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ISPS)
def test_the_layout_in_memory_does_not_matter(case: str) -> None:
    """Released code fails on channels_last, where a view is asked for."""
    isp = away_from_start(case)
    x = night(33, 40, batch=2, level=0.05)
    wide = torch.zeros(2, 3, 33, 80)
    wide[..., ::2] = x
    layouts = {
        "channels last": x.to(memory_format=torch.channels_last),
        "transposed": x.transpose(2, 3).contiguous().transpose(2, 3),
        "every second column": wide[..., ::2],
    }
    with torch.no_grad():
        expected = isp(x)
        for name, view in layouts.items():
            difference = float((isp(view) - expected).abs().max())
            assert difference <= 1e-5, name
        once = x[:1].expand(2, -1, -1, -1)
        torch.testing.assert_close(isp(once), isp(once.contiguous()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ISPS)
def test_the_same_picture_each_time_and_the_input_untouched(case: str) -> None:
    isp = away_from_start(case)
    x = night(33, 40, level=0.05)
    before = x.clone()
    with torch.no_grad():
        first = isp(x)
        torch.rand(100)  # the global generator moves on
        assert torch.equal(isp(x), first)
    assert torch.equal(x, before)


@pytest.mark.parametrize("case", ISPS)
def test_rendering_changes_no_parameter_and_no_statistic(case: str) -> None:
    isp = away_from_start(case)
    before = {name: value.clone() for name, value in isp.state_dict().items()}
    with torch.no_grad():
        isp(night(33, 40))
    after = isp.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


# --- TA-ISP ------------------------------------------------------------------------------------


def with_weight(isp: TaIsp, x: Tensor, weight: float) -> Tensor:
    """The picture with all sixteen weights at `weight`."""
    with torch.no_grad():
        parameters = isp.predict(x)
        return isp.apply(x, {**parameters, "weight": torch.full_like(parameters["weight"], weight)})


@pytest.mark.parametrize(
    ("weight", "pedestal"), [(2.0, 0.001), (3.0, 0.01), (4.0, 0.032), (9.0, 0.215)]
)
def test_the_floor_makes_a_pedestal_of_black(weight: float, pedestal: float) -> None:
    y = with_weight(TaIsp().eval(), torch.zeros(1, 3, 9, 11), weight)
    torch.testing.assert_close(y, torch.full_like(y, pedestal), atol=5e-4, rtol=0)


def test_what_is_below_black_is_black() -> None:
    isp = TaIsp().eval()
    x = night(20, 30, level=0.1)
    below = x.clone()
    x[:, :, 4:8], below[:, :, 4:8] = 0.0, -0.3
    with torch.no_grad():
        parameters = isp.predict(x)
        torch.testing.assert_close(isp.apply(below, parameters), isp.apply(x, parameters))


@pytest.mark.parametrize(("w_min", "w_max"), [(1.0, 3.0), (2.0, 4.0), (5.0, 9.0)])
def test_the_range_of_the_weights_is_in_the_checkpoint(
    w_min: float, w_max: float, tmp_path: Path
) -> None:
    """A constant of the released program; the same checkpoint renders differently under another."""
    torch.manual_seed(0)
    isp = TaIsp(TaIspConfig(w_min=w_min, w_max=w_max, mode="sharp", tau=0.2)).eval()
    path = tmp_path / "ta.safetensors"
    save_native(isp, str(path), CheckpointMetadata("ta", "", "camera"))
    x = night(20, 30, level=0.1)
    with torch.no_grad():
        torch.testing.assert_close(load_isp(path, device="cpu").run(x), isp(x), atol=0, rtol=0)
    other = TaIsp(TaIspConfig(w_min=1.5, w_max=3.5, mode="sharp", tau=0.2)).eval()
    other.load_state_dict(isp.state_dict())
    with torch.no_grad():
        assert float((other(x) - isp(x)).abs().mean()) > 0.01


def test_weights_reach_both_ends_of_their_range() -> None:
    isp = TaIsp(TaIspConfig(w_min=5.0, w_max=9.0)).eval()
    with torch.no_grad():
        isp.weight_mlp[2].weight.zero_()
        isp.weight_mlp[2].bias.copy_(torch.linspace(-40, 40, 16))
        weight = isp.predict(night(9, 9))["weight"][0]
    assert float(weight[0]) == pytest.approx(5.0)
    assert float(weight[-1]) == pytest.approx(9.0)
    assert bool((weight.diff() >= 0).all())


def test_gains_are_one_or_more_and_attention_may_darken() -> None:
    isp = TaIsp().eval()
    x = night(20, 30, level=0.1)
    with torch.no_grad():
        isp.gain_mlp[2].bias.fill_(-40.0)
        isp.gain_mlp[2].weight.zero_()
        torch.testing.assert_close(isp.predict(x)["gain"], torch.ones(1, 3))
        isp.attention3.bias.fill_(-5.0)
        isp.attention5.bias.fill_(-5.0)
        assert float(with_weight(isp, x, 1.0).mean()) < 0.1 * float(x.mean())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_never_touches_the_picture(dtype: torch.dtype) -> None:
    """1e-6 is subnormal in float16, and the slopes at it come near its largest number."""
    torch.manual_seed(0)
    isp = TaIsp(TaIspConfig(w_min=5.0, w_max=9.0)).eval()
    x = night(20, 30, level=2.0**-16)
    with torch.no_grad():
        plain = isp(x)
        with torch.autocast("cpu", dtype):
            assert torch.equal(isp(x), plain)


def test_noise_is_there_for_comparison_and_as_large_as_published() -> None:
    """12 to 28 of 255 levels at x = 0.05, with logits of deviation 0.5 and weights in the range."""
    for (w_min, w_max), levels in {(1.0, 3.0): 26.0, (2.0, 4.0): 14.0, (5.0, 9.0): 12.0}.items():
        isp = TaIsp(TaIspConfig(mode="noise", seed=3, w_min=w_min, w_max=w_max))
        generator = torch.Generator().manual_seed(0)
        logits = 0.5 * torch.randn(1, 16, 1, 1, generator=generator).expand(1, 16, 150, 150)
        spread = []
        for seed in range(8):
            weights = torch.rand(16, generator=torch.Generator().manual_seed(seed))
            curves = 0.05 ** (1 / (w_min + (w_max - w_min) * weights))
            picture = (isp._shares(logits) * curves.view(1, 16, 1, 1)).sum(dim=1)
            spread.append(255 * float(picture.std()))
        assert sum(spread) / 8 == pytest.approx(levels, rel=0.35)


# --- The baselines -----------------------------------------------------------------------------


def test_the_challenges_mw_ispnet_has_29_2_million_parameters() -> None:
    with torch.device("meta"):
        isp = MwIspNetIsp(MwIspNetConfig(blocks=20))
    assert numbers(isp) / 1e6 == pytest.approx(29.2, abs=0.05)


def test_a_flow_steps_matrix_has_21_numbers_and_its_scale_a_bound() -> None:
    step = InvispIsp(InvispConfig(steps=1)).steps[0]
    matrix = [step.lower, step.upper, step.log_diagonal]
    assert sum(p.numel() for p in matrix) == 21  # type: ignore[union-attr, operator, misc]
    with torch.no_grad():
        for value in step.scale_two.parameters():  # type: ignore[union-attr, operator]
            value.copy_(10 * torch.randn_like(value))
        scale = step._log_scale(100 * torch.randn(1, 1, 9, 9))  # type: ignore[operator]
    assert float(scale.abs().max()) <= 0.8 + 1e-6
    assert float(scale.abs().max()) > 0.7


def test_diap_does_96_multiplications_a_pixel_at_full_size() -> None:
    isp = DiapIsp()
    assert isp.fusion_in.weight.numel() + isp.fusion_out.weight.numel() == 96


@pytest.mark.parametrize(("gamma_low", "gamma_high"), [(7.0, 10.5), (1.5, 2.5), (1.0, 4.0)])
def test_diap_is_defined_below_black(gamma_low: float, gamma_high: float) -> None:
    isp = create_isp("diap", gamma_low=gamma_low, gamma_high=gamma_high).train()
    x = (night(20, 24) - 0.01).requires_grad_(True)
    y = isp(x)
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_simrod_starts_amid_its_range_and_doubles_green() -> None:
    isp = SimrodIsp(SimrodConfig(init="paper"))
    gamma = isp.predict(torch.zeros(1, 3, 4, 4))["gamma"]
    torch.testing.assert_close(gamma, torch.full((1, 4), 8.75))
    assert isp.all_channels[0].in_channels == 4
    assert isp.green[0].in_channels == 2


def test_raw_adapters_bases_are_fixed_but_for_the_gain() -> None:
    isp = RawAdapterIsp()
    fixed = {name for name, p in isp.named_parameters() if not p.requires_grad}
    assert fixed == {"kernel_predictor.base_deviations", "matrix_predictor.base_matrix"}
    assert isp.kernel_predictor.base_deviations.tolist() == [3.0, 2.0]


def test_raw_adapters_white_balance_is_shades_of_grey() -> None:
    """With rho = 3, by its definition, on a picture of two halves."""
    isp = RawAdapterIsp().eval()
    with torch.no_grad():
        isp.matrix_predictor.head.bias.fill_(0.0)
        isp.matrix_predictor.operators = lambda x: (  # type: ignore[method-assign]
            torch.eye(3).expand(x.shape[0], 3, 3),
            torch.full((x.shape[0], 1), 3.0),
        )
        x = torch.full((1, 3, 32, 32), 0.1)
        x[:, 0] = 0.3
        x[:, 1, :, 16:] = 0.4
        i2 = isp._denoised(x, isp.predict(x))
        balance = isp.predict(x)["balance"][0].tolist()
    planes = [plane.flatten().tolist() for plane in i2[0]]
    means = [math.fsum(v**3 for v in plane) / 1024 for plane in planes]
    whole = (sum(means) / 3) ** (1 / 3)
    assert balance == pytest.approx([whole / mean ** (1 / 3) for mean in means], rel=1e-4)
