"""Weights of GenISP's reproductions render as these do, whatever their tensors are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from rawisp.checkpoint import load_isp
from rawisp.checkpoint.convert import Settings, convert_checkpoint
from rawisp.errors import CheckpointError, UsageError


class Capsar(nn.Module):
    """Published names and layers of Capsar/DL-GenISP, its unused trunk too; one image."""

    def __init__(self) -> None:
        super().__init__()
        self.image_to_parameter = self.trunk()
        self.conv_wb = nn.Sequential(nn.Identity(), self.trunk(), nn.Linear(128, 3))
        self.conv_cc = nn.Sequential(nn.Identity(), self.trunk(), nn.Linear(128, 9))
        self.shallow_conv_net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.InstanceNorm2d(16),
            nn.LeakyReLU(),
            nn.Conv2d(16, 64, 3, padding=1),
            nn.InstanceNorm2d(64),
            nn.LeakyReLU(),
            nn.Conv2d(64, 3, 1),
        )

    @staticmethod
    def trunk() -> nn.Sequential:
        layers: list[nn.Module] = []
        for inputs, outputs, size in ((3, 16, 7), (16, 32, 5), (32, 128, 3)):
            layers += [nn.Conv2d(inputs, outputs, size, padding=size // 2), nn.LeakyReLU()]
            layers.append(nn.MaxPool2d(2))
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Pixels are row vectors: x M."""
        balance = self.conv_wb(functional.interpolate(x, size=(256, 256), mode="bilinear"))
        x = (x.permute(0, 2, 3, 1) @ torch.diag(balance.squeeze())).permute(0, 3, 1, 2)
        matrix = self.conv_cc(functional.interpolate(x, size=(256, 256), mode="bilinear"))
        x = (x.permute(0, 2, 3, 1) @ matrix.view(3, 3)).permute(0, 3, 1, 2)
        return self.shallow_conv_net(x)


