"""RAW-Adapter's input level: a classical ISP with predicted operators (Cui and Harada, ECCV 2024).

Two predictors look at the whole image: four (conv 3x3 stride 2, BatchNorm) with GELU after the
first three, 3-8-16-32-64 channels; learned queries attend to the tokens at 1/16 (one head, scale
1/8), and one linear layer gives a number o_q per query.

    P_K (4 queries)   r1 = 3 + 0.1 o_1, r2 = 2 + 0.1 o_2, gain = base + o_3, sigma = sigmoid(o_4)
    P_M (10 queries)  CCM = I + 0.1 (o_1 ... o_9), rho = 1 + ReLU(o_10), from I2

    I1 = input; G = Gaussian blur of gain I1, k x k, deviations r1 along x and r2 along y, reflected
    I2 = cut(G + sigma (gain I1 - G), 1e-5, 1)
    I3 = I2 ||I2||_rho / ||I2_c||_rho, per channel (shades of grey), ||.||_rho Minkowski means
    I4 = cut(CCM I3, 1e-5, 1)
    I5 = I4 + MLP(I4) per pixel: 3-32 ReLU, 3 x (32-32 Tanh), 32-3 (NILUT)

Parameters: P_K 37,572, P_M 37,962, NILUT 3,395; together 78,929, or 75,534 without NILUT. The model
level, which merges I1 to I4 into the detector's stages, belongs to the detector and is not here.

Published defects, and what we do instead:
- I2 takes its detail from I1 without the gain, so that sigma near 1 cancels the gain. Here the
  detail has the gain; `detail_gain=False` is the published formula.
- The setting "low", with a gain base of 3, is compared with a dict and thus never in force. Here
  `light` is a plain word that is checked.
- (mean of x^rho)^(1/rho) underflows for large rho, with an infinite gradient. Here the largest x is
  taken out first, which changes nothing else. Deviations are kept from 0.1 up.
- Freezing the detector's BatchNorm also froze the random ones of the adapter: a matter of the
  training loop, which must leave this module out.
- I5 is cut to [0, 1]; here, as everywhere, in eval mode only, so that gradients live in training.
- Samples are rendered in a Python loop; here all at once.

There is no gamma stage: the start "plain" brings each channel to the same mean and otherwise keeps
the picture linear (gain 1, sigma 1/2, CCM and NILUT the identity).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rawisp.isp.base import Isp

DIM = 64


@dataclass(frozen=True)
class RawAdapterConfig:
    """The settings of RAW-Adapter's input level.

    kernel: size of the blur, odd; 3, or 9 on LOD. light: "normal" (gain base 1, learned) or "low"
    (3, fixed). lut: whether NILUT ends the pipeline. detail_gain: whether I2's detail has the gain.
    floor: the least value of I2 and I4. init: "plain" or "paper" (PyTorch's random start, queries
    uniform in [0, 1)).
    """

    kernel: int = 3
    light: str = "normal"
    lut: bool = True
    detail_gain: bool = True
    floor: float = 1e-5
    init: str = "plain"


class Predictor(nn.Module):
    """(B, queries) numbers from an image."""

    def __init__(self, queries: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for narrow, wide in ((3, 8), (8, 16), (16, 32), (32, DIM)):
            layers += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.BatchNorm2d(wide)]
            layers += [nn.GELU()] if wide < DIM else []
        self.trunk = nn.Sequential(*layers)
        self.queries = nn.Parameter(torch.rand(queries, DIM))
        self.key, self.value = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        self.project = nn.Linear(DIM, DIM)
        self.head = nn.Linear(DIM, 1)
        self.scale = 1.0 / math.sqrt(DIM)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.trunk(x).flatten(2).transpose(1, 2)  # (B, n, 64)
        scores = torch.matmul(self.queries, self.key(tokens).transpose(1, 2)) * self.scale
        seen = torch.matmul(torch.softmax(scores, dim=2), self.value(tokens))  # (B, queries, 64)
        return self.head(self.project(seen)).squeeze(2).to(x.dtype)  # type: ignore[no-any-return]


class KernelPredictor(Predictor):
    """P_K: the blur's deviations, the gain, and how much detail remains."""

    def __init__(self, light: str) -> None:
        super().__init__(4)
        self.base_deviations = nn.Parameter(torch.tensor([3.0, 2.0]), requires_grad=False)
        base = 3.0 if light == "low" else 1.0
        self.base_gain = nn.Parameter(torch.tensor([base]), requires_grad=light != "low")

    def operators(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Deviations (B, 2) along x and y, gain (B, 1), sigma (B, 1)."""
        out = self.forward(x)
        deviations = (self.base_deviations + 0.1 * out[:, :2]).clamp(min=0.1)
        return deviations, self.base_gain + out[:, 2:3], torch.sigmoid(out[:, 3:4])


class MatrixPredictor(Predictor):
    """P_M: the colour matrix and the exponent of the Minkowski means."""

    def __init__(self) -> None:
        super().__init__(10)
        self.base_matrix = nn.Parameter(torch.eye(3), requires_grad=False)

    def operators(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The matrix (B, 3, 3), rho (B, 1)."""
        out = self.forward(x)
        matrix = self.base_matrix + 0.1 * out[:, :9].reshape(-1, 3, 3)
        return matrix, 1.0 + torch.relu(out[:, 9:10])


def minkowski_mean(x: Tensor, rho: Tensor) -> Tensor:
    """(mean of x^rho)^(1/rho) over the last dimension, for x > 0; rho broadcasts against it."""
    peak = x.amax(dim=-1, keepdim=True)
    return peak * ((x / peak) ** rho).mean(dim=-1, keepdim=True) ** (1.0 / rho)


def reflected(count: int, pad: int, device: torch.device) -> Tensor:
    """Indices that extend 0 ... count - 1 by `pad` on both sides, mirrored at the border samples.

    Like padding of mode "reflect", and for any size: what is too small is mirrored repeatedly.
    """
    period = max(2 * (count - 1), 1)
    at = torch.arange(-pad, count + pad, device=device)
    at = at - torch.div(at, period, rounding_mode="floor") * period  # the remainder, for ONNX
    return torch.where(at < count, at, period - at)


def gaussian_taps(deviation: Tensor, size: int) -> Tensor:
    """(B, size) from (B): a sampled Gaussian that sums to 1."""
    at = torch.arange(size, device=deviation.device, dtype=deviation.dtype) - float(size // 2)
    taps = torch.exp(-0.5 * (at.unsqueeze(0) / deviation.unsqueeze(1)) ** 2)
    return taps / taps.sum(dim=1, keepdim=True)


class RawAdapterIsp(Isp):
    """Gain and blur, white balance, colour matrix, and a small network per pixel.

    Input: linear, 0 black and 1 white, any three channels. Any height and width from 1 up; in
    training mode with more than 16 pixels on a side, or more than one image, for the batch norms.
    """

    name = "raw-adapter"
    Config = RawAdapterConfig

    def __init__(self, config: RawAdapterConfig | None = None) -> None:
        super().__init__()
        config = config or RawAdapterConfig()
        if config.init not in ("plain", "paper"):
            raise ValueError(f"init is {config.init!r}; there are plain and paper")
        if config.light not in ("normal", "low"):
            raise ValueError(f"light is {config.light!r}; there are normal and low")
        if config.kernel < 1 or config.kernel % 2 == 0:
            raise ValueError(f"kernel is {config.kernel}; it must be odd")
        if not 0.0 < config.floor < 1.0:
            raise ValueError(f"floor is {config.floor}; it must be between 0 and 1")
        self.config = config
        self.kernel, self.floor = config.kernel, float(config.floor)
        self.detail_gain, self.has_lut = config.detail_gain, config.lut
        self.halo = config.kernel // 2
        self.kernel_predictor = KernelPredictor(config.light)
        self.matrix_predictor = MatrixPredictor()
        self.lut = nn.Sequential()
        if config.lut:
            self.lut.extend([nn.Conv2d(3, 32, 1), nn.ReLU()])
            for _ in range(3):
                self.lut.extend([nn.Conv2d(32, 32, 1), nn.Tanh()])
            self.lut.append(nn.Conv2d(32, 3, 1))
        if config.init == "plain":
            self._start_plain()

    def _start_plain(self) -> None:
        """Predictors say 0 to every query, and NILUT adds nothing."""
        last: list[nn.Module] = [self.kernel_predictor.head, self.matrix_predictor.head]
        last += [self.lut[-1]] if self.has_lut else []
        for layer in last:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """P_K's and P_M's operators, and the gains (B, 3) of the white balance.

        P_M and the white balance look at I2, so I2 is computed here, and again in `apply`.
        """
        deviations, gain, sigma = self.kernel_predictor.operators(x)
        parameters = {"deviations": deviations, "gain": gain, "sigma": sigma}
        denoised = self._denoised(x, parameters)
        matrix, rho = self.matrix_predictor.operators(denoised)
        whole = minkowski_mean(denoised.flatten(1), rho)  # (B, 1)
        each = minkowski_mean(denoised.flatten(2), rho.unsqueeze(2)).squeeze(2)  # (B, 3)
        parameters["balance"] = whole / each
        parameters["matrix"] = matrix
        parameters["rho"] = rho
        return parameters

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """I2, white balance, colour matrix, NILUT. The balance belongs to the matrix's columns."""
        matrix = parameters["matrix"] * parameters["balance"].unsqueeze(1)
        y = self._denoised(x, parameters)
        # Sums of planes and not einsum, which autocast would do in half precision.
        columns = matrix.unsqueeze(3).unsqueeze(4)  # (B, 3 out, 3 in, 1, 1)
        y = (
            columns[:, :, 0] * y[:, 0:1]
            + columns[:, :, 1] * y[:, 1:2]
            + columns[:, :, 2] * y[:, 2:]
        )
        y = y.clamp(self.floor, 1.0)
        return y + self.lut(y) if self.has_lut else y

    def _denoised(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """I2, from the image and P_K's operators."""
        gain = parameters["gain"].unsqueeze(2).unsqueeze(3)
        sigma = parameters["sigma"].unsqueeze(2).unsqueeze(3)
        bright = gain * x
        smooth = self._blurred(bright, parameters["deviations"])
        detail = bright if self.detail_gain else x
        return (smooth + sigma * (detail - smooth)).clamp(self.floor, 1.0)

    def _blurred(self, x: Tensor, deviations: Tensor) -> Tensor:
        """The separable Gaussian, each image with its own, as sums of shifted planes."""
        height, width = x.shape[2], x.shape[3]
        pad = self.kernel // 2
        along_x = gaussian_taps(deviations[:, 0], self.kernel).view(-1, self.kernel, 1, 1, 1)
        along_y = gaussian_taps(deviations[:, 1], self.kernel).view(-1, self.kernel, 1, 1, 1)
        wide = x.index_select(3, reflected(width, pad, x.device))
        y = along_x[:, 0] * wide[:, :, :, :width]
        for i in range(1, self.kernel):
            y = y + along_x[:, i] * wide[:, :, :, i : i + width]
        tall = y.index_select(2, reflected(height, pad, x.device))
        y = along_y[:, 0] * tall[:, :, :height]
        for i in range(1, self.kernel):
            y = y + along_y[:, i] * tall[:, :, i : i + height]
        return y
