"""TA-ISP against its formulas written out, with every plane in memory, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from rawisp.checkpoint.torchscript import deprecation_silenced
from rawisp.isp import contract
from rawisp.isp.contract import EXTREMES, night
from rawisp.isp.ta_isp import TaIsp, TaIspConfig

# The ranges of the published experiments.
RANGES = [(1.0, 3.0), (2.0, 4.0), (1.0, 4.0), (5.0, 9.0), (3.0, 6.0)]


def shaken(seed: int = 0, **settings: Any) -> TaIsp:
    """In eval mode, with every parameter away from its start."""
    torch.manual_seed(seed)
    isp = TaIsp(TaIspConfig(**settings)).eval()
    with torch.no_grad():
        for parameter in isp.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return isp


def four_channels(x: Tensor) -> Tensor:
    """(R, G1, G2, B) from (R, G, B), the greens differing a little."""
    return torch.stack([x[:, 0], x[:, 1], 1.02 * x[:, 1], x[:, 2]], dim=1)


def written_out(isp: TaIsp, image: Tensor, w_min: float, w_max: float, mode: str) -> dict[str, Any]:
    """One image (C, H, W): the steps of the specification with their numbers."""
    p = {name: value.double() for name, value in isp.state_dict().items()}
    x = image.double()
    mu = torch.stack([plane.mean() for plane in x])
    v = torch.stack([((plane - plane.mean()) ** 2).mean() for plane in x])
    s = torch.cat([mu, v])
    h = (p["gain_mlp.0.weight"] @ s + p["gain_mlp.0.bias"]).clamp(min=0)
    alpha = 1 + torch.log(1 + torch.exp(p["gain_mlp.2.weight"] @ h + p["gain_mlp.2.bias"]))
    xg = (alpha[:, None, None] * x).clamp(1e-6, 1)
    pair = torch.stack([xg.mean(dim=0), xg.max(dim=0)[0]])[None]
    a3 = functional.conv2d(pair, p["attention3.weight"], p["attention3.bias"], padding=1).sigmoid()
    a5 = functional.conv2d(pair, p["attention5.weight"], p["attention5.bias"], padding=2).sigmoid()
    d = torch.stack([plane.mean() for plane in xg])
    gate = torch.softmax(p["gate.weight"] @ d + p["gate.bias"], dim=0)
    xs = (xg * (gate[0] * a3 + gate[1] * a5)[0]).clamp(1e-6, 1)
    logits = functional.conv2d(xs[None], p["mask_head.weight"], p["mask_head.bias"], padding=1)[0]
    pooled = logits.mean(dim=(1, 2))
    h = (p["weight_mlp.0.weight"] @ pooled + p["weight_mlp.0.bias"]).clamp(min=0)
    q = p["weight_mlp.2.weight"] @ h + p["weight_mlp.2.bias"]
    w = w_min + (w_max - w_min) / (1 + torch.exp(-q))
    if mode == "hard":
        masks = functional.one_hot(logits.argmax(dim=0), len(w)).permute(2, 0, 1).double()
    else:
        masks = torch.softmax(logits / (0.1 if mode == "sharp" else 1.0), dim=0)
    curves = torch.stack([xs ** (1 / weight) for weight in w]).clamp(1e-6, 1)
    y = (masks[:, None] * curves).sum(dim=0)
    if len(y) == 4:
        y = torch.stack([y[0], (y[1] + y[2]) / 2, y[3]]).clamp(0, 1)
    return {"gain": alpha, "gate": gate, "weight": w, "pooled": pooled, "attended": xs, "y": y}


@pytest.mark.parametrize("mode", ["mean", "sharp", "hard"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("w_min", "w_max"), RANGES)
def test_equals_the_formulas_written_out(
    mode: str, channels: int, w_min: float, w_max: float
) -> None:
    isp = shaken(mode=mode, in_channels=channels, w_min=w_min, w_max=w_max)
    x = night(23, 31, batch=2, level=0.05)
    x = four_channels(x) if channels == 4 else x
    with torch.no_grad():
        parameters, y = isp.predict(x), isp(x)
        for n in range(2):
            expected = written_out(isp, x[n], w_min, w_max, mode)
            for name in ("gain", "gate", "weight"):
                found = parameters[name][n].double()
                torch.testing.assert_close(found, expected[name], atol=1e-6, rtol=1e-6)
            pooled = isp.pooled_logits(expected["attended"][None].float())[0].double()
            torch.testing.assert_close(pooled, expected["pooled"], atol=1e-6, rtol=0)
            torch.testing.assert_close(y[n].double(), expected["y"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("channels", "parts"), [(3, (643, 78, 448)), (4, (836, 80, 592))])
def test_parameter_counts(channels: int, parts: tuple[int, int, int]) -> None:
    isp = TaIsp(TaIspConfig(in_channels=channels))

    def count(*modules: torch.nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    assert count(isp.gain_mlp) == parts[0]
    assert count(isp.attention3, isp.attention5, isp.gate) == parts[1]
    assert count(isp.mask_head) == parts[2]
    assert count(isp.weight_mlp) == 2128
    assert count(isp) == {3: 3297, 4: 3636}[channels]


def test_convolutions_take_204_8_million_multiplications_at_640() -> None:
    convolutions = [m for m in TaIsp().modules() if isinstance(m, torch.nn.Conv2d)]
    assert sum(m.weight.numel() for m in convolutions) * 640 * 640 == 204_800_000


@pytest.mark.parametrize(("w_min", "w_max"), RANGES)
@pytest.mark.parametrize("seed", range(4))
def test_a_fresh_one_starts_mildly(seed: int, w_min: float, w_max: float) -> None:
    torch.manual_seed(seed)
    isp = TaIsp(TaIspConfig(w_min=w_min, w_max=w_max))
    x = 0.2 * torch.rand(2, 3, 40, 40)
    with torch.no_grad():
        parameters, y = isp.predict(x), isp(x)
    assert parameters["gain"].min() > 1.5
    assert parameters["gain"].max() < 2.0
    share = (parameters["weight"] - w_min) / (w_max - w_min)
    assert (share - 0.5).abs().max() < 0.15
    assert y.min() >= 1e-6
    assert y.max() <= 1.0


@pytest.mark.parametrize("mode", ["mean", "sharp", "hard", "noise"])
def test_deterministic_to_the_bit(mode: str) -> None:
    isp = TaIsp(TaIspConfig(mode=mode, seed=5)).eval()
    x = night(33, 40)
    with torch.no_grad():
        assert torch.equal(isp(x), isp(x))


def test_noise_follows_its_seed_and_the_global_generator() -> None:
    x = night(20, 30)

    def noisy(seed: int) -> Tensor:
        torch.manual_seed(0)
        isp = TaIsp(TaIspConfig(mode="noise", seed=seed)).eval()
        with torch.no_grad():
            isp(x)  # moves the global generator on
            return isp(x)

    assert torch.equal(noisy(7), noisy(7))
    assert not torch.equal(noisy(7), noisy(8))
    assert torch.equal(noisy(-1), noisy(-1))
    isp = TaIsp(TaIspConfig(mode="noise")).eval()
    with torch.no_grad():
        assert not torch.equal(isp(x), isp(x))


@pytest.mark.parametrize(("w_min", "w_max"), RANGES)
def test_the_mean_of_noise_is_the_mean_mode(w_min: float, w_max: float) -> None:
    """And neither "sharp" nor "hard" is: that is why "mean" is the default."""
    settings = {"w_min": w_min, "w_max": w_max}
    noisy = shaken(mode="noise", **settings)
    x = night(32, 32, level=0.05)
    gaps: dict[int, float] = {}
    with torch.no_grad():
        mean = shaken(**settings)(x)
        parameters = noisy.predict(x)
        total = torch.zeros_like(x)
        for n in range(1, 65):
            total += noisy.apply(x, parameters)
            gaps[n] = float((total / n - mean).abs().mean())
        bias = float((total / 64 - mean).mean().abs())
        sharp = float((shaken(mode="sharp", **settings)(x) - mean).abs().mean())
        hard = float((shaken(mode="hard", **settings)(x) - mean).abs().mean())
    assert gaps[64] < gaps[1] / 5  # noise falls with the root of the runs, here to an eighth
    assert bias < 1e-3
    assert bias < 0.1 * min(sharp, hard)


@pytest.mark.parametrize("mode", ["mean", "sharp", "hard"])
def test_contract(mode: str) -> None:
    torch.manual_seed(0)
    contract.check_isp(lambda: TaIsp(TaIspConfig(mode=mode)))


def test_contract_of_seeded_noise_holds_but_for_tiles() -> None:
    def make() -> TaIsp:
        return TaIsp(TaIspConfig(mode="noise", seed=1))

    for check in ("sizes", "batch", "padding", "extremes", "gradients", "autocast", "config"):
        getattr(contract, f"check_{check}")(make)
    contract.check_parameters(make)
    with pytest.raises(AssertionError, match="tiles of"):
        contract.check_tiles(make)


@pytest.mark.parametrize("channels", [3, 4])
def test_local_within_its_halo_and_images_of_any_size(channels: int) -> None:
    isp = shaken(in_channels=channels)
    with torch.no_grad():
        for height, width in ((1, 1), (1, 7), (2, 2), (3, 9), (16, 21)):
            x = night(24, 24, batch=2)[:, :, :height, :width]
            x = four_channels(x) if channels == 4 else x
            parameters = isp.predict(x)
            whole = isp.apply(x, parameters)
            assert whole.shape == (2, 3, height, width)
            for row in range(height):
                top, bottom = max(row - 3, 0), min(row + 4, height)
                strip = isp.apply(x[:, :, top:bottom], parameters)[:, :, row - top]
                torch.testing.assert_close(strip, whole[:, :, row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("height", [1, 2, 3, 37])
@pytest.mark.parametrize("width", [1, 2, 3, 53])
def test_pooled_logits_without_the_logits(height: int, width: int) -> None:
    isp = shaken()
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = isp.mask_head(x).mean(dim=(2, 3))
        torch.testing.assert_close(isp.pooled_logits(x), expected, atol=1e-6, rtol=0)


class Largest(TorchDispatchMode):
    """Notes the most elements that any operation gave out."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_plane_of_logits_for_the_weights_and_no_stack_of_curves() -> None:
    isp = shaken()
    x = night(64, 64)
    with torch.no_grad():
        with Largest() as predicting:
            parameters = isp.predict(x)
        with Largest() as applying:
            isp.apply(x, parameters)
    assert predicting.elements <= 3 * 64 * 64
    assert applying.elements <= 16 * 64 * 64


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_are_finite_and_in_float32(name: str, autocast: bool) -> None:
    torch.manual_seed(0)
    for w_min, w_max in ((1.0, 3.0), (5.0, 9.0)):
        isp = TaIsp(TaIspConfig(w_min=w_min, w_max=w_max))
        x = EXTREMES[name]().requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y = isp(x)
        assert y.dtype == torch.float32
        y.square().mean().backward()
        for tensor in (*isp.parameters(), x):
            assert tensor.grad is not None
            assert torch.isfinite(tensor.grad).all()


