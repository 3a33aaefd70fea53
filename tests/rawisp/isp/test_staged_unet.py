"""staged-unet against its formula written out, its start, and how far it looks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rawisp.errors import UsageError
from rawisp.isp.contract import night
from rawisp.isp.registry import create_isp
from rawisp.isp.staged_unet import StagedUnetIsp


def trained(seed: int = 0) -> StagedUnetIsp:
    """With a last layer that is not zero."""
    torch.manual_seed(seed)
    isp = create_isp("staged-unet")
    assert isinstance(isp, StagedUnetIsp)
    torch.nn.init.normal_(isp.last.weight, std=0.05)
    return isp.eval()


def blurred(x: Tensor) -> Tensor:
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    weight = kernel.view(1, 1, 3, 3).repeat(x.shape[1], 1, 1, 1)
    return functional.conv2d(padded, weight, groups=x.shape[1])


def reference(isp: StagedUnetIsp, x: Tensor) -> Tensor:
    """The formula of the module's docstring, layer by layer from the weights' names."""
    w = isp.state_dict()
    gain = isp.staged.predict(x)["gain"]
    s = isp.staged.apply(x, {"gain": gain})
    n, _, height, width = x.shape
    linear = torch.stack(
        [(gain[b].diag() @ w["staged.color_matrix"] @ x[b].flatten(1)) for b in range(n)]
    )
    linear = linear.view(x.shape)
    root = (linear / (linear.abs() + 1e-3).sqrt()).clamp(-1, 1.5)
    octaves = (gain.mean(1).log2() / 8).view(n, 1, 1, 1).expand(n, 1, height, width)
    seen = torch.cat([s, root, octaves], 1).numpy()
    bottom, right = -height % 8, -width % 8
    seen = np.pad(seen, ((0, 0), (0, 0), (0, bottom), (0, right)), mode="edge")
    cells = [seen[:, c, i::2, j::2] for c in range(7) for i in (0, 1) for j in (0, 1)]

    def convs(y: Tensor, *names: str) -> Tensor:
        for name in names:
            y = functional.conv2d(y, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)
            y = torch.where(y > 0, y, 0.1 * y)
        return y

    def halved(y: Tensor) -> Tensor:
        return (
            y[:, :, ::2, ::2] + y[:, :, 1::2, ::2] + y[:, :, ::2, 1::2] + y[:, :, 1::2, 1::2]
        ) / 4

    def doubled(y: Tensor) -> Tensor:
        return y.repeat_interleave(2, 2).repeat_interleave(2, 3)

    half = convs(torch.from_numpy(np.stack(cells, 1)), "half_in.0.0", "half_in.1.0")
    quarter = convs(halved(half), "quarter_in.0.0", "quarter_in.1.0")
    y = convs(halved(quarter), "eighth.0.0.0", "eighth.0.1.0", "eighth.1.0")
    y = convs(torch.cat([doubled(y), quarter], 1), "quarter_out.0.0", "quarter_out.1.0")
    y = convs(torch.cat([doubled(y), half], 1), "half_out.0.0", "half_out.1.0")
    y = functional.conv2d(y, w["last.weight"], w["last.bias"], padding=1)
    written = torch.zeros(n, 4, height + bottom, width + right)
    for c in range(4):
        for i in (0, 1):
            for j in (0, 1):
                written[:, c, i::2, j::2] = y[:, 4 * c + 2 * i + j]
    smooth = blurred(written[:, :, :height, :width])
    return (s + smooth[:, :3] + smooth[:, 3:] * (blurred(s) - s)).clamp(0, 1)


@pytest.mark.parametrize("size", [(40, 56), (37, 45), (3, 3)])
def test_it_is_its_formula(size: tuple[int, int]) -> None:
    isp = trained()
    x = night(*size, batch=2) if min(size) > 12 else torch.rand(2, 3, *size) * 0.02
    with torch.no_grad():
        torch.testing.assert_close(isp(x), reference(isp, x), atol=2e-5, rtol=0)


def test_a_fresh_one_renders_as_classic() -> None:
    x = night(50, 61)
    classic = create_isp("classic", smooth_colors=False).eval()
    with torch.no_grad():
        assert torch.equal(create_isp("staged-unet").eval()(x), classic(x))


def test_it_looks_no_further_than_its_halo() -> None:
    isp = trained()
    x = (torch.rand(1, 3, 240, 240) * 0.02).requires_grad_(True)
    y = isp.apply(x, isp.predict(x.detach()))
    for at in (120, 121, 127):
        (gradient,) = torch.autograd.grad(y[0, 0, at, at], x, retain_graph=True)
        seen = gradient.abs().sum((0, 1)).nonzero()
        assert int((seen - at).abs().max()) <= isp.halo
    assert isp.halo % isp.multiple == 0


def test_no_checkerboard_can_be_written() -> None:
    isp = trained()
    torch.nn.init.normal_(isp.last.bias, std=1.0)  # another level for each phase
    x = torch.full((1, 3, 64, 64), 0.004)
    with torch.no_grad():
        y = isp.apply(x, isp.predict(x))[:, :, 16:48, 16:48]
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16)
    for pattern in (signs, signs.abs() * torch.tensor([1.0, -1.0]).repeat(16)):
        assert float((y * pattern).mean((2, 3)).abs().max()) < 1e-4


@pytest.mark.parametrize("settings", [{"parity": True}, {"widths": [8, 8]}, {"widths": [0, 1, 2]}])
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        create_isp("staged-unet", **settings)
