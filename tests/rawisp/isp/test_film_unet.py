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
TO_SRGB = torch.from_numpy(LINEAR_SRGB_FROM_XYZ).float()


def trained(seed: int = 0, **settings: object) -> FilmUnetIsp:
    """With last layers that are not zero."""
    torch.manual_seed(seed)
    isp = create_isp("film-unet", **settings)
    assert isinstance(isp, FilmUnetIsp)
    for last in (isp.unet.coarse, isp.unet.fine):
        torch.nn.init.normal_(last.weight, std=0.1)
    torch.nn.init.normal_(isp.head[2].weight, std=0.05)
    torch.nn.init.normal_(isp.head[2].bias, std=0.1)
    return isp.eval()


def blurred(x: Tensor) -> Tensor:
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    padded = functional.pad(x[None], (1, 1, 1, 1), mode="replicate")
    weight = kernel.view(1, 1, 3, 3).repeat(x.shape[0], 1, 1, 1)
    return functional.conv2d(padded, weight, groups=x.shape[0])[0]


def leaky(y: Tensor) -> Tensor:
    return torch.where(y > 0, y, 0.1 * y)


def halved(y: Tensor) -> Tensor:
    return (y[:, ::2, ::2] + y[:, 1::2, ::2] + y[:, ::2, 1::2] + y[:, 1::2, 1::2]) / 4


def doubled(y: Tensor) -> Tensor:
    return y.repeat_interleave(2, 1).repeat_interleave(2, 2)


def between(y: Tensor, axis: int) -> Tensor:
    """Twice as long: 3/4 of the nearest and 1/4 of the next sample, edges repeated."""
    y = y.movedim(axis, 0)
    before, after = torch.cat([y[:1], y[:-1]]), torch.cat([y[1:], y[-1:]])
    both = torch.stack([0.75 * y + 0.25 * before, 0.75 * y + 0.25 * after], 1)
    return both.flatten(0, 1).movedim(0, axis)


def enlarged(y: Tensor) -> Tensor:
    return between(between(y, 1), 2)


def steered(isp: FilmUnetIsp, x: Tensor) -> tuple[Tensor, Tensor]:
    """(exposure, the encoder's numbers) of one image (3, H, W)."""
    w = isp.state_dict()
    cells = functional.adaptive_avg_pool2d((TO_SRGB @ x.flatten(1)).view(x.shape), 32)
    ordered = cells.mean(0).flatten().sort()[0]
    exposure = 0.2 / ordered[round(0.75 * 1023)].clamp(min=1e-5)
    seen = (cells * exposure).clamp(0, 4)
    y = torch.cat([seen.clamp(1e-4, 1).sqrt(), seen.clamp(min=0.01).log2() / 4])[None]
    for layer in (0, 2, 4):
        weight, bias = w[f"encoder.{layer}.weight"], w[f"encoder.{layer}.bias"]
        y = leaky(functional.conv2d(y, weight, bias, stride=2, padding=1))
    apart = x.diff(dim=2).abs().clamp(max=0.05).mean((1, 2)) * exposure
    noise = apart.clamp(min=1e-4).log2() / 8
    octaves = exposure.log2()[None] / 8
    y = torch.cat([y[0].mean((1, 2)), y[0].flatten(1).max(1)[0], noise, octaves])
    y = leaky(w["head.0.weight"] @ y + w["head.0.bias"])
    return exposure, w["head.2.weight"] @ y + w["head.2.bias"]


def written(isp: FilmUnetIsp, seen: Tensor, film: list[Tensor]) -> tuple[Tensor, Tensor]:
    """What the U-Net says of (19, H / 2, W / 2), layer by layer."""
    w = isp.state_dict()

    def block(y: Tensor, n: int, *names: str) -> Tensor:
        for name in names:
            weight, bias = w[f"unet.{name}.weight"], w[f"unet.{name}.bias"]
            y = leaky(functional.conv2d(y, weight, bias, padding=1))
        return y * (1 + film[2 * n].view(-1, 1, 1)) + film[2 * n + 1].view(-1, 1, 1)

    half = block(seen, 0, "half_in.0.0", "half_in.1.0")
    quarter = block(halved(half), 1, "quarter_in.0.0", "quarter_in.1.0")
    y = block(halved(quarter), 2, "eighth.0.0.0", "eighth.0.1.0", "eighth.1.0")
    y = block(torch.cat([doubled(y), quarter]), 3, "quarter_out.0.0", "quarter_out.1.0")
    coarse = functional.conv2d(y, w["unet.coarse.weight"], w["unet.coarse.bias"], padding=1)
    y = block(torch.cat([doubled(y), half]), 4, "half_out.0.0", "half_out.1.0")
    return coarse, functional.conv2d(y, w["unet.fine.weight"], w["unet.fine.bias"], padding=1)


def weighted(details: Tensor, weights: Tensor) -> Tensor:
    luma = details.mean(0, keepdim=True).expand(3, -1, -1)
    return luma * weights[0] + (details - luma) * weights[1]


