"""What all published ISPs have in common: sizes, cost, the contract, TorchScript, gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rawisp.checkpoint.torchscript import deprecation_silenced
from rawisp.errors import UsageError
from rawisp.isp.base import Isp
from rawisp.isp.baselines.diap import DiapConfig, DiapIsp
from rawisp.isp.baselines.invisp import InvispConfig, InvispIsp
from rawisp.isp.baselines.mw_ispnet import MwIspNetConfig, MwIspNetIsp
from rawisp.isp.baselines.raw_adapter import RawAdapterConfig, RawAdapterIsp
from rawisp.isp.baselines.simrod import SimrodConfig, SimrodIsp
from rawisp.isp.contract import EXTREMES, check_isp, night
from rawisp.isp.stream import render_in_tiles

DEFAULTS: dict[str, Callable[[], Isp]] = {
    "diap": DiapIsp,
    "raw-adapter": RawAdapterIsp,
    "mw-ispnet": MwIspNetIsp,
    "invisp": InvispIsp,
    "simrod": SimrodIsp,
}
# Small or far from the default, each with its published start.
VARIANTS: dict[str, Callable[[], Isp]] = {
    "diap, RAOD": lambda: DiapIsp(
        DiapConfig(width=8, gamma_low=7, gamma_high=10.5, floor=0, init="paper")
    ),
    "raw-adapter, LOD": lambda: RawAdapterIsp(
        RawAdapterConfig(kernel=9, light="low", detail_gain=False, init="paper")
    ),
    "raw-adapter, no LUT": lambda: RawAdapterIsp(RawAdapterConfig(lut=False, init="paper")),
    "mw-ispnet, one block": lambda: MwIspNetIsp(MwIspNetConfig(blocks=1, init="paper")),
    "invisp, two steps": lambda: InvispIsp(InvispConfig(steps=2, init="paper")),
    "simrod, paper": lambda: SimrodIsp(SimrodConfig(floor=0, init="paper")),
}
ALL = {**DEFAULTS, **VARIANTS}


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (DiapIsp, 72_672),
        (lambda: DiapIsp(DiapConfig(width=32)), 259_872),
        (RawAdapterIsp, 78_929),
        (lambda: RawAdapterIsp(RawAdapterConfig(lut=False)), 75_534),
        (lambda: RawAdapterIsp().kernel_predictor, 37_572),
        (lambda: RawAdapterIsp().matrix_predictor, 37_962),
        (lambda: RawAdapterIsp().lut, 3_395),
        (MwIspNetIsp, 9_140_077),
        (InvispIsp, 1_060_320),
        (lambda: InvispIsp(InvispConfig(steps=8)), 1_413_760),
        (lambda: InvispIsp(InvispConfig(steps=2)), 353_440),
        (SimrodIsp, 2_983),
    ],
)
def test_has_as_many_parameters_as_published(make: Callable[[], nn.Module], count: int) -> None:
    assert sum(p.numel() for p in make().parameters()) == count


def multiplications(isp: Isp, side: int) -> int:
    """Of convolutions and linear layers, for one image."""
    total = 0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        total += int(output[0].numel()) * int(weight.numel()) // int(weight.shape[0])  # type: ignore[arg-type,index,operator,union-attr]

    for layer in isp.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        isp(night(side, side))
    return total


@pytest.mark.parametrize(
    ("name", "billions", "side"),
    [
        ("diap", 0.223, 640),
        ("raw-adapter", 1.58, 640),
        ("mw-ispnet", 210.95, 64),
        ("invisp", 433.30, 64),
    ],
)
def test_costs_what_is_published_at_640(name: str, billions: float, side: int) -> None:
    """Where every layer's cost grows with the area, a smaller image tells it as well."""
    counted = multiplications(DEFAULTS[name]().eval(), side) * (640 / side) ** 2
    assert counted == pytest.approx(billions * 1e9, rel=4e-3)


@pytest.mark.parametrize("name", DEFAULTS)
def test_keeps_the_contract(name: str) -> None:
    assert DEFAULTS[name]().name == name  # type: ignore[comparison-overlap]
    check_isp(DEFAULTS[name])


