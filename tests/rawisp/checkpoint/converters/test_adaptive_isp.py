"""Weights in AdaptiveISP's published layout render as the published formulas do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from rawisp.checkpoint import load_isp
from rawisp.checkpoint.convert import Settings, convert_checkpoint
from rawisp.errors import CheckpointError
from rawisp.isp.adaptive.policy import ValueNetwork

# Operators in the order that the state and the choice have, and the numbers each one takes.
OPERATORS = {
    "E": 1,
    "G": 1,
    "CCM": 9,
    "Shr": 1,
    "NLM": 1,
    "T": 8,
    "Ct": 1,
    "S+": 1,
    "BW": 1,
    "W": 3,
}


class Extractor(nn.Module):
    """Published: four blocks of convolution, normalisation and LeakyReLU in `layers`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for out in (32, 64, 128, 256):
            blocks += [nn.Conv2d(channels, out, 4, 2, 1), nn.BatchNorm2d(out), nn.LeakyReLU(0.2)]
            channels = out
        self.layers = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).reshape(-1, 4096)


class Operator(nn.Module):
    """Published: a head with six outputs of a mask that is never used."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(4096, 128)
        self.fc_filter = nn.Linear(128, numbers)
        self.fc_mask = nn.Linear(128, 6)


class Agent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor = Extractor(16)
        for key, numbers in OPERATORS.items():
            self.add_module(key, Operator(numbers))
        self.action_selection = Extractor(16)
        self.fc1 = nn.Linear(4096, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Five steps, one image."""
        state = torch.zeros(1, 13)
        for _ in range(5):
            small = functional.adaptive_avg_pool2d(x, 64)
            seen = torch.cat([small, state.view(1, 13, 1, 1).expand(1, 13, 64, 64)], 1)
            hidden = functional.leaky_relu(self.fc1(self.action_selection(seen)), 0.2)
            chosen = int(self.fc2(hidden).argmax())
            key = list(OPERATORS)[chosen]
            head: Any = getattr(self, key)
            features = functional.leaky_relu(head.fc1(self.feature_extractor(seen)), 0.2)
            x = operate(key, x, head.fc_filter(features)[0]).clamp(0, 1)
            state = state.clone()
            state[0, 2] += 1
            state[0, 3 + chosen] = 1
        return x