class RevillaPredictor(nn.Module):
    """ConvWB or ConvCC of rorevillaca/GenISP; the specification does not name its layers."""

    def __init__(self, cells: int, outputs: list[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 7)
        self.conv2 = nn.Conv2d(16, 32, 5)
        self.conv3 = nn.Conv2d(32, 64, 3)
        self.cells = cells
        sizes = [64 * cells**2, *outputs]
        self.mlp = nn.Sequential(*(nn.Linear(*pair) for pair in zip(sizes, outputs, strict=False)))

    def forward(self, x: Tensor) -> Tensor:
        for convolution, pool in ((self.conv1, 4), (self.conv2, 3), (self.conv3, 2)):
            x = functional.max_pool2d(functional.leaky_relu(convolution(x), 0.01), pool)
        return self.mlp(functional.adaptive_avg_pool2d(x, self.cells).flatten(1))


class RevillaShallow(nn.Module):
    def __init__(self, affine: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 64, 3)
        self.norm_a = nn.InstanceNorm2d(16, affine=affine)
        self.norm_b = nn.InstanceNorm2d(64, affine=affine)
        self.third = nn.Conv2d(64, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.norm_a(self.first(x)), 0.01)
        return self.third(functional.leaky_relu(self.norm_b(self.second(x)), 0.01))


class Revilla(nn.Module):
    def __init__(self, affine: bool = False) -> None:
        super().__init__()
        self.wb, self.cc = RevillaPredictor(1, [3]), RevillaPredictor(3, [15, 9])
        self.net = RevillaShallow(affine)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels are row vectors; two pixels are lost at each border."""
        balance = self.wb(functional.interpolate(x, size=256)).mean(0)
        x = (x.permute(0, 2, 3, 1) @ torch.diag(balance)).permute(0, 3, 1, 2)
        matrix = self.cc(functional.interpolate(x, size=256)).mean(0).reshape(3, 3)
        return self.net((x.permute(0, 2, 3, 1) @ matrix).permute(0, 3, 1, 2))


def made(kind: type[nn.Module], *arguments: Any) -> Any:
    """Random, with a balance around 1 and a matrix far from symmetric."""
    torch.manual_seed(1)
    reference = kind(*arguments).eval()
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if parameter.shape == (3,) and ("conv_wb" in name or "wb.mlp" in name):
                parameter.add_(1.0)
            if parameter.shape == (9,):
                parameter.add_(torch.tensor([1.0, 0.3, -0.2, 0, 0.9, 0.1, 0.2, -0.1, 1.1]))
    return reference


def picture() -> Tensor:
    torch.manual_seed(0)
    return torch.rand(1, 3, 23, 30) ** 2


def rendered(path: Path, x: Tensor) -> Tensor:
    """Not cut to [0, 1]."""
    run: Any = load_isp(path, device="cpu").run
    with torch.no_grad():
        return run.apply(x, run.predict(x))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "genisp.safetensors"


def test_capsar_renders_the_same(tmp_path: Path, out: Path) -> None:
    reference = made(Capsar)
    assert sum(p.numel() for p in reference.parameters()) == 168_047
    torch.save(reference.state_dict(), tmp_path / "gen_isp.pt")
    result = convert_checkpoint(tmp_path / "gen_isp.pt", out, "genisp", input_color="camera")
    assert (result["tensors_used"], result["tensors_ignored"]) == (22, 6)
    assert {name.split(".")[0] for name in result["ignored"]} == {"image_to_parameter"}
    x = picture()
    with torch.no_grad():
        torch.testing.assert_close(rendered(out, x), reference(x), atol=1e-5, rtol=0)
    assert load_isp(out).metadata.config["preset"] == "capsar"


def test_weights_trained_on_bgr_render_rgb_the_same(tmp_path: Path, out: Path) -> None:
    reference = made(Capsar)
    torch.save(reference.state_dict(), tmp_path / "gen_isp.pt")
    settings = Settings(channels="bgr")
    convert_checkpoint(tmp_path / "gen_isp.pt", out, "genisp", settings, input_color="camera")
    x = picture()
    with torch.no_grad():
        torch.testing.assert_close(rendered(out, x), reference(x.flip(1)), atol=1e-5, rtol=0)


class Tolen(nn.Module):
    """The layers of JPTolen/Genisp_reproduction: pools of 4, 3, 2, pixels as column vectors. The
    specification does not name them."""

    def __init__(self, pools: tuple[int, int, int] = (4, 3, 2)) -> None:
        super().__init__()
        self.wb = self.predictor(3, pools)
        self.cc = self.predictor(9, pools)
        self.shallow_conv_net = Capsar().shallow_conv_net

    @staticmethod
    def predictor(outputs: int, pools: tuple[int, int, int]) -> nn.Sequential:
        layers: list[nn.Module] = []
        sizes = ((3, 16, 7), (16, 32, 5), (32, 128, 3))
        for (inputs, width, size), pool in zip(sizes, pools, strict=True):
            layers += [nn.Conv2d(inputs, width, size, padding=size // 2), nn.LeakyReLU()]
            layers.append(nn.MaxPool2d(pool))
        return nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(128, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        small = functional.interpolate(x, size=(256, 256), mode="bilinear")
        x = x * self.wb(small).view(-1, 3, 1, 1)
        small = functional.interpolate(x, size=(256, 256), mode="bilinear")
        matrix = self.cc(small).view(-1, 3, 3)
        return self.shallow_conv_net(torch.einsum("bij,bjhw->bihw", matrix, x))


def test_jptolens_pools_are_not_taken_for_capsars(tmp_path: Path, out: Path) -> None:
    reference = made(Tolen)
    source = tmp_path / "tolen.pt"
    torch.save(reference.state_dict(), source)
    with pytest.raises(CheckpointError, match="do not tell padding, pools"):
        convert_checkpoint(source, out, "genisp", input_color="camera")
    convert_checkpoint(source, out, "genisp", Settings(preset="jptolen"), input_color="camera")
    x = picture()
    with torch.no_grad():
        torch.testing.assert_close(rendered(out, x), reference(x), atol=1e-5, rtol=0)
    metadata = load_isp(out).metadata
    assert metadata.fit == (256, 256)
    assert metadata.config["pools"] == [4, 3, 2]


def test_pools_are_a_setting(tmp_path: Path, out: Path) -> None:
    reference = made(Tolen, (3, 3, 3))
    source = tmp_path / "mine.pt"
    torch.save(reference.state_dict(), source)
    settings = Settings(preset="paper", pools=(3, 3, 3))
    convert_checkpoint(source, out, "genisp", settings)
    x = picture()
    with torch.no_grad():
        torch.testing.assert_close(rendered(out, x), reference(x), atol=1e-5, rtol=0)
    for pools in ((0, 2, 2), (16, 16, 16)):
        with pytest.raises(UsageError, match="--pools: pools"):
            convert_checkpoint(source, out, "genisp", Settings(preset="paper", pools=pools))
    with pytest.raises(UsageError, match="--pools is for genisp"):
        convert_checkpoint(source, out, "ta-isp", Settings(pools=(4, 3, 2)))


@pytest.mark.parametrize("affine", [False, True])
def test_revilla_renders_the_same_of_8_bit_numbers(tmp_path: Path, out: Path, affine: bool) -> None:
    reference = made(Revilla, affine)
    parts = {n: getattr(reference, n).state_dict() for n in ("wb", "cc", "net")}
    torch.save(parts, tmp_path / "three.pt")
    result = convert_checkpoint(tmp_path / "three.pt", out, "genisp")
    assert result["input_color"] == "xyz-uninverted"
    assert result["tensors_ignored"] == 0
    x = picture()
    with torch.no_grad():
        expected = reference(255 * x)
    torch.testing.assert_close(rendered(out, x)[:, :, 2:-2, 2:-2], expected, atol=1e-5, rtol=0)
    convert_checkpoint(tmp_path / "three.pt", out, "genisp", Settings(pre_gain=1.0))
    with torch.no_grad():
        expected = reference(x)
    torch.testing.assert_close(rendered(out, x)[:, :, 2:-2, 2:-2], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_prefixes_and_detectors_in_the_same_file_do_no_harm(
    tmp_path: Path, out: Path, suffix: str
) -> None:
    reference = made(Capsar)
    detector = {
        "backbone.stem": (16, 3, 3, 3), "backbone.conv1": (64, 3, 7, 7), "head.angle": (3, 128),
        "head.box": (9, 128), "head.mask": (3, 64, 1, 1), "backbone.up": (64, 16, 3, 3),
    }  # fmt: skip
    state = {f"module.isp.{name}": tensor for name, tensor in reference.state_dict().items()}
    for name, shape in detector.items():
        state[f"module.detector.{name}.weight"] = torch.ones(shape)
        state[f"module.detector.{name}.bias"] = torch.ones(shape[0])
    source = tmp_path / f"whole{suffix}"
    if suffix == ".pt":
        torch.save({"epoch": 3, "model": state}, source)
    else:
        save_file(state, source)
    result = convert_checkpoint(source, out, "genisp", input_color="xyz")
    assert (result["tensors_used"], result["tensors_ignored"]) == (22, 18)
    x = picture()
    with torch.no_grad():
        torch.testing.assert_close(rendered(out, x), reference(x), atol=1e-5, rtol=0)


def renamed(reference: nn.Module, names: dict[str, str]) -> dict[str, Tensor]:
    """A state dict whose modules have other names."""
    state = {}
    for name, tensor in reference.state_dict().items():
        for old, new in names.items():
            if name.startswith(old):
                state[name.replace(old, new, 1)] = tensor
    return state


FLAT = {
    "conv_wb.1.0": "a1", "conv_wb.1.3": "a2", "conv_wb.1.6": "a3", "conv_wb.2": "a4",
    "conv_cc.1.0": "b1", "conv_cc.1.3": "b2", "conv_cc.1.6": "b3", "conv_cc.2": "b4",
    "shallow_conv_net.0": "c1", "shallow_conv_net.3": "c2", "shallow_conv_net.6": "c3",
}  # fmt: skip


def test_networks_in_one_module_are_told_apart_by_their_order(tmp_path: Path, out: Path) -> None:
    reference = made(Capsar)
    torch.save(renamed(reference, FLAT), tmp_path / "flat.pt")
    with pytest.raises(CheckpointError, match=r"say which GenISP it is with --preset paper\|caps"):
        convert_checkpoint(tmp_path / "flat.pt", out, "genisp")
    settings = Settings(preset="capsar")
    convert_checkpoint(tmp_path / "flat.pt", out, "genisp", settings, input_color="xyz")
    x = picture()
    with torch.no_grad():
        torch.testing.assert_close(rendered(out, x), reference(x), atol=1e-5, rtol=0)


def test_the_papers_matrix_is_not_transposed(tmp_path: Path, out: Path) -> None:
    reference = made(Capsar)
    torch.save(reference.state_dict(), tmp_path / "gen_isp.pt")
    result = convert_checkpoint(tmp_path / "gen_isp.pt", out, "genisp", Settings(preset="paper"))
    assert result["input_color"] == "xyz"
    run: Any = load_isp(out, device="cpu").run
    torch.testing.assert_close(run.conv_cc.head.bias, reference.conv_cc[2].bias)


def test_what_cannot_be_told_apart_is_listed(tmp_path: Path, out: Path) -> None:
    state = renamed(made(Capsar), FLAT)
    mixed = {name: state[name] for name in sorted(state, key=lambda n: (n[1], n[0]))}
    torch.save(mixed, tmp_path / "mixed.pt")
    with pytest.raises(CheckpointError, match=r"not clear which layers are ConvWB: a4, a1, b1; sa"):
        convert_checkpoint(tmp_path / "mixed.pt", out, "genisp")
    twice = {f"{part}.{n}": t for part in ("x", "y") for n, t in made(Capsar).state_dict().items()}
    torch.save(twice, tmp_path / "twice.pt")
    with pytest.raises(CheckpointError, match=r"not clear .* ConvWB: x.conv_wb.2, y.conv_wb.2, "):
        convert_checkpoint(tmp_path / "twice.pt", out, "genisp")


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("conv_wb.1.3.", "not clear which layers are ConvWB"),
        ("conv_wb.2.", "has no ConvWB"),
        ("conv_cc.2.", "has no ConvCC"),
        ("shallow_conv_net.6.", "has no shallow network"),
        ("shallow_conv_net.3.bias", "has no shallow network"),
    ],
)
def test_missing_layers_are_not_taken_from_elsewhere(
    tmp_path: Path, out: Path, lost: str, message: str
) -> None:
    state = {n: t for n, t in made(Capsar).state_dict().items() if not n.startswith(lost)}
    torch.save(state, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match=message):
        convert_checkpoint(tmp_path / "part.pt", out, "genisp", input_color="xyz")
    assert not out.exists()


def test_a_layer_of_another_module_is_not_taken(tmp_path: Path, out: Path) -> None:
    state = {}
    for name, tensor in made(Capsar).state_dict().items():
        if not name.startswith("image_to_parameter"):
            state[name.replace("conv_wb.1.3", "detector.conv")] = tensor
    torch.save(state, tmp_path / "moved.pt")
    with pytest.raises(CheckpointError, match="not clear which layers are ConvWB"):
        convert_checkpoint(tmp_path / "moved.pt", out, "genisp", input_color="xyz")


def test_tensors_that_genisp_does_not_have_are_named(tmp_path: Path, out: Path) -> None:
    state = dict(made(Capsar).state_dict())
    state["shallow_conv_net.1.running_mean"] = torch.zeros(16)
    torch.save(state, tmp_path / "tracked.pt")
    with pytest.raises(
        CheckpointError, match=r"not know 1 of the tensors in shallow_conv_net .*runn"
    ):
        convert_checkpoint(tmp_path / "tracked.pt", out, "genisp", input_color="xyz")


def test_capsars_input_has_to_be_said(tmp_path: Path, out: Path) -> None:
    torch.save(made(Capsar).state_dict(), tmp_path / "gen_isp.pt")
    with pytest.raises(CheckpointError, match=r"developed pictures.*--input-color xyz\|camera"):
        convert_checkpoint(tmp_path / "gen_isp.pt", out, "genisp")
    assert not out.exists()
