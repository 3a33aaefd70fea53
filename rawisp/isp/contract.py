"""What every ISP must do, as checks that a plug-in's author can call:

    from rawisp.isp.contract import check_isp
    check_isp(lambda: MyIsp(MyConfig()))

Each check raises AssertionError with what it found.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import torch
from torch import Tensor

from rawisp.isp.base import Isp, config_of
from rawisp.isp.stream import render_in_tiles

Factory = Callable[[], Isp]
SIZES = ((64, 64), (37, 53), (40, 101))


def night(
    height: int,
    width: int,
    batch: int = 1,
    seed: int = 0,
    level: float = 0.01,
    channels: int = 3,
) -> Tensor:
    """Dim, tinted, noisy images with a lamp, (batch, channels, height, width).

    channels: 3, or 4 for (R, G1, G2, B).
    """
    generator = torch.Generator().manual_seed(seed)
    x = level * (0.3 + torch.rand(batch, 3, height, width, generator=generator))
    x = x * torch.tensor([1.2, 1.0, 0.6]).view(1, 3, 1, 1)
    x = x + 0.1 * level * torch.randn(x.shape, generator=generator)
    x[:, :, height // 4 : height // 4 + 3, width // 3 : width // 3 + 3] = 0.9
    return with_channels(x, channels)


def with_channels(x: Tensor, channels: int) -> Tensor:
    """(B, 3, H, W), or with a second green that is a little different, (B, 4, H, W)."""
    return x if channels == 3 else torch.cat([x[:, :2], 1.01 * x[:, 1:2], x[:, 2:]], dim=1)


def check_isp(make: Factory) -> None:
    """All checks."""
    check_sizes(make)
    check_batch(make)
    check_padding(make)
    check_tiles(make)
    check_extremes(make)
    check_gradients(make)
    check_autocast(make)
    check_config(make)
    check_parameters(make)


def check_sizes(make: Factory) -> None:
    """Any height and width come back as they are, cut to [0, 1]."""
    isp = make().eval()
    for height, width in SIZES:
        with torch.no_grad():
            y = isp(night(height, width, channels=isp.in_channels))
        assert y.shape == (1, 3, height, width), f"{width}x{height} came back as {tuple(y.shape)}"
        assert bool(torch.isfinite(y).all()), f"not finite at {width}x{height}"
        assert float(y.min()) >= 0.0, f"{float(y.min())} is below 0"
        assert float(y.max()) <= 1.0, f"{float(y.max())} is above 1"


def check_batch(make: Factory) -> None:
    """Images of a batch do not influence each other."""
    isp = make().eval()
    images = [night(40, 56, seed=n, level=0.002 * 4**n) for n in range(3)]
    x = with_channels(torch.cat(images), isp.in_channels)
    with torch.no_grad():
        together, alone = isp(x), torch.cat([isp(x[n : n + 1]) for n in range(3)])
    _close(together, alone, 1e-5, "a batch and its images alone differ")


def check_padding(make: Factory) -> None:
    """Padding that `valid` marks changes nothing inside, whatever stands in it."""
    isp = make().eval()
    image = night(40, 48, channels=isp.in_channels)
    padded = torch.full((2, isp.in_channels, 64, 64), 0.7)
    padded[0, :, :40, :48] = image[0]
    padded[1] = night(64, 64, seed=1, channels=isp.in_channels)[0]
    valid = torch.ones(2, 1, 64, 64, dtype=torch.bool)
    valid[0, :, 40:], valid[0, :, :, 48:] = False, False
    with torch.no_grad():
        y = isp(padded, valid)
        _close(y[:1, :, :40, :48], isp(image), 1e-5, "padding changes the picture")
        _close(y[1:], isp(padded[1:]), 1e-5, "padding changes another image of the batch")


def check_tiles(make: Factory) -> None:
    """Tiles of any size give the whole image, where the ISP says that it streams."""
    isp = make().eval()
    if not isp.streams:
        return
    x = night(75, 90, channels=isp.in_channels)
    with torch.no_grad():
        whole = isp(x)
        for tile in (16, 33, 64, 200):
            if tile < isp.halo:  # would render nearly the whole image for each tile
                continue
            _close(render_in_tiles(isp, x, tile), whole, 1e-5, f"tiles of {tile} differ")


EXTREMES: dict[str, Callable[[], Tensor]] = {
    "black": lambda: torch.zeros(1, 3, 33, 40),
    "white": lambda: torch.ones(1, 3, 33, 40),
    "constant": lambda: torch.full((1, 3, 33, 40), 0.01),
    "below black": lambda: torch.full((1, 3, 33, 40), -0.02),
    "24-bit dark": lambda: night(33, 40, level=2.0**-22).clamp(max=2.0**-20),
}


def check_extremes(make: Factory) -> None:
    """Finite outputs on black, white, constant, negative and very dark images."""
    isp = make().eval()
    for name, image in EXTREMES.items():
        with torch.no_grad():
            x = with_channels(image(), isp.in_channels)
            assert bool(torch.isfinite(isp(x)).all()), f"{name}: not finite"


def check_gradients(make: Factory) -> None:
    """Finite gradients on the same, and on a night image."""
    for name, image in {**EXTREMES, "night": lambda: night(33, 40)}.items():
        isp = make().train()
        if not any(p.requires_grad for p in isp.parameters()):
            return
        x = with_channels(image().detach(), isp.in_channels)  # type: ignore[no-untyped-call]
        x.requires_grad = True
        isp(x).square().mean().backward()
        for label, tensor in (*isp.named_parameters(), ("input", x)):
            if tensor.grad is not None:
                assert bool(torch.isfinite(tensor.grad).all()), f"{name}: gradient of {label}"


def check_autocast(make: Factory) -> None:
    """Under bfloat16 autocast the picture stays close, and finite."""
    isp = make().eval()
    x = night(40, 56, channels=isp.in_channels)
    with torch.no_grad():
        full = isp(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = isp(x)
    assert bool(torch.isfinite(half).all()), "not finite under autocast"
    assert float((half.float() - full).abs().mean()) < 0.05, "autocast changes the picture"


def check_config(make: Factory) -> None:
    """The configuration survives JSON, and rebuilds an ISP that takes the same weights."""
    isp = make().eval()
    config = json.loads(json.dumps(config_of(isp)))
    again = type(isp)(isp.Config(**config)).eval()
    again.load_state_dict(isp.state_dict())
    x = night(40, 56, channels=isp.in_channels)
    with torch.no_grad():
        _close(again(x), isp(x), 1e-6, "rebuilt from its configuration it differs")


def check_parameters(make: Factory) -> None:
    """`predict` gives tensors with the batch first, and `apply` with them is the forward pass."""
    isp = make().eval()
    x = night(40, 56, batch=2, channels=isp.in_channels)
    with torch.no_grad():
        parameters = isp.predict(x)
        for name, value in parameters.items():
            assert value.shape[0] == 2, f"{name} has shape {tuple(value.shape)}, batch of 2"
        _close(isp.apply(x, parameters).clamp(0, 1), isp(x), 1e-6, "apply(predict) is not forward")


def _close(a: Tensor, b: Tensor, tolerance: float, what: str) -> None:
    difference = float((a - b).abs().max())
    assert difference <= tolerance, f"{what} by {difference:.2g}"