def test_autocast_changes_nothing() -> None:
    isp = shaken()
    x = night(20, 30)
    with torch.no_grad():
        plain = isp(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(isp(x), plain)


@pytest.mark.parametrize("mode", ["mean", "sharp", "noise"])
def test_gradients_reach_every_parameter(mode: str) -> None:
    isp = shaken(mode=mode).train()
    x = night(24, 30, batch=2, level=0.1)
    (isp(x) * torch.rand_like(x)).sum().backward()
    for name, parameter in isp.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_gradients_in_float64_agree_with_differences() -> None:
    """The weights' gradient is -Y ln(x) / w^2, each weighted by its mask."""
    isp = shaken()
    x = night(9, 11, level=0.1)
    parameters = {name: value.detach() for name, value in isp.predict(x).items()}
    weight = parameters["weight"].clone().requires_grad_(True)
    isp.apply(x, {**parameters, "weight": weight}).sum().backward()
    assert weight.grad is not None
    with torch.no_grad():
        for k in (0, 7, 15):
            step = torch.zeros_like(weight)
            step[0, k] = 1e-2
            more = isp.apply(x, {**parameters, "weight": weight + step}).double().sum()
            less = isp.apply(x, {**parameters, "weight": weight - step}).double().sum()
            difference = float((more - less) / 2e-2)
            assert float(weight.grad[0, k]) == pytest.approx(difference, rel=0.02, abs=1e-3)


def test_the_statistics_of_24_bit_darkness_are_exact() -> None:
    """With a one-pass variance in float32 the variance of these would be anything."""
    isp = shaken()
    with torch.no_grad():  # the gain then tells the statistics apart
        isp.gain_mlp[0].weight.mul_(2.0**20)
    generator = torch.Generator().manual_seed(0)
    x = 2.0**-20 * (1 + 0.01 * torch.rand(1, 3, 80, 90, generator=generator))
    with torch.no_grad():
        expected = written_out(isp, x[0], 1.0, 3.0, "mean")["gain"]
        torch.testing.assert_close(isp.predict(x)["gain"][0].double(), expected, atol=0, rtol=1e-6)


@pytest.mark.parametrize("mode", ["mean", "sharp", "hard", "noise"])
@pytest.mark.parametrize("channels", [3, 4])
def test_scripted_is_the_same(mode: str, channels: int) -> None:
    isp = shaken(mode=mode, in_channels=channels)
    x = night(33, 41, batch=2)
    x = four_channels(x) if channels == 4 else x
    with deprecation_silenced(), torch.no_grad():
        scripted = torch.jit.script(isp)
        torch.manual_seed(1)
        expected = isp(x)
        torch.manual_seed(1)
        torch.testing.assert_close(scripted(x), expected, atol=0, rtol=0)
        if channels == 3 and mode != "noise":
            valid = torch.ones(2, 1, 33, 41, dtype=torch.bool)
            valid[0, :, 20:] = False
            torch.testing.assert_close(scripted(x, valid), isp(x, valid), atol=0, rtol=0)


def test_scripted_seeded_noise_is_the_same() -> None:
    isp = TaIsp(TaIspConfig(mode="noise", seed=3)).eval()
    x = night(20, 30)
    with deprecation_silenced(), torch.no_grad():
        torch.testing.assert_close(torch.jit.script(isp)(x), isp(x), atol=0, rtol=0)


@pytest.mark.parametrize("mode", ["mean", "hard"])
def test_exports_with_any_size(mode: str) -> None:
    isp = shaken(mode=mode)
    batch, height, width = (torch.export.Dim(name, min=1, max=4096) for name in ("b", "h", "w"))
    exported = torch.export.export(
        isp, (night(20, 31, batch=2),), dynamic_shapes={"x": {0: batch, 2: height, 3: width}}
    ).module()
    x = night(37, 24, batch=3)
    with torch.no_grad():
        torch.testing.assert_close(exported(x), isp(x), atol=1e-6, rtol=0)


def test_moves_between_types_like_any_module() -> None:
    isp = TaIsp().to(torch.float64).to(torch.float32)
    assert isp.mask_head.weight.dtype == torch.float32


@pytest.mark.parametrize(
    "settings",
    [{"mode": "gumbel"}, {"w_min": 0.0}, {"tau": 0.0}, {"floor": 0.0}, {"in_channels": 1}],
)
def test_unusable_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        TaIspConfig(**settings)