@pytest.mark.parametrize("name", ALL)
def test_scripted_is_the_same(name: str) -> None:
    torch.manual_seed(0)
    isp = ALL[name]().eval()
    with deprecation_silenced():
        scripted = torch.jit.script(isp)
    valid = torch.zeros(2, 1, 37, 45, dtype=torch.bool)
    valid[0, :, :30, :41], valid[1] = True, True
    for height, width in ((37, 45), (37, 45), (16, 24)):  # the second run is the optimised one
        x = night(height, width, batch=2)
        with torch.no_grad():
            torch.testing.assert_close(scripted(x), isp(x), atol=1e-5, rtol=0)
    x = night(37, 45, batch=2)
    with torch.no_grad():
        torch.testing.assert_close(scripted(x, valid), isp(x, valid), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [n for n in ALL if ALL[n]().streams and n != "invisp"])
@pytest.mark.parametrize("tile", [13, 40])
def test_tiles_equal_the_whole_away_from_the_start(name: str, tile: int, shaken: Any) -> None:
    isp = shaken(ALL[name](), by=0.03)
    x = night(57, 83, batch=2, level=0.05)
    with torch.no_grad():
        whole = isp(x)
        assert float(whole.std()) > 1e-3
        torch.testing.assert_close(render_in_tiles(isp, x, tile), whole, atol=1e-5, rtol=0)


def test_what_does_not_stream_says_so() -> None:
    with pytest.raises(UsageError, match="mw-ispnet cannot be rendered in tiles, because"):
        render_in_tiles(MwIspNetIsp(MwIspNetConfig(blocks=1)), night(16, 16))


@pytest.mark.parametrize("name", ALL)
def test_images_of_a_batch_do_not_influence_each_other(name: str, shaken: Any) -> None:
    isp = shaken(ALL[name](), by=0.01)
    x = torch.cat([night(24, 32, seed=n, level=0.002 * 4**n) for n in range(3)])
    with torch.no_grad():
        together = isp.apply(x, isp.predict(x))
        alone = torch.cat([isp.apply(image[None], isp.predict(image[None])) for image in x])
    scale = max(1.0, float(alone.abs().max()))
    torch.testing.assert_close(together, alone, atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize("name", VARIANTS)
def test_published_starts_have_finite_values_and_gradients(name: str) -> None:
    torch.manual_seed(1)
    for label, image in EXTREMES.items():
        isp = VARIANTS[name]().train()
        x = image().requires_grad_(True)
        y = isp(x)
        assert y.isfinite().all(), label
        y.square().mean().backward()
        for value in (*isp.parameters(), x):
            assert value.grad is None or value.grad.isfinite().all(), label


@pytest.mark.parametrize("name", ALL)
def test_gradients_reach_every_parameter(name: str, shaken: Any) -> None:
    """Except in an attention whose four hidden units happen to be off."""
    isp = shaken(ALL[name](), by=0.03)
    x = night(33, 40, batch=2, level=0.1)
    (isp.apply(x, isp.predict(x)) * torch.rand(2, 3, 33, 40)).sum().backward()
    for label, value in isp.named_parameters():
        if value.requires_grad:
            assert value.grad is not None, label
            assert ".attention." in label or value.grad.abs().max() > 0, label


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_few_steps_from_the_start_learn_a_rendering(name: str) -> None:
    torch.manual_seed(0)
    isp = DEFAULTS[name]().train()
    x = night(24, 32, batch=2, level=0.1)
    target = 0.8 * x.clamp(min=0) ** 0.6 + 0.05
    rate = 1e-4 if name in ("mw-ispnet", "invisp") else 2e-3
    optimizer = torch.optim.Adam(isp.parameters(), lr=rate)
    losses = []
    for _ in range(6):
        loss = (isp(x) - target).square().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", DEFAULTS)
def test_refuses_an_unknown_start(name: str) -> None:
    cls: Any = DEFAULTS[name]
    with pytest.raises(ValueError, match="init is 'random'; there are"):
        cls(cls.Config(init="random"))
