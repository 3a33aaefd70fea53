"""DIAP: the adaptive module of "Toward RAW Object Detection" (Xu et al., CVPR 2023).

Image level    one gamma per channel, from a small network that sees the image at 256 x 256:
               I1 = x^(1 / gamma_c), gamma_c = low + (high - low) (tanh + 1) / 2.
Pixel level    a monotone piecewise-linear curve per pixel and channel through (0, 0) and (1, 1). A
               network gives 48 planes at 64 x 64, brought to the image's size bilinearly, then to
               (0.1, 99.9) by tanh: 3 channels x 8 widths, then 3 x 8 slopes. With widths a_i that
               sum to 1, slopes s_i such that sum_i a_i s_i = 1 and knots A_i = a_0 + ... + a_(i-1),
               I2 = sum_i s_i min(max(x - A_i, 0), a_i).
Fusion         conv 1x1 3->16, LeakyReLU 0.1, conv 1x1 16->3 without bias, of (I1 + I2) / 2.

Parameters: 72,672 with width 16 (TA-ISP's tables), 259,872 with width 32 (SimROD's).

Published defects, and what we do instead:
- The power is undefined below zero: here x is cut at 0, and a smooth floor (see `smooth_power`)
  keeps black at 0 and slopes finite. `floor=0` is the published power of x cut at 0.
- The 48 planes at full resolution need 192 bytes a pixel: here `predict` gives the 64 x 64 planes,
  and a tile upsamples its own part, at the same positions (`parameters_at`).
- The first output is that of random 1x1 convolutions: the start "plain" is (x^(1/gamma) + x) / 2
  with gamma amid its range.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rawisp.isp.base import Isp
from rawisp.isp.baselines.powers import check_gamma_settings, smooth_power

SEGMENTS = 8
SLOPE = 0.1  # of the leaky rectifiers


@dataclass(frozen=True)
class DiapConfig:
    """The settings of DIAP.

    width: channels of the first convolutions (nf). gamma_low, gamma_high: the range of the gammas;
    published are 7 and 10.5 (RAOD), 1.5 and 2.5 (TA-ISP, ResNets), 1 and 4 (TA-ISP, MiT), others
    per dataset. floor: half a step of the sensor, in units of its white level, for the smooth
    power (2^-15 for 14 bits, 2^-25 for 24-bit HDR); 0 for the published power. init: "plain" or
    "paper" (PyTorch's random start everywhere).
    """

    width: int = 16
    gamma_low: float = 1.0
    gamma_high: float = 4.0
    floor: float = 2.0**-15
    init: str = "plain"


def upsample_part(planes: Tensor, box: list[int], size: list[int]) -> Tensor:
    """The part `box` (top, left, bottom, right) of (B, C, h, w) planes upsampled to `size` (H, W).

    Bilinear, corner on corner. Each output pixel is computed from its own position only, so a part
    equals the same part of the whole, bit for bit.
    """
    for dim in (2, 3):
        count, target = planes.shape[dim], size[dim - 2]
        at = torch.arange(box[dim - 2], box[dim], device=planes.device, dtype=torch.float32)
        at = at * float(count - 1) / max(target - 1, 1)  # a free size must not become a constant
        below = at.floor().clamp(0, max(count - 2, 0)).long()
        above = (below + 1).clamp(max=count - 1)
        share = (at - below).to(planes.dtype)
        if dim == 2:
            share = share.unsqueeze(1)
        low, high = planes.index_select(dim, below), planes.index_select(dim, above)
        planes = low + share * (high - low)
    return planes


class DiapIsp(Isp):
    """Per-channel gammas and per-pixel curves, fused by 1x1 convolutions.

    Input: linear, 0 black and 1 white, any three channels. Any height and width from 1 up.
    """

    name = "diap"
    Config = DiapConfig
    halo = 0

    def __init__(self, config: DiapConfig | None = None) -> None:
        super().__init__()
        config = config or DiapConfig()
        check_gamma_settings(config.init, config.gamma_low, config.gamma_high)
        self.config = config
        # JSON may say 7 for 7.0; TorchScript minds.
        self.gamma_low, self.gamma_high = float(config.gamma_low), float(config.gamma_high)
        self.floor = float(config.floor)
        self.segments, self.slope = SEGMENTS, SLOPE  # TorchScript sees attributes, not globals
        n = config.width
        self.image_level = nn.Sequential(
            *(nn.Conv2d(3, n, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(n, 2 * n, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(2 * n, 4 * n, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(4 * n, 2 * n, 3, padding=1), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            *(nn.Linear(2 * n, 4 * n), nn.LeakyReLU(SLOPE)),
        )
        self.gamma_head = nn.Linear(4 * n, 3, bias=False)
        self.pixel_level = nn.Sequential(
            *(nn.Conv2d(3, n, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(n, 2 * n, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(2 * n, 2 * n, 3, padding=1), nn.ReLU()),
        )
        self.curve_head = nn.Conv2d(2 * n, 6 * SEGMENTS, 3, padding=1)
        self.fusion_in = nn.Conv2d(3, 16, 1)
        self.fusion_out = nn.Conv2d(16, 3, 1, bias=False)
        if config.init == "plain":
            self._start_plain()

    def _start_plain(self) -> None:
        """Gammas amid their range, curves and fusion the identity; the rest stays random.

        LeakyReLU(v) - LeakyReLU(-v) = (1 + slope) v, so two hidden units carry one channel.
        """
        with torch.no_grad():
            self.gamma_head.weight.zero_()
            self.curve_head.weight.zero_()
            self.curve_head.bias.zero_()  # type: ignore[union-attr]
            self.fusion_out.weight.zero_()
            self.fusion_in.bias.zero_()  # type: ignore[union-attr]
            self.fusion_in.weight[:6] = 0.0
            for channel in range(3):
                for unit, sign in ((2 * channel, 1.0), (2 * channel + 1, -1.0)):
                    self.fusion_in.weight[unit, channel] = sign
                    self.fusion_out.weight[channel, unit] = sign / (1.0 + SLOPE)

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """{"gamma": (B, 3), "curves": (B, 48, 64, 64) before tanh}, from the image at 256 x 256."""
        small = functional.interpolate(x, size=[256, 256], mode="bilinear", align_corners=True)
        where = torch.tanh(self.gamma_head(self.image_level(small)).to(x.dtype))
        gamma = self.gamma_low + (self.gamma_high - self.gamma_low) * (where + 1.0) / 2.0
        curves = self.curve_head(self.pixel_level(small)).to(x.dtype)
        return {"gamma": gamma, "curves": curves}

    def parameters_at(
        self, parameters: dict[str, Tensor], box: tuple[int, int, int, int], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """The curves of the crop's own pixels, which `apply` then takes as they are."""
        return {**parameters, "curves": upsample_part(parameters["curves"], [*box], [*size])}

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """Gammas, curves, fusion. Curves of another size than x are upsampled to it."""
        height, width = x.shape[2], x.shape[3]
        curves = parameters["curves"]
        upsampled = True
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            # An exported program has no tiles, and must not take 64 pixels for a case of its own.
            upsampled = not torch.compiler.is_exporting()
        upsampled = upsampled and curves.shape[2] == height and curves.shape[3] == width
        if not upsampled:
            curves = upsample_part(curves, [0, 0, height, width], [height, width])
        exponent = (1.0 / parameters["gamma"]).unsqueeze(2).unsqueeze(3)
        both = smooth_power(x, exponent, self.floor) + self._through_curves(x, curves)
        hidden = functional.leaky_relu(self.fusion_in(both / 2.0), self.slope)
        return self.fusion_out(hidden)  # type: ignore[no-any-return]

    def _through_curves(self, x: Tensor, curves: Tensor) -> Tensor:
        """I2: each pixel through its own curve."""
        positive = 0.1 + 99.8 * (torch.tanh(curves) + 1.0) / 2.0
        table = positive.reshape(-1, 6, self.segments, x.shape[2], x.shape[3])
        widths, slopes = table[:, :3], table[:, 3:]
        widths = widths / widths.sum(dim=2, keepdim=True)
        slopes = slopes / (widths * slopes).sum(dim=2, keepdim=True)
        y = torch.zeros_like(x)
        rest = x.clamp(min=0.0)  # x - A_i
        for i in range(self.segments):
            y = y + slopes[:, :, i] * torch.minimum(rest.clamp(min=0.0), widths[:, :, i])
            rest = rest - widths[:, :, i]
        return y