class Value(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor = Extractor(19)
        self.fc1 = nn.Linear(4096, 128)
        self.fc2 = nn.Linear(128, 1)

    def forward(self, seen: Tensor) -> Tensor:
        return self.fc2(functional.leaky_relu(self.fc1(self.feature_extractor(seen)), 0.2))


def operate(key: str, x: Tensor, f: Tensor) -> Tensor:
    """The ten published formulas, for one image (1, 3, H, W) and the head's raw numbers."""
    luma = (x * torch.tensor([0.27, 0.67, 0.06]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    if key == "E":
        return x * 2 ** (-3.5 + 7 * (torch.tanh(f) + 1) / 2)
    if key == "G":
        return x.clamp(min=1e-3) ** (3 ** torch.tanh(f))
    if key == "CCM":
        matrix = 2 * torch.tanh(f).view(3, 3)
        return torch.einsum("ck,nkhw->nchw", matrix / matrix.sum(1, keepdim=True), x)
    if key == "Shr":
        factor = 10 * (torch.tanh(f) + 1) / 2
        kernel = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]).expand(3, 1, 3, 3) / 13
        blurred = x.clone()
        blurred[:, :, 1:-1, 1:-1] = functional.conv2d(x, kernel, groups=3)
        return factor * x + (1 - factor) * blurred
    if key == "NLM":
        return averaged(x, torch.sigmoid(f))
    if key == "T":
        slopes = 0.5 + 1.5 * (torch.tanh(f) + 1) / 2
        # The bias that makes raw 0 a slope of 1.25: tanh of it is 0.
        pieces = [slopes[i] * (x - i / 8).clamp(0, 1 / 8) for i in range(8)]
        return 8 / slopes.sum() * torch.stack(pieces).sum(0)
    if key == "Ct":
        level = luma.clamp(0, 1)
        curve = 0.5 * (1 - torch.cos(math.pi * level))
        return (1 - torch.tanh(f)) * x + torch.tanh(f) * x * curve / (level + 1e-6)
    if key == "S+":
        return (1 - torch.sigmoid(f)) * x + torch.sigmoid(f) * saturated(x.clamp(0, 1))
    if key == "BW":
        return (1 - torch.sigmoid(f)) * x + torch.sigmoid(f) * luma
    gains = torch.exp(0.5 * torch.tanh(f * torch.tensor([0.0, 1, 1])))
    level = 1e-5 + (gains * torch.tensor([0.27, 0.67, 0.06])).sum()
    return x * (gains / level).view(1, 3, 1, 1)


def averaged(x: Tensor, strength: Tensor) -> Tensor:
    """Non-local means with circular shifts, offset by offset."""
    y = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    total, weights = torch.zeros_like(x), torch.zeros_like(y)
    for dy in range(-5, 6):
        for dx in range(-5, 6):
            squares = (y - y.roll((dy, dx), (2, 3))) ** 2
            patch = [squares.roll((i, j), (2, 3)) for i in range(-2, 3) for j in range(-2, 3)]
            weight = torch.exp(-torch.stack(patch).sum(0).sqrt() / (strength + 1e-8))
            total, weights = total + weight * x.roll((dy, dx), (2, 3)), weights + weight
    return total / weights


def saturated(x: Tensor) -> Tensor:
    """By hue, saturation and value; grey, which the bars are, has hue 0."""
    v, low = x.amax(1), x.amin(1)
    span = (v - low).clamp(min=1e-20)
    s, (r, g, b) = (v - low) / (v + 1e-8), x.unbind(1)
    hue = torch.where(
        v == r,
        (g - b) / span,
        torch.where(v == g, 2 + (b - r) / span, 4 + (r - g) / span),
    )
    s = s + (1 - s) * 0.8 * (0.5 - (0.5 - v).abs())
    planes = []
    for n in (5, 3, 1):
        k = (n + hue) % 6
        planes.append(v - v * s * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(planes, 1)


@pytest.fixture(scope="module")
def agent() -> Agent:
    """Random weights and statistics, but a colour matrix and a sharpening that amplify little, and
    a choice that depends on which operators were used."""
    torch.manual_seed(3)
    made: Any = Agent().eval()
    for name, buffer in made.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    with torch.no_grad():
        made.CCM.fc_filter.bias.copy_(torch.eye(3).flatten() - 0.1)
        made.Shr.fc_filter.bias.fill_(-0.7)
        made.action_selection.layers[0].weight[:, 3:].mul_(8.0)
    return made


def picture() -> Tensor:
    """(1, 3, 21, 26), no two channels of a pixel equal."""
    torch.manual_seed(0)
    return 0.02 + 0.6 * torch.rand(1, 3, 21, 26) ** 2


@pytest.mark.parametrize("chosen", [None, *OPERATORS])
def test_renders_what_the_published_formulas_render(
    agent: Agent, tmp_path: Path, chosen: str | None
) -> None:
    state = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    if chosen is not None:
        state["fc2.bias"][list(OPERATORS).index(chosen)] = 100.0
    assert len(state) == 120
    source, out = tmp_path / "iter.pth", tmp_path / "adaptive.safetensors"
    torch.save({"iter": 3, "agent_model": state}, source)
    result = convert_checkpoint(source, out, "adaptive-isp")
    assert (result["tensors_used"], result["tensors_ignored"]) == (120, 0)
    assert result["found_in"] == "agent_model"
    isp = load_isp(out, device="cpu")
    assert isp.metadata.input_color == "camera"
    assert isp.metadata.fit == (512, 512)
    reference = Agent().eval()
    reference.load_state_dict(state)
    x = picture()
    # As the published loader feeds it: between black bars of two rows above and three below.
    square = functional.pad(x, [0, 0, 2, 3])
    with torch.no_grad():
        expected = reference(square)[:, :, 2:-3]
        torch.testing.assert_close(isp.run(x), expected, atol=1e-5, rtol=0)


def test_several_operators_are_chosen_one_after_another(agent: Agent, tmp_path: Path) -> None:
    torch.save(agent.state_dict(), tmp_path / "agent.pt")
    convert_checkpoint(tmp_path / "agent.pt", tmp_path / "a.safetensors", "adaptive-isp")
    run: Any = load_isp(tmp_path / "a.safetensors", device="cpu").run
    with torch.no_grad():
        assert run.config.parity
        assert len(set(run.predict(picture())["operators"][0].tolist())) > 2


def test_the_value_network_goes_beside_it(agent: Agent, tmp_path: Path) -> None:
    value = Value().eval()
    both = {
        "iter": 1000,
        "agent_model": agent.state_dict(),
        "value_model": value.state_dict(),
        "agent_optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1}]},
    }
    source, out = tmp_path / "both.pth", tmp_path / "adaptive.safetensors"
    torch.save(both, source)
    result = convert_checkpoint(source, out, "adaptive-isp", Settings(value=str(source)))
    assert result["value"] == str(tmp_path / "adaptive.value.safetensors")
    network = ValueNetwork().eval()
    network.load_state_dict(load_file(result["value"]))
    seen = torch.rand(2, 19, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.head(network.trunk(seen)), value(seen))
    with pytest.raises(CheckpointError, match="without rawisp's metadata"):
        load_isp(result["value"])


def test_an_agent_is_no_value_network(agent: Agent, tmp_path: Path) -> None:
    source, out = tmp_path / "agent.safetensors", tmp_path / "out.safetensors"
    save_file({f"module.{name}": t for name, t in agent.state_dict().items()}, source)
    with pytest.raises(CheckpointError, match=r"value network: .*fc2.weight is 10x128, not 1x128"):
        convert_checkpoint(source, out, "adaptive-isp", Settings(value=str(source)))
    assert not list(tmp_path.glob("out*"))
    convert_checkpoint(source, out, "adaptive-isp")


def test_missing_unknown_and_misshapen_tensors_are_named(agent: Agent, tmp_path: Path) -> None:
    source, out = tmp_path / "agent.pt", tmp_path / "out.safetensors"
    state = dict(agent.state_dict())
    for key in ("fc1.weight", "fc1.bias"):
        del state[f"S+.{key}"]
    state["Hue.fc1.weight"] = torch.ones(1)
    state["fc2.weight"] = torch.ones(11, 128)
    torch.save(state, source)
    with pytest.raises(CheckpointError) as caught:
        convert_checkpoint(source, out, "adaptive-isp")
    assert str(caught.value) == (
        f"{source}: does not fit AdaptiveISP v1.0: 2 of its 120 tensors missing "
        "(S+.fc1.weight, S+.fc1.bias), 1 unknown (Hue.fc1.weight), "
        "1 of another shape (fc2.weight is 11x128, not 10x128)"
    )
    assert not out.exists()


def test_a_detectors_weights_are_no_agent(tmp_path: Path) -> None:
    torch.save({"model": {"stem.conv.weight": torch.ones(2)}}, tmp_path / "yolo.pt")
    with pytest.raises(CheckpointError, match=r"none of its 1 tensors \(stem.conv.weight\)"):
        convert_checkpoint(tmp_path / "yolo.pt", tmp_path / "out.safetensors", "adaptive-isp")
