"""Colour, tone and noise reduction, all steered by what a thumbnail shows.

    (M, o, e, t, g, k, f) = E(log and root of the 32x32 thumbnail, noise)
    l = shoulder(M e x - o; k)           e: what brings the thumbnail's 75th percentile to 0.2
    (w, r) = U(root of l in cells; f)    a U-Net at half resolution
    l' = the Laplacian pyramid of l, its details times w, put together again
    y = gamma(l'; t, g) + B(r)           B: the binomial blur, see `rawisp.isp.unet`

Ours, for night RAW under any lamp. Fixed rules (grey world, percentiles) are wrong about sodium
light and about lamps in the picture, so matrix M (linear XYZ to linear sRGB, with white balance),
veil o, shoulder k, toe t and gamma g of each photograph come from a small encoder E. It also steers
the U-Net by feature-wise linear modulation f (Perez et al., AAAI 2018, "FiLM"). All that is
`predict`; `apply` looks at a bounded neighbourhood, so that tiles are exact.

In deep shade most pixels are less than their noise and half of them below zero. A curve in front of
an average turns them into haze, so details are weakened in linear light, by scale, luma and chroma
apart, before the curve; but after the shoulder, since lamps would ring. The residual r is what is
added where that is not enough. Both networks end in zeros: a fresh one renders M0 e x through a
fixed curve.
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
    doubled,
    one_convolution,
    out_of_cells,
    to_multiples_of_8,
    two_convolutions,
)

THUMBNAIL = 32
# The exposure before anything is learned, as the thumbnail's brightness has it.
PERCENTILE, TARGET = 0.75, 0.20
# How far one unit of the encoder's numbers reaches: entries of the matrix, the veil, logarithms.
MATRIX_STEP, VEIL_STEP, LOG_STEP = 0.3, 0.05, 0.3
# Before anything is learned: the shoulder lies in the middle of its range.
LOWEST_SHOULDER, HIGHEST_SHOULDER = 0.3, 0.9
GAMMA, TOE = 1.0 / 2.2, 0.004
DARKEST, SHALLOWEST = 1e-5, 1e-4
# Luminance (Y, or camera green: the second channel) from which a pixel begins to be, and is, white
# in the picture. A sensor's white has 1.0 to 1.15; what `rawisp.highlights` makes of wholly clipped
# pixels 1.5 to 3.
WHITE_START, WHITE_END = 0.95, 1.25
# The share by which the brightest channel exceeds the second, from which light begins to be, and
# is, of one colour.
PURE_START, PURE_END = 0.75, 0.95
# 3x3 convolutions on the longest way: five at half resolution (10 pixels), four at a quarter (16),
# three at an eighth (24), the halvings between, the blur, and the pyramid's doublings.
HALO = 72


@dataclass(frozen=True)
class FilmUnetConfig:
    """input_color: "xyz", or anything else for RGB that no matrix is known for. widths: channels of
    the U-Net's three levels. encoder: channels of the thumbnail's encoder. neutral_clip: whether
    light that no unclipped pixel can have (see WHITE_START) fades to its brightest channel, and
    light of one colour beyond the picture's white keeps its hue."""

    input_color: str = "xyz"
    widths: tuple[int, int, int] = (16, 32, 48)
    encoder: int = 48
    neutral_clip: bool = True

    def __post_init__(self) -> None:
        if len(self.widths) != 3 or min(self.widths) < 1:
            raise ValueError(f"widths {self.widths!r} are not three numbers above 0")
        if self.encoder < 1:
            raise ValueError(f"encoder is {self.encoder}; at least 1")


