"""Weights in TA-ISP's published layout render as the published formulas do, without their noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rawisp.checkpoint import load_isp
from rawisp.checkpoint.convert import Settings, convert_checkpoint
from rawisp.errors import CheckpointError, UsageError


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch_convs = nn.ModuleList(nn.Conv2d(2, 1, k, padding=k // 2) for k in (3, 5))
        self.gate_proj = nn.Conv2d(channels, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        gate = torch.softmax(self.gate_proj(x.mean((2, 3), keepdim=True)), 1)
        maps = torch.cat([torch.sigmoid(branch(pooled)) for branch in self.branch_convs], 1)
        return x * (gate * maps).sum(1, keepdim=True)


class Published(nn.Module):
    """Published names; the masks are the mean of the published noisy ones."""

    def __init__(self, low: float, high: float, channels: int = 3) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.gain_mlp = nn.Sequential(
            nn.Linear(2 * channels, 64), nn.ReLU(), nn.Linear(64, channels), nn.Softplus()
        )
        self.mask_head = nn.Conv2d(channels, 16, 3, padding=1)
        self.weight_mlp = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))
        self.attn = Attention(channels)

    def forward(self, x: Tensor) -> Tensor:
        statistics = torch.cat([x.mean((2, 3)), x.var((2, 3), unbiased=False)], 1)
        gain = 1 + self.gain_mlp(statistics)
        x = self.attn((x * gain[:, :, None, None]).clamp(1e-6, 1)).clamp(1e-6, 1)
        logits = self.mask_head(x)
        share = torch.sigmoid(self.weight_mlp(logits.mean((2, 3))))
        w = (self.low + (self.high - self.low) * share).view(-1, 16, 1, 1, 1)
        curves = (x.unsqueeze(1) ** (1 / w)).clamp(1e-6, 1)
        return (torch.softmax(logits, 1).unsqueeze(2) * curves).sum(1)


def made(channels: int = 3) -> Published:
    torch.manual_seed(2)
    reference = Published(2.0, 4.0, channels).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.mul_(2.0)
    return reference


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "ta.safetensors"


RANGE = Settings(weight_range=(2.0, 4.0))


@pytest.mark.parametrize("prefix", ["", "TAISP.", "module.backbone.TAISP."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_renders_what_the_published_formulas_render(
    tmp_path: Path, out: Path, prefix: str, suffix: str
) -> None:
    reference = made()
    assert sum(p.numel() for p in reference.parameters()) == 3297
    state = {prefix + name: tensor for name, tensor in reference.state_dict().items()}
    others = 0
    if prefix:
        state["backbone.conv1.weight"] = torch.ones(16, 3, 3, 3)
        state["backbone.conv1.bias"] = torch.ones(16)
        others = 2
    source = tmp_path / f"epoch{suffix}"
    if suffix == ".pth":
        torch.save({"meta": {"epoch": 7}, "state_dict": state}, source)
    else:
        save_file(state, source)
    result = convert_checkpoint(source, out, "ta-isp", RANGE)
    assert (result["tensors_used"], result["tensors_ignored"]) == (16, others)
    isp = load_isp(out, device="cpu")
    assert (isp.metadata.config["w_min"], isp.metadata.config["w_max"]) == (2.0, 4.0)
    assert isp.metadata.input_color == "camera"
    x = torch.rand(1, 3, 19, 26, generator=torch.Generator().manual_seed(0)) ** 3
    with torch.no_grad():
        torch.testing.assert_close(isp.run(x), reference(x), atol=1e-5, rtol=0)


def test_layers_of_other_names_are_found_by_their_shapes(tmp_path: Path, out: Path) -> None:
    reference = made()
    names = {"gain_mlp": "glc", "attn": "hsa", "mask_head": "masks", "gate_proj": "gate"}
    state = {}
    for name, tensor in reference.state_dict().items():
        state[".".join(names.get(part, part) for part in name.split("."))] = tensor
    state["head.weight"] = torch.ones(8, 256)
    torch.save(state, tmp_path / "renamed.pt")
    result = convert_checkpoint(tmp_path / "renamed.pt", out, "ta-isp", RANGE)
    assert (result["tensors_used"], result["ignored"]) == (16, ["head.weight"])
    x = torch.rand(1, 3, 19, 26, generator=torch.Generator().manual_seed(0)) ** 3
    with torch.no_grad():
        torch.testing.assert_close(
            load_isp(out, device="cpu").run(x), reference(x), atol=1e-5, rtol=0
        )
    state["stem.weight"], state["stem.bias"] = torch.ones(16, 3, 3, 3), torch.ones(16)
    torch.save(state, tmp_path / "two.pt")
    with pytest.raises(CheckpointError, match=r"has 2 layers of 16x3x3x3 .*\(masks, stem\), wher"):
        convert_checkpoint(tmp_path / "two.pt", out, "ta-isp", RANGE)


def test_the_range_has_to_be_said(tmp_path: Path, out: Path) -> None:
    torch.save(made().state_dict(), tmp_path / "ta.pt")
    with pytest.raises(CheckpointError, match="--weight-range LOW,HIGH"):
        convert_checkpoint(tmp_path / "ta.pt", out, "ta-isp")
    for wrong in ((4.0, 2.0), (0.0, 2.0), (1.0, float("inf")), (float("nan"), 2.0)):
        with pytest.raises(UsageError, match="is not a range of numbers above 0"):
            convert_checkpoint(tmp_path / "ta.pt", out, "ta-isp", Settings(weight_range=wrong))
    assert not out.exists()


def test_missing_tensors_and_four_channels_are_refused(tmp_path: Path, out: Path) -> None:
    state = dict(made().state_dict())
    del state["weight_mlp.2.bias"]
    torch.save(state, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match=r"1 of its 16 tensors missing \(weight_mlp.2.b"):
        convert_checkpoint(tmp_path / "part.pt", out, "ta-isp", RANGE)
    torch.save(made(channels=4).state_dict(), tmp_path / "four.pt")
    with pytest.raises(CheckpointError, match="four channels"):
        convert_checkpoint(tmp_path / "four.pt", out, "ta-isp", RANGE)
    both = {f"{part}.{n}": t for part in ("online", "ema") for n, t in made().state_dict().items()}
    torch.save(both, tmp_path / "both.pt")
    with pytest.raises(CheckpointError, match=r"more than once, behind online\., ema\.; save one"):
        convert_checkpoint(tmp_path / "both.pt", out, "ta-isp", RANGE)
    assert not out.exists()
