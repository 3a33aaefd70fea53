"""What people use today, as ISPs without parameters to learn: the baselines of every table.

`classic` is a fixed pipeline with constants set by hand; `rawpy-default` is what LibRaw makes of a
file when nobody gives it an option, written for packed XYZ.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from rawisp.color import LINEAR_SRGB_FROM_XYZ
from rawisp.isp.base import Isp
from rawisp.isp.staged import StagedConfig, StagedIsp

# BT.709 with the exact constants that LibRaw's gamma_curve(1 / 2.222, 4.5) solves for: a line of
# slope 4.5 up to LINEAR_UNTIL, then (1 + OFFSET) r^POWER - OFFSET, equal in value and slope there.
POWER, SLOPE = 1 / 2.222, 4.5
LINEAR_UNTIL, OFFSET = 0.01805015569378791, 0.09925780616013971


@dataclass(frozen=True)
class ClassicConfig(StagedConfig):
    """`StagedConfig` with constants set by hand for night photographs."""

    exposure_percentile: float = 0.75
    exposure_target: float = 0.20
    grey_world: bool = True
    balance_limit: float = 2.5
    saturation: float = 1.15
    shoulder: float = 0.6
    neutral_clip: bool = True
    exposure_floor: float = 1.0
    smooth_colors: bool = True


class ClassicIsp(StagedIsp):
    """A fixed pipeline: percentile exposure, grey world, colour noise smoothed, sRGB-like curve.

    The stages of `staged`, whose numbers are constants here. To learn from this start:
    `create_isp("staged", **classic_settings())`.
    """

    name = "classic"
    Config = ClassicConfig

    def __init__(self, config: ClassicConfig | None = None) -> None:
        super().__init__(config or ClassicConfig())
        for name, parameter in list(self.named_parameters()):
            delattr(self, name)
            self.register_buffer(name, parameter.detach())


def classic_settings() -> dict[str, object]:
    """The constants of `classic`, as JSON values."""
    return asdict(ClassicConfig())


@dataclass(frozen=True)
class DemosaicConfig:
    """No settings."""


class DemosaicIsp(Isp):
    """Nothing but the packing: the linear image as it is, the first row of many tables.

    Input: linear, any three channels. Output: the same, cut to [0, 1] in eval mode.
    """

    name = "demosaic"
    Config = DemosaicConfig
    halo = 0

    def __init__(self, config: DemosaicConfig | None = None) -> None:
        super().__init__()
        self.config = config or DemosaicConfig()

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Nothing."""
        empty: dict[str, Tensor] = {}
        return empty

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """x."""
        return x


@dataclass(frozen=True)
class RawpyDefaultConfig:
    """LibRaw's options of that name.

    auto_bright_share: the share of pixels that may be clipped, 0.01. clip_level: the Y of a neutral
    at which the most sensitive channel clips, min(pre_mul) in LibRaw's terms: 0.935 for the Sony
    RX100M7 and 0.936 for the Nikon D750 (their daylight multipliers); it only matters where more
    than that share of a picture is clipped by the sensor.
    """

    auto_bright_share: float = 0.01
    clip_level: float = 0.935

    def __post_init__(self) -> None:
        if not 0.0 <= self.auto_bright_share < 1.0:
            raise ValueError(f"auto_bright_share is {self.auto_bright_share}; 0 <= share < 1")
        if self.clip_level <= 0.0:
            raise ValueError(f"clip_level is {self.clip_level}; it is positive")


class RawpyDefaultIsp(Isp):
    """LibRaw's rendering with default options: daylight white balance, auto brightness, BT.709.

    Input: XYZ, scene-referred (daylight balance and matrix are then XYZ to linear sRGB). Output:
    BT.709-encoded sRGB. As rawpy's `postprocess(half_size=True)`, but that channels are not cut
    between white balance and matrix, which shows in clipped lamps only; and as `postprocess()` at
    full size but for the demosaicing.
    """

    name = "rawpy-default"
    Config = RawpyDefaultConfig
    halo = 0

    def __init__(self, config: RawpyDefaultConfig | None = None) -> None:
        super().__init__()
        self.config = config or RawpyDefaultConfig()
        self.share_in_millionths = round(self.config.auto_bright_share * 1e6)
        self.power, self.slope = POWER, SLOPE
        self.linear_until, self.offset = LINEAR_UNTIL, OFFSET
        self.matrix: Tensor
        matrix = torch.tensor(LINEAR_SRGB_FROM_XYZ / self.config.clip_level, dtype=torch.float32)
        self.register_buffer("matrix", matrix)

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """{"white": (B, 1)}: the linear level that becomes white, the same for all channels.

        LibRaw counts 16-bit values in bins of 8 and takes, of the channels' levels above which the
        share lies, the largest; never below bin 32.
        """
        levels = self._linear(x).flatten(2).sort(dim=2, descending=True)[0]
        at = levels.shape[2] * self.share_in_millionths // 1_000_000
        level = levels[:, :, at].amax(dim=1, keepdim=True)
        bins = torch.floor(level * (65535.0 / 8.0)).clamp(32.0, 8191.0)
        return {"white": bins * (8.0 / 65535.0)}

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """The linear picture over its white, encoded."""
        y = self._linear(x) / parameters["white"].unsqueeze(2).unsqueeze(3)
        y = y.clamp(0.0, 1.0)
        curved = y.clamp(min=self.linear_until) ** self.power * (1.0 + self.offset) - self.offset
        return torch.where(y < self.linear_until, y * self.slope, curved)

    def _linear(self, x: Tensor) -> Tensor:
        """Linear sRGB in [0, 1], 1 where LibRaw's 16 bits end; float32 also under autocast."""
        y = (self.matrix.view(1, 3, 3, 1, 1) * x.float().unsqueeze(1)).sum(dim=2)
        return y.clamp(0.0, 1.0)