class ModulatedUnet(nn.Module):
    """Three levels, each block's output times (1 + scale) plus shift, per image and channel."""

    def __init__(self, channels: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        half, quarter, eighth = widths
        self.half_in = two_convolutions(channels, half, half)
        self.quarter_in = two_convolutions(half, quarter, quarter)
        self.eighth = nn.Sequential(
            two_convolutions(quarter, eighth, eighth), one_convolution(eighth, eighth)
        )
        self.quarter_out = two_convolutions(eighth + quarter, quarter, quarter)
        self.half_out = two_convolutions(quarter + half, half, half)
        # Luma and chroma weights: of details at a quarter; at a half and in full. And the residual.
        self.coarse = nn.Conv2d(quarter, 2, 3, padding=1)
        self.fine = nn.Conv2d(half, 4 + 12, 3, padding=1)
        for last in (self.coarse, self.fine):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        # Scales and shifts of the five blocks, in this order.
        self.blocks = [half, quarter, eighth, quarter, half]
        self.modulations = 2 * sum(self.blocks)

    def forward(self, x: Tensor, film: Tensor) -> tuple[Tensor, Tensor]:
        """((B, 2, H / 2, W / 2), (B, 16, H, W)) of (B, channels, H, W), H and W multiples of 4, and
        film (B, modulations)."""
        half = self._modulated(self.half_in(x), film, 0)
        quarter = self._modulated(self.quarter_in(functional.avg_pool2d(half, 2)), film, 1)
        y = self._modulated(self.eighth(functional.avg_pool2d(quarter, 2)), film, 2)
        y = self._modulated(self.quarter_out(torch.cat([doubled(y), quarter], dim=1)), film, 3)
        coarse = self.coarse(y)
        y = self._modulated(self.half_out(torch.cat([doubled(y), half], dim=1)), film, 4)
        return coarse, self.fine(y)

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
        # TorchScript sees attributes, not globals.
        self.thumbnail, self.percentile, self.target = THUMBNAIL, PERCENTILE, TARGET
        self.matrix_step, self.veil_step, self.log_step = MATRIX_STEP, VEIL_STEP, LOG_STEP
        self.lowest_shoulder = LOWEST_SHOULDER
        self.shoulder_range = HIGHEST_SHOULDER - LOWEST_SHOULDER
        self.gamma, self.toe = GAMMA, TOE
        self.darkest, self.shallowest = DARKEST, SHALLOWEST
        self.neutral_clip = config.neutral_clip
        self.white_start, self.white_end = WHITE_START, WHITE_END
        self.pure_start, self.pure_range = PURE_START, PURE_END - PURE_START
        start = LINEAR_SRGB_FROM_XYZ if config.input_color == "xyz" else torch.eye(3).numpy()
        self.start: Tensor
        self.identity: Tensor
        self.register_buffer("start", torch.tensor(start, dtype=torch.float32))
        self.register_buffer("identity", torch.eye(3), persistent=False)
        # Four pixels, their mean, that of sixteen, and the exposure.
        self.unet = ModulatedUnet(12 + 3 + 3 + 1, config.widths)
        self.encoder = nn.Sequential(
            nn.Conv2d(6, 24, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(24, config.encoder, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(config.encoder, config.encoder, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
        )
        last = nn.Linear(64, 18 + self.unet.modulations)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.Linear(2 * config.encoder + 4, 64), nn.LeakyReLU(0.1), last)

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """{"matrix": (B, 3, 3) to exposed linear sRGB, "veil": (B, 3) to be taken off that,
        "curve": (B, 3) shoulder, toe and gamma, "exposure": (B, 1), "film": (B, modulations)}."""
        cells = torch.einsum("ij,bjhw->bihw", self.start, cell_averages(x.float(), self.thumbnail))
        exposure = self._exposure(cells)
        seen = (cells * exposure.view(-1, 1, 1, 1)).clamp(0.0, 4.0)
        logarithm = torch.log2(seen.clamp(min=0.01)) / 4.0
        # The root's slope stays finite at black.
        root = torch.sqrt(seen.clamp(min=self.shallowest, max=1.0))
        features = self.encoder(torch.cat([root, logarithm], dim=1))
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        octaves = torch.log2(exposure) / 8.0
        said = self.head(torch.cat([pooled, self._noise(x, exposure), octaves], dim=1))
        mixing = self.identity + self.matrix_step * said[:, :9].view(-1, 3, 3)
        matrix = torch.matmul(mixing * torch.exp(said[:, 9:12]).unsqueeze(2), self.start)
        shoulder = self.lowest_shoulder + self.shoulder_range * torch.sigmoid(said[:, 15:16])
        toe = self.toe * torch.exp(said[:, 16:17])
        gamma = self.gamma * torch.exp(self.log_step * said[:, 17:18])
        return {
            "matrix": matrix * exposure.unsqueeze(2),
            "veil": self.veil_step * said[:, 12:15],
            "curve": torch.cat([shoulder, toe, gamma], dim=1),
            "exposure": exposure,
            "film": said[:, 18:],
        }

    def _exposure(self, cells: Tensor) -> Tensor:
        """(B, 1): what brings the percentile of the cells' mean channel to the target."""
        ordered = cells.mean(dim=1).flatten(1).sort(dim=1)[0]
        at = int(self.percentile * (ordered.shape[1] - 1) + 0.5)
        return self.target / ordered[:, at : at + 1].clamp(min=self.darkest)

    def _noise(self, x: Tensor, exposure: Tensor) -> Tensor:
        """(B, 3): how much neighbouring pixels differ, logarithm of the mean, exposed."""
        apart = (x[:, :, :, 1:] - x[:, :, :, :-1]).abs().clamp(max=0.05).mean(dim=(2, 3))
        return torch.log2((apart.float() * exposure).clamp(min=1e-4)) / 8.0

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """Matrix and veil, weaker details, curve, residual."""
        height, width = x.shape[2], x.shape[3]
        matrix = parameters["matrix"]
        linear = torch.einsum("bij,bjhw->bihw", matrix, to_multiples_of_8(x))
        linear = linear - parameters["veil"].unsqueeze(2).unsqueeze(3)
        curve = parameters["curve"].unsqueeze(2).unsqueeze(3)
        if self.neutral_clip:
            linear = self._hue_kept(linear, curve[:, 0:1])
        else:
            linear = self._shoulder(linear, curve[:, 0:1])
        by_two = functional.avg_pool2d(linear, 2)
        by_four = functional.avg_pool2d(by_two, 2)
        octaves = (torch.log2(parameters["exposure"]) / 8.0).unsqueeze(2).unsqueeze(3)
        seen = [
            functional.pixel_unshuffle(_root(linear), 2),
            _root(by_two),
            doubled(_root(by_four)),
            octaves.expand(-1, 1, by_two.shape[2], by_two.shape[3]),
        ]
        coarse, fine = self.unet(torch.cat(seen, dim=1), parameters["film"])
        coarse, fine = 2.0 * torch.sigmoid(coarse.float()), fine.float()
        weights = 2.0 * torch.sigmoid(fine[:, :4])
        # From a picture of eighths to the full one.
        by_eight = _enlarged(functional.avg_pool2d(by_four, 2))
        y = by_eight + _weighted(by_four - by_eight, coarse)
        y = _enlarged(y) + _weighted(by_two - _enlarged(by_four), weights[:, :2])
        y = _enlarged(y) + _weighted(linear - _enlarged(by_two), doubled(weights[:, 2:]))
        y = self._gamma(y[:, :, :height, :width], curve[:, 1:2], curve[:, 2:3])
        y = y + out_of_cells(fine[:, 4:], height, width)
        return self._white_where_clipped(x, y) if self.neutral_clip else y

    def _white_where_clipped(self, x: Tensor, y: Tensor) -> Tensor:
        """Fades `y` to its brightest channel where `x` is brighter than the sensor can see."""
        beyond = (x[:, 1:2].float() - self.white_start) / (self.white_end - self.white_start)
        clipped = beyond.clamp(0.0, 1.0)
        return y + clipped * (y.amax(dim=1, keepdim=True) - y)

    def _shoulder(self, linear: Tensor, k: Tensor) -> Tensor:
        """The identity up to k, then the hyperbola k + (1 - k) u / (u + 1 - k) of what is beyond,
        u, which approaches 1."""
        beyond = (linear - k).clamp(min=0.0)
        return torch.minimum(linear, k) + (1.0 - k) * beyond / (beyond + (1.0 - k))

    def _hue_kept(self, linear: Tensor, k: Tensor) -> Tensor:
        """The shoulder; but light of one colour that is far beyond white is scaled as a whole.

        A tail light of (20, 0, 1) would be cut to magenta channel by channel.
        """
        bent = self._shoulder(linear, k)
        highest = linear.amax(dim=1, keepdim=True)
        second = linear.sum(dim=1, keepdim=True) - highest - linear.amin(dim=1, keepdim=True)
        white = highest.clamp(min=1.0)
        pure = ((1.0 - second / white - self.pure_start) / self.pure_range).clamp(0.0, 1.0)
        weight = pure * (highest - 1.0).clamp(0.0, 1.0)
        return bent + weight * (linear * (self._shoulder(white, k) / white) - bent)

    def _gamma(self, linear: Tensor, toe: Tensor, gamma: Tensor) -> Tensor:
        """((y + t)^g - t^g) / ((1 + t)^g - t^g), whose slope at black is finite by the toe t."""
        black = toe**gamma
        encoded = (linear + toe).clamp(min=self.shallowest) ** gamma
        return (encoded - black) / ((1.0 + toe) ** gamma - black)


def _root(linear: Tensor) -> Tensor:
    """Signed square root: photon noise becomes equally strong at all levels (Anscombe's transform,
    without its constant). The slope at zero stays finite; what is below -1 is cut."""
    return (linear * torch.rsqrt(linear.abs() + 1e-3)).clamp(min=-1.0)


def _enlarged(x: Tensor) -> Tensor:
    """Twice as wide and high, bilinear."""
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _weighted(details: Tensor, weights: Tensor) -> Tensor:
    """Details (B, 3, H, W), their mean over the channels times the first of the weights (B, 2, H,
    W), what differs from it times the second."""
    luma = details.mean(dim=1, keepdim=True)
    return luma * weights[:, 0:1] + (details - luma) * weights[:, 1:2]
