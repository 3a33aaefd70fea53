"""film-unet against its formula written out, its start, and how far it looks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rawisp.color import LINEAR_SRGB_FROM_XYZ
from rawisp.errors import UsageError
from rawisp.isp.contract import night
from rawisp.isp.film_unet import FilmUnetIsp
from rawisp.isp.registry import create_isp

WIDTHS = (16, 32, 48, 32, 16)


def trained(seed: int = 0) -> FilmUnetIsp:
    """With last layers that are not zero."""
    torch.manual_seed(seed)
    isp = create_isp("film-unet")
    assert isinstance(isp, FilmUnetIsp)
    torch.nn.init.normal_(isp.unet.last.weight, std=0.05)
    torch.nn.init.normal_(isp.head[2].weight, std=0.05)
    torch.nn.init.normal_(isp.head[2].bias, std=0.1)
    return isp.eval()


def blurred(x: Tensor) -> Tensor:
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    weight = kernel.view(1, 1, 3, 3).repeat(x.shape[1], 1, 1, 1)
    return functional.conv2d(padded, weight, groups=x.shape[1])


def leaky(y: Tensor) -> Tensor:
    return torch.where(y > 0, y, 0.1 * y)


def steered(isp: FilmUnetIsp, x: Tensor) -> tuple[Tensor, Tensor]:
    """(exposure, the encoder's numbers) of one image (3, H, W)."""
    w = isp.state_dict()
    linear = torch.from_numpy(LINEAR_SRGB_FROM_XYZ).float() @ x.flatten(1)
    cells = functional.adaptive_avg_pool2d(linear.view(x.shape), 32)
    ordered = cells.mean(0).flatten().sort()[0]
    exposure = 0.2 / ordered[round(0.75 * 1023)].clamp(min=1e-5)
    seen = (cells * exposure).clamp(0, 4)
    y = torch.cat([seen.clamp(1e-4, 1).sqrt(), seen.clamp(min=0.01).log2() / 4])[None]
    for layer in (0, 2, 4):
        weight, bias = w[f"encoder.{layer}.weight"], w[f"encoder.{layer}.bias"]
        y = leaky(functional.conv2d(y, weight, bias, stride=2, padding=1))
    y = torch.cat([y[0].mean((1, 2)), y[0].flatten(1).max(1)[0]])
    y = leaky(w["head.0.weight"] @ y + w["head.0.bias"])
    return exposure, w["head.2.weight"] @ y + w["head.2.bias"]


def reference(isp: FilmUnetIsp, x: Tensor) -> Tensor:
    """The formula of the module's docstring for one image, layer by layer."""
    w = isp.state_dict()
    height, width = x.shape[1:]
    exposure, said = steered(isp, x)
    mixing = torch.eye(3) + 0.3 * said[:9].view(3, 3)
    matrix = said[9:12].exp().diag() @ mixing @ torch.from_numpy(LINEAR_SRGB_FROM_XYZ).float()
    linear = (exposure * matrix @ x.flatten(1)).view(x.shape)
    k = 0.3 + 0.6 / (1 + torch.exp(-said[13]))
    y = linear.clamp(min=1e-4)
    y = torch.where(y > k, k + (1 - k) * (y - k) / (y - k + 1 - k), y)
    base = y ** (torch.exp(0.3 * said[12]) / 2.2)
    root = (linear / (linear.abs() + 1e-3).sqrt()).clamp(-1, 1.5)
    plane = (exposure.log2() / 8).expand(1, height, width)
    seen = torch.cat([base, root, plane]).numpy()
    seen = np.pad(seen, ((0, 0), (0, -height % 8), (0, -width % 8)), mode="edge")
    cells = np.stack([seen[c, i::2, j::2] for c in range(7) for i in (0, 1) for j in (0, 1)])
    film = list(said[14:].split([c for channels in WIDTHS for c in (channels, channels)]))

    def block(y: Tensor, n: int, *names: str) -> Tensor:
        for name in names:
            weight, bias = w[f"unet.{name}.weight"], w[f"unet.{name}.bias"]
            y = leaky(functional.conv2d(y, weight, bias, padding=1))
        return y * (1 + film[2 * n].view(-1, 1, 1)) + film[2 * n + 1].view(-1, 1, 1)

    def halved(y: Tensor) -> Tensor:
        return (y[:, ::2, ::2] + y[:, 1::2, ::2] + y[:, ::2, 1::2] + y[:, 1::2, 1::2]) / 4

    def doubled(y: Tensor) -> Tensor:
        return y.repeat_interleave(2, 1).repeat_interleave(2, 2)

    half = block(torch.from_numpy(cells), 0, "half_in.0.0", "half_in.1.0")
    quarter = block(halved(half), 1, "quarter_in.0.0", "quarter_in.1.0")
    y = block(halved(quarter), 2, "eighth.0.0.0", "eighth.0.1.0", "eighth.1.0")
    y = block(torch.cat([doubled(y), quarter]), 3, "quarter_out.0.0", "quarter_out.1.0")
    y = block(torch.cat([doubled(y), half]), 4, "half_out.0.0", "half_out.1.0")
    y = functional.conv2d(y, w["unet.last.weight"], w["unet.last.bias"], padding=1)
    written = torch.zeros(4, *seen.shape[1:])
    for c in range(4):
        for i in (0, 1):
            for j in (0, 1):
                written[c, i::2, j::2] = y[4 * c + 2 * i + j]
    smooth = blurred(written[None, :, :height, :width])[0]
    return (base + smooth[:3] + smooth[3:] * (blurred(base[None])[0] - base)).clamp(0, 1)


@pytest.mark.parametrize("size", [(40, 56), (37, 45), (3, 3)])
def test_it_is_its_formula(size: tuple[int, int]) -> None:
    isp = trained()
    x = night(*size, batch=2) if min(size) > 12 else torch.rand(2, 3, *size) * 0.02
    with torch.no_grad():
        expected = torch.stack([reference(isp, one) for one in x])
        torch.testing.assert_close(isp(x), expected, atol=5e-5, rtol=0)


def test_a_fresh_one_only_exposes_and_encodes() -> None:
    isp = create_isp("film-unet").eval()
    x = torch.tensor([0.9505, 1.0, 1.0888]).view(1, 3, 1, 1).repeat(1, 1, 40, 40) * 0.003
    with torch.no_grad():  # a grey wall in the dark: the target through the gamma
        torch.testing.assert_close(isp(x), torch.full_like(x, 0.2 ** (1 / 2.2)), atol=2e-3, rtol=0)


def test_brightness_of_the_night_makes_no_difference_to_a_fresh_one() -> None:
    isp = create_isp("film-unet").eval()
    x = night(48, 64).clamp(min=0)
    with torch.no_grad():
        torch.testing.assert_close(isp(x), isp(x / 8), atol=1e-4, rtol=0)


def test_it_looks_no_further_than_its_halo() -> None:
    isp = trained()
    x = (torch.rand(1, 3, 240, 240) * 0.02).requires_grad_(True)
    y = isp.apply(x, isp.predict(x.detach()))
    for at in (120, 121, 127):
        (gradient,) = torch.autograd.grad(y[0, 0, at, at], x, retain_graph=True)
        seen = gradient.abs().sum((0, 1)).nonzero()
        assert int((seen - at).abs().max()) <= isp.halo
    assert isp.halo % isp.multiple == 0


def test_gradients_are_finite_at_black_and_beyond_white() -> None:
    isp = trained().train()
    x = torch.zeros(1, 3, 32, 32)
    x[..., :8], x[..., 8:16] = 5.0, -0.01
    isp(x.requires_grad_(True)).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in isp.parameters() if p.grad is not None)
    assert x.grad is not None and bool(x.grad.isfinite().all())


def test_camera_rgb_goes_in_as_it_is() -> None:
    isp = create_isp("film-unet", input_color="camera")
    assert torch.equal(isp.get_buffer("start"), torch.eye(3))


@pytest.mark.parametrize("settings", [{"widths": [8, 8]}, {"widths": [0, 1, 2]}, {"encoder": 0}])
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        create_isp("film-unet", **settings)
