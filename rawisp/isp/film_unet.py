"""Colour, tone and a small U-Net, all steered by what a 32x32 thumbnail shows.

    (M, g, k, f) = E(log and root of the thumbnail)
    b = shoulder(M e x; k) ^ g           e: what brings the 75th percentile of the thumbnail to 0.2
    (r, m) = U(b, square root of M e x, log e; f)
    y = b + B(r) + B(m) (B(b) - b)

Ours, for night RAW under any lamp: fixed rules (grey world, percentiles) are wrong about sodium
light and about lamps in the picture, so the colour matrix M (linear XYZ to linear sRGB, with the
white balance), gamma g and shoulder k of each photograph come from a small encoder E, which also
steers the U-Net by feature-wise linear modulation, f (Perez et al., AAAI 2018, "FiLM"). All of that
is `predict`; `apply` looks at a bounded neighbourhood, so that tiles are exact. Both networks end
in zeros: a fresh one renders a plain picture, e x in sRGB's primaries through a fixed curve.

The square root makes photon noise equally strong at all levels (Anscombe's transform, without its
constant), and the log of e tells how strong. B is the binomial blur; see `rawisp.isp.unet`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rawisp.color import LINEAR_SRGB_FROM_XYZ
from rawisp.isp.base import Isp
from rawisp.isp.thumbnail import cell_averages
from rawisp.isp.unet import (
    blurred,
    doubled,
    in_cells,
    one_convolution,
    out_of_cells,
    two_convolutions,
)

THUMBNAIL = 32
# The exposure before anything is learned, as the thumbnail's brightness has it.
PERCENTILE, TARGET = 0.75, 0.20
# How far the encoder's numbers reach: entries of the matrix, and the logarithm of gamma.
MATRIX_STEP, GAMMA_STEP = 0.3, 0.3
# The shoulder lies between these; 0.6 before anything is learned.
LOWEST_SHOULDER, HIGHEST_SHOULDER = 0.3, 0.9
DARKEST, SHALLOWEST = 1e-5, 1e-4
# As in `staged_unet`: 3x3 convolutions at half, quarter and eighth resolution, and the blurs.
HALO = 64


@dataclass(frozen=True)
class FilmUnetConfig:
    """input_color: "xyz", or anything else for RGB that no matrix is known for. widths: channels of
    the U-Net's three levels. encoder: channels of the thumbnail's encoder."""

    input_color: str = "xyz"
    widths: tuple[int, int, int] = (16, 32, 48)
    encoder: int = 48

    def __post_init__(self) -> None:
        if len(self.widths) != 3 or min(self.widths) < 1:
            raise ValueError(f"widths {self.widths!r} are not three numbers above 0")
        if self.encoder < 1:
            raise ValueError(f"encoder is {self.encoder}; at least 1")


class ModulatedUnet(nn.Module):
    """Three levels, each block's output times (1 + scale) plus shift, per image and channel."""

    def __init__(self, channels: int, out: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        half, quarter, eighth = widths
        self.half_in = two_convolutions(channels, half, half)
        self.quarter_in = two_convolutions(half, quarter, quarter)
        self.eighth = nn.Sequential(
            two_convolutions(quarter, eighth, eighth), one_convolution(eighth, eighth)
        )
        self.quarter_out = two_convolutions(eighth + quarter, quarter, quarter)
        self.half_out = two_convolutions(quarter + half, half, half)
        self.last = nn.Conv2d(half, out, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        # Scales and shifts of the five blocks, in this order.
        self.blocks = [half, quarter, eighth, quarter, half]
        self.modulations = 2 * sum(self.blocks)

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """(B, out, H, W) of (B, channels, H, W), multiples of 4, and film (B, modulations)."""
        half = self._modulated(self.half_in(x), film, 0)
        quarter = self._modulated(self.quarter_in(functional.avg_pool2d(half, 2)), film, 1)
        y = self._modulated(self.eighth(functional.avg_pool2d(quarter, 2)), film, 2)
        y = self._modulated(self.quarter_out(torch.cat([doubled(y), quarter], dim=1)), film, 3)
        y = self._modulated(self.half_out(torch.cat([doubled(y), half], dim=1)), film, 4)
        return self.last(y)  # type: ignore[no-any-return]

    def _modulated(self, y: Tensor, film: Tensor, block: int) -> Tensor:
        first = 2 * sum(self.blocks[:block])
        channels = self.blocks[block]
        scale = film[:, first : first + channels].unsqueeze(2).unsqueeze(3)
        shift = film[:, first + channels : first + 2 * channels].unsqueeze(2).unsqueeze(3)
        return y * (1.0 + scale) + shift


class FilmUnetIsp(Isp):
    """Colour, tone and a small U-Net against noise, steered by a thumbnail.

    Input: linear, 0 black and 1 white, in the colour space of the config. Output: sRGB-like encoded
    RGB. Any height and width from 3 up; images of a batch do not influence each other.
    """

    name = "film-unet"
    Config = FilmUnetConfig
    halo = HALO
    multiple = 8
    encoded_modules = ("unet",)

    def __init__(self, config: FilmUnetConfig | None = None) -> None:
        super().__init__()
        config = config or FilmUnetConfig()
        self.config = config
        self.thumbnail, self.percentile, self.target = THUMBNAIL, PERCENTILE, TARGET
        self.matrix_step, self.gamma_step = MATRIX_STEP, GAMMA_STEP
        self.lowest_shoulder = LOWEST_SHOULDER
        self.shoulder_range = HIGHEST_SHOULDER - LOWEST_SHOULDER
        self.darkest, self.shallowest = DARKEST, SHALLOWEST
        start = LINEAR_SRGB_FROM_XYZ if config.input_color == "xyz" else torch.eye(3).numpy()
        self.start: Tensor
        self.identity: Tensor
        self.register_buffer("start", torch.tensor(start, dtype=torch.float32))
        self.register_buffer("identity", torch.eye(3), persistent=False)
        # Rendered and linear RGB and the exposure in, residual and mask out: 2x2 pixels each.
        self.unet = ModulatedUnet(4 * 7, 4 * 4, config.widths)
        self.encoder = nn.Sequential(
            nn.Conv2d(6, 24, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(24, config.encoder, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(config.encoder, config.encoder, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
        )
        last = nn.Linear(64, 14 + self.unet.modulations)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.Linear(2 * config.encoder, 64), nn.LeakyReLU(0.1), last)

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """{"matrix": (B, 3, 3) to exposed linear sRGB, "gamma": (B, 1), "shoulder": (B, 1),
        "exposure": (B, 1), "film": (B, modulations)}."""
        cells = torch.einsum("ij,bjhw->bihw", self.start, cell_averages(x.float(), self.thumbnail))
        exposure = self._exposure(cells)
        seen = (cells * exposure.view(-1, 1, 1, 1)).clamp(0.0, 4.0)
        logarithm = torch.log2(seen.clamp(min=0.01)) / 4.0
        # The root's slope stays finite at black.
        root = torch.sqrt(seen.clamp(min=self.shallowest, max=1.0))
        features = self.encoder(torch.cat([root, logarithm], dim=1))
        features = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        said = self.head(features)
        mixing = self.identity + self.matrix_step * said[:, :9].view(-1, 3, 3)
        matrix = torch.matmul(mixing * torch.exp(said[:, 9:12]).unsqueeze(2), self.start)
        shoulder = self.lowest_shoulder + self.shoulder_range * torch.sigmoid(said[:, 13:14])
        return {
            "matrix": matrix * exposure.unsqueeze(2),
            "gamma": torch.exp(self.gamma_step * said[:, 12:13]) / 2.2,
            "shoulder": shoulder,
            "exposure": exposure,
            "film": said[:, 14:],
        }

    def _exposure(self, cells: Tensor) -> Tensor:
        """(B, 1): what brings the percentile of the cells' mean channel to the target."""
        ordered = cells.mean(dim=1).flatten(1).sort(dim=1)[0]
        at = int(self.percentile * (ordered.shape[1] - 1) + 0.5)
        return self.target / ordered[:, at : at + 1].clamp(min=self.darkest)

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """Matrix, curve, then what the U-Net writes."""
        linear = torch.einsum("bij,bjhw->bihw", parameters["matrix"], x)
        base = self._curve(linear, parameters["gamma"], parameters["shoulder"])
        # The slope at zero stays finite; beyond 1 (lamps) nothing is to be learned.
        root = (linear * torch.rsqrt(linear.abs() + 1e-3)).clamp(-1.0, 1.5)
        octaves = (torch.log2(parameters["exposure"]) / 8.0).unsqueeze(2).unsqueeze(3)
        plane = octaves.expand(-1, 1, x.shape[2], x.shape[3])
        seen = torch.cat([base, root, plane], dim=1)
        written = self.unet(in_cells(seen), parameters["film"]).float()
        written = out_of_cells(written, x.shape[2], x.shape[3])
        return base + written[:, :3] + written[:, 3:] * (blurred(base) - base)

    def _curve(self, linear: Tensor, gamma: Tensor, shoulder: Tensor) -> Tensor:
        """The identity up to the shoulder k, then the hyperbola k + (1 - k) t / (t + 1 - k) of what
        is beyond, t, which approaches 1; to the power gamma."""
        k = shoulder.unsqueeze(2).unsqueeze(3)
        y = linear.clamp(min=self.shallowest)
        beyond = (y - k).clamp(min=0.0)
        y = torch.minimum(y, k) + (1.0 - k) * beyond / (beyond + (1.0 - k))
        return y ** gamma.unsqueeze(2).unsqueeze(3)