def reference(isp: FilmUnetIsp, x: Tensor) -> Tensor:
    """The formula of the module's docstring for one image."""
    height, width = x.shape[1:]
    exposure, said = steered(isp, x)
    matrix = said[9:12].exp().diag() @ (torch.eye(3) + 0.3 * said[:9].view(3, 3)) @ TO_SRGB
    wide = np.pad(x.numpy(), ((0, 0), (0, -height % 8), (0, -width % 8)), mode="edge")
    full = torch.from_numpy(wide)
    full = (exposure * matrix @ full.flatten(1)).view(full.shape) - 0.05 * said[12:15, None, None]
    k = 0.3 + 0.6 / (1 + torch.exp(-said[15]))

    def bent(y: Tensor) -> Tensor:
        return torch.where(y > k, k + (1 - k) * (y - k) / (y - k + 1 - k), y)

    each = bent(full)
    if isp.config.neutral_clip:
        _, second, highest = full.sort(dim=0)[0]
        pure = ((1 - second / highest.clamp(min=1) - 0.75) / 0.2).clamp(0, 1)
        weight = pure * (highest - 1).clamp(0, 1)
        whole = full * bent(highest.clamp(min=1)) / highest.clamp(min=1)
        each = (1 - weight) * each + weight * whole
    full = each
    two = halved(full)
    four = halved(two)
    eight = halved(four)

    def root(y: Tensor) -> Tensor:
        return (y / (y.abs() + 1e-3).sqrt()).clamp(min=-1)

    pixels = root(full)
    cells = [pixels[c, i::2, j::2] for c in range(3) for i in (0, 1) for j in (0, 1)]
    plane = (exposure.log2() / 8).expand(1, *two.shape[1:])
    seen = torch.cat([torch.stack(cells), root(two), doubled(root(four)), plane])
    film = list(said[18:].split([c for channels in WIDTHS for c in (channels, channels)]))
    coarse, fine = written(isp, seen, film)
    weights = 2 / (1 + torch.exp(-fine[:4]))
    y = enlarged(eight) + weighted(four - enlarged(eight), 2 / (1 + torch.exp(-coarse)))
    y = enlarged(y) + weighted(two - enlarged(four), weights[:2])
    y = enlarged(y) + weighted(full - enlarged(two), doubled(weights[2:]))
    t = 0.004 * said[16].exp()
    g = torch.exp(0.3 * said[17]) / 2.2
    y = ((y + t).clamp(min=1e-4) ** g - t**g) / ((1 + t) ** g - t**g)
    residual = torch.zeros_like(y)
    for c in range(3):
        for i in (0, 1):
            for j in (0, 1):
                residual[c, i::2, j::2] = fine[4 + 4 * c + 2 * i + j]
    y = y[:, :height, :width] + blurred(residual[:, :height, :width])
    if isp.config.neutral_clip:
        white = ((x[1] - 0.95) / 0.3).clamp(0, 1)
        y = (1 - white) * y + white * y.amax(0)
    return y.clamp(0, 1)


@pytest.mark.parametrize("neutral_clip", [True, False])
@pytest.mark.parametrize("size", [(40, 56), (37, 45), (3, 3)])
def test_it_is_its_formula(size: tuple[int, int], neutral_clip: bool) -> None:
    isp = trained(neutral_clip=neutral_clip)
    x = night(*size, batch=2) if min(size) > 12 else torch.rand(2, 3, *size) * 0.02
    x[0, :, -3:, -2:] = torch.tensor([1.1, 1.05, 0.5]).view(3, 1, 1)  # between pure and clipped
    x[1, :, :2, :3] = torch.tensor([0.9, 0.4, 0.1]).view(3, 1, 1)  # a red lamp
    with torch.no_grad():
        expected = torch.stack([reference(isp, one) for one in x])
        torch.testing.assert_close(isp(x), expected, atol=5e-5, rtol=0)


def test_a_fresh_one_only_exposes_and_encodes() -> None:
    isp = create_isp("film-unet").eval()
    x = torch.tensor([0.9505, 1.0, 1.0888]).view(1, 3, 1, 1).repeat(1, 1, 40, 40) * 0.003
    with torch.no_grad():  # a grey wall in the dark: the target through the gamma
        g, t = 1 / 2.2, 0.004
        grey = ((0.2 + t) ** g - t**g) / ((1 + t) ** g - t**g)
        torch.testing.assert_close(isp(x), torch.full_like(x, grey), atol=2e-3, rtol=0)


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


def test_a_red_lamp_far_beyond_white_stays_red() -> None:
    isp, cut = create_isp("film-unet").eval(), create_isp("film-unet", neutral_clip=False).eval()
    x = torch.tensor([0.9505, 1.0, 1.0888]).view(1, 3, 1, 1).repeat(1, 1, 48, 48) * 0.003
    lamp = torch.linalg.inv(TO_SRGB) @ torch.tensor([0.5, 0.0, 0.03])
    x[:, :, 16:32, 16:32] = lamp.view(1, 3, 1, 1)
    with torch.no_grad():
        r, g, b = isp(x)[0, :, 24, 24].tolist()
        magenta = cut(x)[0, :, 24, 24].tolist()
        assert r > 0.9 and g < 0.3 and b < 0.35
        assert magenta[2] > 0.7
        # What is not beyond the picture's white is the same to the bit.
        assert torch.equal(isp(x)[..., :8], cut(x)[..., :8])


def test_camera_rgb_goes_in_as_it_is() -> None:
    isp = create_isp("film-unet", input_color="camera")
    assert torch.equal(isp.get_buffer("start"), torch.eye(3))


@pytest.mark.parametrize("settings", [{"widths": [8, 8]}, {"widths": [0, 1, 2]}, {"encoder": 0}])
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        create_isp("film-unet", **settings)
