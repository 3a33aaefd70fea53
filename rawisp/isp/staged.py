"""The five learnable stages (colour matrix, desaturation, tone curve, gamma, sharpening).

After datarax's differentiable ISP (37 parameters, in this order), with the start values and
parametrisations that make its defects impossible: the tone curve is a cumulative softmax (exactly
the identity at zero logits, monotone, from 0 to 1), the blur kernel a softmax (sums to one), and
values are cut once, in front of the tone curve (softly, so that gradients pass, with a shoulder
below 1), and not after each stage. In front stand an exposure and white balance: three learned log
gains (40 parameters), and optionally a per-image part found from statistics of a thumbnail.
`parity=True` is the published form instead (`rawisp.isp.staged_parity`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

from rawisp.color import LINEAR_SRGB_FROM_XYZ
from rawisp.isp.base import Isp
from rawisp.isp.staged_kernels import Encode, Sharpen, usable
from rawisp.isp.staged_parity import PublishedStages
from rawisp.isp.thumbnail import cell_averages

# BT.709 luma of linear sRGB.
LUMA = (0.2126, 0.7152, 0.0722)
# The thumbnail that statistics are taken from: cells, so aspect is not kept.
THUMBNAIL = 64
# The largest of X, Y, Z (or R, G, B) from which a pixel counts as partly, and as wholly clipped. A
# channel at the sensor's white makes it 0.95 or more with the matrices of common cameras; the
# averaged greens of a cell at a lamp's edge somewhat less.
CLIP_START, CLIP_END = 0.6, 0.9


# Colours are smoothed over 7x7 pixels; noise is taken from every fourth row.
SMOOTHING_RADIUS, NOISE_STEP = 3, 4
# The median of absolute differences of two normal numbers of variance 1, squared.
MEDIAN_OF_DIFFERENCES = 2.0 * 0.6745**2


@dataclass(frozen=True)
class StagedConfig:
    """The start of a staged ISP.

    input_color: "xyz" starts the colour matrix at XYZ to linear sRGB, "camera" at the identity.
    exposure_percentile, exposure_target: the luma percentile of the thumbnail that is brought to
    the target, 0 for no automatic exposure; exposure_limit bounds the gain, exposure_floor is the
    smallest (with 1.0, what the sensor clips stays white in bright pictures). grey_world: whether
    the mid-tones are made neutral; balance_limit bounds the gains. saturation: 1 keeps colours,
    above 1 strengthens them. gamma: exponent of the output. shoulder: the level above which
    highlights roll off softly towards 1 (1.0: none). sharpening: strength, 0 to 1. neutral_clip:
    whether pixels with a clipped colour become neutral; what a clipped sensor says of colour is
    wrong, down to negative values inside lamps. smooth_colors: whether colours that vary no more
    than the noise are averaged over their neighbourhood, before values below black are cut: cutting
    leaves of each noisy pixel in the dark the one or two channels that happen to be positive, in
    neon colours.
    parity: the five stages with the formulas and the start of the published code, for comparison:
    37 parameters, no exposure or white balance, the identity as colour matrix whatever the input
    colour. It goes with no other setting.
    """

    input_color: str = "xyz"
    exposure_percentile: float = 0.0
    exposure_target: float = 0.18
    exposure_limit: float = 512.0
    exposure_floor: float = 0.0
    grey_world: bool = False
    balance_limit: float = 3.0
    saturation: float = 1.0
    gamma: float = 1 / 2.2
    shoulder: float = 1.0
    sharpening: float = 0.0
    neutral_clip: bool = False
    smooth_colors: bool = False
    parity: bool = False

    def __post_init__(self) -> None:
        for field in fields(StagedConfig):
            value = getattr(self, field.name)
            if self.parity and field.name != "parity" and value != field.default:
                raise ValueError(f"{field.name} is {value!r}; parity goes with no other setting")


class StagedIsp(Isp):
    """Five stages with learnable parameters, behind exposure and white balance.

    Input: linear, 0 black and 1 the sensor's white level, in the colour space of the config.
    Output: sRGB-like encoded RGB. Any height and width from 3 up; images of a batch do not
    influence each other. With `parity` the output is in [0, 1] in training as well.
    """

    name = "staged"
    Config = StagedConfig
    halo = 1  # the sharpening's 3x3

    def __init__(self, config: StagedConfig | None = None) -> None:
        super().__init__()
        config = config or StagedConfig()
        self.config = config
        self.published = PublishedStages() if config.parity else None
        if not config.parity:
            self._set_up(config)

    def _set_up(self, config: StagedConfig) -> None:
        """Constants and the 40 parameters."""
        self.exposure_percentile = config.exposure_percentile
        self.exposure_target = config.exposure_target
        self.exposure_limit = config.exposure_limit
        self.lowest_exposure = max(1.0 / config.exposure_limit, config.exposure_floor)
        self.grey_world = config.grey_world
        self.balance_limit = config.balance_limit
        self.shoulder = config.shoulder
        self.neutral_clip = config.neutral_clip
        self.smooth_colors = config.smooth_colors
        if config.smooth_colors:
            self.halo = 1 + 2 * SMOOTHING_RADIUS  # two averages, one after the other
        self.radius, self.noise_step = SMOOTHING_RADIUS, NOISE_STEP
        self.median_of_differences = MEDIAN_OF_DIFFERENCES
        self.clip_start, self.clip_end = CLIP_START, CLIP_END
        self.thumbnail = THUMBNAIL  # TorchScript sees attributes, not globals
        start = LINEAR_SRGB_FROM_XYZ if config.input_color == "xyz" else torch.eye(3).numpy()
        self.log_gain = nn.Parameter(torch.zeros(3))
        self.color_matrix = nn.Parameter(torch.tensor(start, dtype=torch.float32))
        self.desaturation = nn.Parameter(torch.tensor([1.0 - config.saturation]))
        self.tone_logits = nn.Parameter(torch.zeros(16))
        self.log_gamma = nn.Parameter(torch.tensor([math.log(config.gamma)]))
        self.sharpening = nn.Parameter(torch.tensor([config.sharpening]))
        binomial = torch.tensor([1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0])
        self.blur_logits = nn.Parameter(binomial.log())
        self.luma: Tensor
        self.register_buffer("luma", torch.tensor(LUMA))

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """{"gain": (B, 3)}: exposure times white balance, in linear RGB after the colour matrix.

        With `smooth_colors` also "noise" (B, 3): variance of what differs from the luma, after the
        gain. With `parity` all values of the stages, see `PublishedStages.predict`.
        """
        if self.published is not None:
            return self.published.predict(x.shape[0])
        else:  # noqa: RET505 - TorchScript compiles one branch of these two
            gain = self._gain(x)
            parameters = {"gain": gain}
            if self.smooth_colors:
                parameters["noise"] = self._noise(x, gain)
            return parameters

    def _gain(self, x: Tensor) -> Tensor:
        """(B, 3): the learned gains times what the thumbnail asks for."""
        gain = torch.exp(self.log_gain).unsqueeze(0).repeat(x.shape[0], 1)
        if self.exposure_percentile > 0.0 or self.grey_world:
            thumbnail = cell_averages(x.float(), self.thumbnail)
            cells = torch.einsum("ij,bjn->bin", self.color_matrix.float(), thumbnail.flatten(2))
            if self.grey_world:
                gain = gain * self._neutralising_gain(cells)
            if self.exposure_percentile > 0.0:
                gain = gain * self._exposure_gain(cells * gain.unsqueeze(2))
        return gain

    def _luma(self, rgb: Tensor) -> Tensor:
        """(B, n) from (B, 3, n)."""
        return (rgb * self.luma.view(1, 3, 1)).sum(dim=1)

    def _neutralising_gain(self, cells: Tensor) -> Tensor:
        """Grey world over the mid-tones: lamps and sheer black say little of the scene's light.

        (B, 3) from (B, 3, n); the gains keep the mid-tones' luma.
        """
        luma = self._luma(cells)
        count = luma.shape[1]
        ordered = luma.sort(dim=1)[0]
        low = ordered[:, int(0.25 * (count - 1))].unsqueeze(1)
        high = ordered[:, int(0.95 * (count - 1))].unsqueeze(1)
        chosen = ((luma >= low) & (luma <= high)).to(cells.dtype).unsqueeze(1)
        mean = (cells * chosen).sum(dim=2) / chosen.sum(dim=2)
        floor = 1e-6
        neutral = (mean * self.luma.unsqueeze(0)).sum(dim=1, keepdim=True).clamp(min=floor)
        gain = neutral / mean.clamp(min=floor)
        return gain.clamp(1.0 / self.balance_limit, self.balance_limit)

    def _exposure_gain(self, cells: Tensor) -> Tensor:
        """(B, 1): what brings the percentile of the luma to the target."""
        ordered = self._luma(cells).sort(dim=1)[0]
        at = int(self.exposure_percentile * (ordered.shape[1] - 1) + 0.5)
        level = ordered[:, at : at + 1].clamp(min=1e-6)
        return (self.exposure_target / level).clamp(self.lowest_exposure, self.exposure_limit)

    def _noise(self, x: Tensor, gain: Tensor) -> Tensor:
        """(B, 3) from the median difference of neighbours, which edges hardly change."""
        rows = x[:, :, :: self.noise_step].float()
        apart = (rows[:, :, :, 1:] - rows[:, :, :, :-1]).flatten(2)
        matrix = gain.unsqueeze(2) * self.color_matrix.float().unsqueeze(0)
        rgb = torch.bmm(matrix, apart)
        chroma = (rgb - self._luma(rgb).unsqueeze(1)).abs()
        middle = chroma.sort(dim=2)[0][:, :, chroma.shape[2] // 2]
        return middle * middle / self.median_of_differences

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """Gain, colour matrix, desaturation, tone, gamma, sharpening, in this order."""
        if self.published is not None:
            return self.published(x, parameters)  # type: ignore[no-any-return]
        else:  # noqa: RET505 - as in `predict`
            noise = parameters["noise"] if self.smooth_colors else parameters["gain"]
            return self._rendered(x, parameters["gain"], noise)

    def _rendered(self, x: Tensor, gain: Tensor, noise: Tensor) -> Tensor:
        """The gain, (B, 3), belongs to RGB, so it is folded into the rows of the colour matrix."""
        matrix = gain.unsqueeze(2) * self.color_matrix.unsqueeze(0)
        # TorchScript skips the outer block as a whole.
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            compiled = self.training and not self.smooth_colors and usable(x)
            if compiled:
                return self._rendered_compiled(x, matrix)
        y = torch.einsum("bij,bjhw->bihw", matrix, x)
        if self.neutral_clip:
            y = self._neutral_where_clipped(x, y)
        if self.smooth_colors:
            y = self._smoothed(y, noise)
        grey = y.mean(dim=1, keepdim=True)
        y = y + self.desaturation * (grey - y)
        y = self._tone(self._roll_off(y))
        y = y.clamp(min=1e-4) ** torch.exp(self.log_gamma)
        return self._sharpen(y)

    def _rendered_compiled(self, x: Tensor, matrix: Tensor) -> Tensor:
        """The same as the rest of `_rendered`, by compiled kernels."""
        steps = torch.softmax(self.tone_logits, dim=0)
        knots = functional.pad(torch.cumsum(steps, dim=0), [1, 0])
        clip = (self.clip_start, self.clip_end) if self.neutral_clip else (0.0, 0.0)
        exponent = torch.exp(self.log_gamma)
        y = Encode.apply(x, matrix, self.desaturation, knots, steps, exponent, clip, self.shoulder)
        blur = torch.softmax(self.blur_logits, dim=0).view(3, 3)
        sharpened: Tensor = Sharpen.apply(y, self.sharpening, blur)
        return sharpened

    def _neutral_where_clipped(self, x: Tensor, y: Tensor) -> Tensor:
        """Fades `y` to its own brightest channel where `x` comes near the sensor's white."""
        level = x.amax(dim=1, keepdim=True)
        clipped = ((level - self.clip_start) / (self.clip_end - self.clip_start)).clamp(0.0, 1.0)
        return y + clipped * (y.amax(dim=1, keepdim=True) - y)

    def _smoothed(self, y: Tensor, noise: Tensor) -> Tensor:
        """What differs from the luma, as local means and what differs from these, each times the
        share that is no noise (the local Wiener filter of Lee, PAMI 1980), judged over the channels
        together."""
        luma = (y * self.luma.view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        chroma = y - luma
        mean = self._averaged(chroma)
        apart = chroma - mean
        scale = 1.0 / (noise.unsqueeze(2).unsqueeze(3) + 1e-12)
        # Both are 1 where there is nothing but noise.
        pixels = float((2 * self.radius + 1) ** 2)
        of_mean = (mean * mean * scale).mean(dim=1, keepdim=True) * pixels
        of_apart = self._averaged((apart * apart * scale).mean(dim=1, keepdim=True))
        mean = mean * self._beyond_noise(of_mean)
        return luma + mean + apart * self._beyond_noise(of_apart)

    def _beyond_noise(self, ratio: Tensor) -> Tensor:
        """1 - 3 / ratio, at least 0: up to three times its variance may be noise."""
        return 1.0 - 3.0 / ratio.clamp(min=3.0)

    def _averaged(self, y: Tensor) -> Tensor:
        """Over (2 radius + 1) squared pixels, edges repeated."""
        r = self.radius
        padded = functional.pad(y, [r, r, r, r], mode="replicate")
        return functional.avg_pool2d(padded, 2 * r + 1, stride=1)

    def _roll_off(self, y: Tensor) -> Tensor:
        """Into [0, 1]: the identity up to the shoulder, then an exponential approach to 1."""
        y = y.clamp(min=0.0)
        if self.shoulder >= 1.0:
            return y.clamp(max=1.0)
        room = 1.0 - self.shoulder
        over = (y - self.shoulder).clamp(min=0.0)
        return torch.where(y > self.shoulder, 1.0 - room * torch.exp(-over / room), y)

    def _tone(self, y: Tensor) -> Tensor:
        """Piecewise linear through (k / 16, v_k): v_0 = 0, v the cumulative softmax of logits."""
        steps = torch.softmax(self.tone_logits, dim=0)
        knots = functional.pad(torch.cumsum(steps, dim=0), [1, 0])
        position = y * 16.0
        # Cut as an integer: NaN then stays NaN, and is no index out of range.
        index = position.detach().floor().long().clamp(0, 15)
        return knots[index] + (position - index.to(y.dtype)) * steps[index]

    def _sharpen(self, y: Tensor) -> Tensor:
        """y + strength (y - blur(y)), the blur with edge padding; skipped at strength zero."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            skip = not self.training and bool(self.sharpening == 0.0)
        else:  # torch.export cannot branch on a value
            skip = not self.training and not torch.compiler.is_exporting()
            skip = skip and bool(self.sharpening == 0.0)
        if skip:
            return y
        kernel = torch.softmax(self.blur_logits, dim=0).view(1, 1, 3, 3).repeat(3, 1, 1, 1)
        padded = functional.pad(y, [1, 1, 1, 1], mode="replicate")
        return y + self.sharpening * (y - functional.conv2d(padded, kernel, groups=3))
