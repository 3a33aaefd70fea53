"""SimROD: gammas and a tiny network that gives the green channel its own branch (AAAI 2026).

    y = 255 x^(1 / gamma_c) on R, G1, G2, B; gamma_c = 7 + 3.5 (tanh(b_c) + 1) / 2, b_c learned
    A = block_4(y), B = block_2(G1, G2 of y)
    output = conv 1x1 32->3 of concat(A, A + B)

with block_n = conv 3x3 n->8, BatchNorm, LeakyReLU, conv 3x3 8->16, BatchNorm, LeakyReLU. The input
has three channels here, so G1 = G2 = G. 2,983 parameters. Everything is learned once for all
images: `predict` looks at nothing.

Published defects, and what we do instead:
- The power is undefined below zero and has no finite slope at it: here a smooth floor
  (`rawisp.isp.baselines.diap.smooth_power`). `floor=0` is the published power of x cut at 0.
- Fresh batch norms (mean 0, variance 1) let values around 150 through to random convolutions: the
  start "plain" has running statistics that fit such values, and passes the picture on unchanged,
  x^(1/8.75) in eval mode, the same standardised per channel while training.

BatchNorm mixes the images of a batch while training. The paper's slope of LeakyReLU is not known
to us; 0.01 is PyTorch's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rawisp.isp.base import Isp
from rawisp.isp.baselines.powers import check_gamma_settings, smooth_power

SLOPE = 0.01


@dataclass(frozen=True)
class SimrodConfig:
    """The settings of SimROD.

    gamma_low, gamma_high: the range of the gammas. floor: half a step of the sensor, in units of
    its white level, for the smooth power (2^-15 for 14 bits, 2^-25 for 24-bit HDR); 0 for the
    published power. init: "plain" or "paper" (PyTorch's random start everywhere but the gammas,
    which always begin amid their range).
    """

    gamma_low: float = 7.0
    gamma_high: float = 10.5
    floor: float = 2.0**-15
    init: str = "plain"


def block(channels: int) -> nn.Sequential:
    """Two 3x3 convolutions to 8 and 16 channels, each with BatchNorm and LeakyReLU."""
    return nn.Sequential(
        *(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.LeakyReLU(SLOPE)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.LeakyReLU(SLOPE)),
    )


class SimrodIsp(Isp):
    """Global gammas, then two small branches.

    Input: linear R, G, B, 0 black and 1 white. Any height and width from 1 up.
    """

    name = "simrod"
    Config = SimrodConfig
    halo = 2  # two 3x3 convolutions

    def __init__(self, config: SimrodConfig | None = None) -> None:
        super().__init__()
        config = config or SimrodConfig()
        check_gamma_settings(config.init, config.gamma_low, config.gamma_high)
        self.config = config
        # JSON may say 7 for 7.0; TorchScript minds.
        self.gamma_low, self.gamma_high = float(config.gamma_low), float(config.gamma_high)
        self.floor = float(config.floor)
        self.gamma = nn.Parameter(torch.zeros(4))  # b of R, G1, G2, B
        self.all_channels = block(4)
        self.green = block(2)
        self.out = nn.Conv2d(32, 3, 1)
        if config.init == "plain":
            self._start_plain()

    def _start_plain(self) -> None:
        """Passes R, the mean of the greens, and B on; what is not needed stays random, unused.

        LeakyReLU(v) - LeakyReLU(-v) = (1 + slope) v, so two units carry one channel: in [0, 255],
        then with mean 127.5 and deviation 63.75 taken to 0 and 1, then back in [0, 1].
        """
        carry = 1.0 / (1.0 + SLOPE)
        values = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        first, second = values["all_channels.0.weight"], values["all_channels.3.weight"]
        mean = values["all_channels.1.running_mean"]
        with torch.no_grad():
            values["all_channels.1.running_var"].fill_(63.75**2)
            values["green.1.running_var"].fill_(63.75**2)
            for layer, units in (("all_channels.0", 6), ("all_channels.3", 6), ("out", 3)):
                values[f"{layer}.weight"][:units] = 0.0
                values[f"{layer}.bias"][:units] = 0.0
            for channel, sources in enumerate(((0,), (1, 2), (3,))):
                a, b = 2 * channel, 2 * channel + 1
                for unit, sign in ((a, 1.0), (b, -1.0)):
                    first[unit, list(sources), 1, 1] = sign / len(sources)
                    mean[unit] = sign * 127.5
                    second[unit, a, 1, 1], second[unit, b, 1, 1] = sign * carry, -sign * carry
                    values["out.weight"][channel, unit] = 0.25 * sign * carry
                values["out.bias"][channel] = 0.5

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """{"gamma": (B, 4)}, of R, G1, G2 and B; the same for every image."""
        span = self.gamma_high - self.gamma_low
        gamma = self.gamma_low + span * (torch.tanh(self.gamma) + 1.0) / 2.0
        return {"gamma": gamma.unsqueeze(0).repeat(x.shape[0], 1)}

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """Gammas, the two branches, and their sum of sums."""
        mosaic = torch.stack([x[:, 0], x[:, 1], x[:, 1], x[:, 2]], dim=1)
        exponent = (1.0 / parameters["gamma"]).unsqueeze(2).unsqueeze(3)
        y = 255.0 * smooth_power(mosaic, exponent, self.floor)
        a = self.all_channels(y)
        b = self.green(y[:, 1:3])
        return self.out(torch.cat([a, a + b], dim=1))  # type: ignore[no-any-return]
