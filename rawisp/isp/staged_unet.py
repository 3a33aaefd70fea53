"""The five stages, and a small U-Net that mends what noise does to their picture.

    s = staged(x)
    (r, m) = U(s, square root of the exposed linear image, log of the gain)
    y = s + B(r) + B(m) (B(s) - s)

Ours, for very dark RAW: pointwise operators cannot tell a dim edge from noise. The rendering in
front is that of `staged` with the start of `classic` but for its smoothing, so that a fresh one
renders so (the last convolution starts at zero); what is added has a bounded neighbourhood and no
statistics of the image, so that tiles are exact. The square root makes photon noise equally strong
at all levels (Anscombe's transform, without its constant), and the gain tells how strong. B is the
binomial 3x3 blur: without it training finds a checkerboard that detectors like and people do not,
since the U-Net writes each phase of its 2x2 cells by itself; where the finest noise is to go, m
mixes in the blurred rendering.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from rawisp.isp.base import Isp
from rawisp.isp.fixed import ClassicConfig
from rawisp.isp.staged import StagedConfig, StagedIsp
from rawisp.isp.unet import (
    blurred,
    doubled,
    in_cells,
    one_convolution,
    out_of_cells,
    two_convolutions,
)

# Channels at half, quarter and eighth resolution.
WIDTHS = (16, 32, 48)
# 3x3 convolutions on the longest way: five at half resolution (10 pixels), four at a quarter (16),
# three at an eighth (24), the halvings between, and the blurs, from the edge of a cell: up
# to 59, in steps of 8.
HALO = 64


@dataclass(frozen=True)
class StagedUnetConfig(ClassicConfig):
    """`ClassicConfig` for the rendering in front, which leaves the noise to the U-Net; widths:
    channels of its three levels."""

    exposure_floor: float = 0.0
    smooth_colors: bool = False
    widths: tuple[int, int, int] = WIDTHS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parity:
            raise ValueError("parity is for staged alone")
        if len(self.widths) != 3 or min(self.widths) < 1:
            raise ValueError(f"widths {self.widths!r} are not three numbers above 0")


class StagedUnetIsp(Isp):
    """`staged` with a small U-Net behind it, for noise that no pointwise operator can mend.

    Input: linear, 0 black and 1 white, in the colour space of the config. Output: sRGB-like encoded
    RGB. Any height and width from 3 up.
    """

    name = "staged-unet"
    Config = StagedUnetConfig
    halo = HALO
    multiple = 8
    encoded_modules = ("half_in", "quarter_in", "eighth", "quarter_out", "half_out", "last")

    def __init__(self, config: StagedUnetConfig | None = None) -> None:
        super().__init__()
        config = config or StagedUnetConfig()
        self.config = config
        given = asdict(config)
        own = {field.name: given[field.name] for field in fields(StagedConfig)}
        self.staged = StagedIsp(StagedConfig(**own))
        half, quarter, eighth = config.widths
        # 3 rendered, 3 linear and the gain, each 2x2 pixels.
        self.half_in = two_convolutions(4 * 7, half, half)
        self.quarter_in = two_convolutions(half, quarter, quarter)
        self.eighth = nn.Sequential(
            two_convolutions(quarter, eighth, eighth), one_convolution(eighth, eighth)
        )
        self.quarter_out = two_convolutions(eighth + quarter, quarter, quarter)
        self.half_out = two_convolutions(quarter + half, half, half)
        self.last = nn.Conv2d(half, 4 * 4, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """{"gain": (B, 3)}, as `staged`."""
        return self.staged.predict(x)

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """The rendering, smoothed where the mask says, plus the residual."""
        y = self.staged.apply(x, parameters)
        seen = torch.cat([y, self._exposed(x, parameters["gain"])], dim=1)
        written = out_of_cells(self._written(in_cells(seen)), x.shape[2], x.shape[3])
        return y + written[:, :3] + written[:, 3:] * (blurred(y) - y)

    def _exposed(self, x: Tensor, gain: Tensor) -> Tensor:
        """(B, 4, H, W): the signed square root of the exposed linear image, the gain in octaves."""
        matrix = gain.unsqueeze(2) * self.staged.color_matrix.unsqueeze(0)
        linear = torch.einsum("bij,bjhw->bihw", matrix, x)
        # The slope at zero stays finite; beyond 1 (lamps) nothing is to be learned.
        root = linear * torch.rsqrt(linear.abs() + 1e-3)
        octaves = torch.log2(gain.mean(dim=1).clamp(min=1e-6)) / 8.0
        plane = octaves.view(-1, 1, 1, 1).expand(-1, 1, x.shape[2], x.shape[3])
        return torch.cat([root.clamp(-1.0, 1.5), plane], dim=1)

    def _written(self, seen: Tensor) -> Tensor:
        """(B, 16, H / 2, W / 2): residual and mask, four phases each."""
        half = self.half_in(seen)
        quarter = self.quarter_in(avg_pool2d(half, 2))
        eighth = self.eighth(avg_pool2d(quarter, 2))
        y = self.quarter_out(torch.cat([doubled(eighth), quarter], dim=1))
        y = self.half_out(torch.cat([doubled(y), half], dim=1))
        return self.last(y)  # type: ignore[no-any-return]
