"""MW-ISPNet, the multi-level wavelet ISP network (Ignatov et al., AIM 2020 challenge), small.

A U-Net whose levels are Haar wavelet transforms (DWT, its inverse IWT) in place of pooling, each
with residual groups of channel attention:

    RCAB(c): x + attention(conv(ReLU(conv(x)))), attention(v) = v sigmoid(1x1(ReLU(1x1(mean of v))))
    RCAG(c): x + conv(n RCABs)

    a = DWT(x)                                  12 channels at H/2
    b = RCAG64(PReLU(conv 12->64 (a)))
    c = RCAG128(PReLU(conv 256->128 (DWT b)))   at H/4
    m = RCAG128(RCAG128(PReLU(conv 512->128 (DWT c))))   at H/8
    e = IWT(PReLU(conv 128->512 (m))) + c
    f = IWT(PReLU(conv 128->256 (RCAG128 e))) + b
    y = conv 3->3 (IWT(conv 64->12 (RCAG64 f) + a))

All convolutions but the attention's are 3x3 with bias and zero padding. 9,140,077 parameters with
n = 5, which TA-ISP's table uses; the challenge's network had n = 20, 29.2 million.

It does not stream: each of the 30 attentions averages over the whole image what the blocks before
it made, so exact tiles would need 30 passes. `predict` therefore gives nothing, and
`render_in_tiles` refuses.

Published defects, and what we do instead:
- Sizes must be multiples of 8: here the right and bottom edges are repeated up to that, and the
  result is cut. The averages see these up to 7 rows and columns.
- The fresh network is no picture: the start "identity" has a last residual (conv 64->12) of zero,
  and a last convolution that passes its input on. "paper" is PyTorch's random start.

Which of the Haar filters is called LH and which HL is not known to us (the order of two planes).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rawisp.isp.base import Isp


@dataclass(frozen=True)
class MwIspNetConfig:
    """The settings of MW-ISPNet.

    blocks: RCABs per group (n), 1 or more. init: "identity" or "paper".
    """

    blocks: int = 5
    init: str = "identity"


def conv(channels: int, out: int) -> nn.Conv2d:
    """3x3, same size."""
    return nn.Conv2d(channels, out, 3, padding=1)


def haar(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 4 C, H/2, W/2), H and W even: each channel's LL, LH, HL, HH.

    The filters, on the 2x2 squares: LL = ++/++, LH = ++/--, HL = +-/+-, HH = +-/-+, all halved.
    LH is the difference of rows, HL of columns. Orthonormal and symmetric.
    """
    height, width = x.shape[2] // 2, x.shape[3] // 2
    square = functional.pixel_unshuffle(x, 2).reshape(-1, x.shape[1], 4, height, width)
    return hadamard(square).flatten(1, 2)


def inverse_haar(x: Tensor) -> Tensor:
    """(B, 4 C, H, W) to (B, C, 2 H, 2 W), the inverse of `haar` and its transpose."""
    square = hadamard(x.reshape(-1, x.shape[1] // 4, 4, x.shape[2], x.shape[3]))
    return functional.pixel_shuffle(square.flatten(1, 2), 2)


def hadamard(x: Tensor) -> Tensor:
    """(B, C, 4, H, W): sums and differences of the four, halved; its own inverse.

    From top left, top right, bottom left, bottom right to LL, LH, HL, HH, and as well back.
    """
    a, b, c, d = x[:, :, 0], x[:, :, 1], x[:, :, 2], x[:, :, 3]
    planes = [a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d]
    return 0.5 * torch.stack(planes, dim=2)


class AttentionBlock(nn.Module):
    """RCAB: two convolutions, weighted per channel by their averages over the image, residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), nn.ReLU(), conv(channels, channels))
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            *(nn.Conv2d(channels, channels // 16, 1), nn.ReLU()),
            *(nn.Conv2d(channels // 16, channels, 1), nn.Sigmoid()),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return x + y * self.attention(y)  # type: ignore[no-any-return]


class AttentionGroup(nn.Module):
    """RCAG: blocks and a convolution, residual."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(AttentionBlock(channels) for _ in range(blocks)), conv(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class MwIspNetIsp(Isp):
    """The wavelet U-Net.

    Input: linear, 0 black and 1 white, any three channels. Any height and width from 1 up.
    """

    name = "mw-ispnet"
    Config = MwIspNetConfig
    multiple = 8
    streams = False

    def __init__(self, config: MwIspNetConfig | None = None) -> None:
        super().__init__()
        config = config or MwIspNetConfig()
        if config.init not in ("identity", "paper"):
            raise ValueError(f"init is {config.init!r}; there are identity and paper")
        if config.blocks < 1:
            raise ValueError(f"blocks is {config.blocks}; there must be at least one")
        self.config = config
        n = config.blocks
        self.down_2 = nn.Sequential(conv(12, 64), nn.PReLU(), AttentionGroup(64, n))
        self.down_4 = nn.Sequential(conv(256, 128), nn.PReLU(), AttentionGroup(128, n))
        self.down_8 = nn.Sequential(conv(512, 128), nn.PReLU())
        self.middle = nn.Sequential(AttentionGroup(128, n), AttentionGroup(128, n))
        self.up_8 = nn.Sequential(conv(128, 512), nn.PReLU())
        self.up_4 = nn.Sequential(AttentionGroup(128, n), conv(128, 256), nn.PReLU())
        self.up_2 = nn.Sequential(AttentionGroup(64, n), conv(64, 12))
        self.out = conv(3, 3)
        if config.init == "identity":
            for layer in (self.up_2[-1], self.out):
                nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            nn.init.dirac_(self.out.weight)

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Nothing: what depends on the whole image is found layer by layer."""
        nothing: dict[str, Tensor] = {}
        return nothing

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """The whole network, on the image with its edges repeated up to multiples of 8."""
        height, width = x.shape[2], x.shape[3]
        padding = [0, -width % 8, 0, -height % 8]
        a = haar(functional.pad(x, padding, mode="replicate"))
        b = self.down_2(a)
        c = self.down_4(haar(b))
        e = inverse_haar(self.up_8(self.middle(self.down_8(haar(c))))) + c
        f = inverse_haar(self.up_4(e)) + b
        y = self.out(inverse_haar(self.up_2(f) + a))
        return y[:, :, :height, :width]  # type: ignore[no-any-return]
