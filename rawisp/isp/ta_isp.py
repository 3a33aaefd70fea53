"""TA-ISP: gain per channel, spatial attention, and a per-pixel mixture of gamma curves.

After the formulas of "TA-ISP", a task-aware ISP of 3,297 parameters (released code of 2026-03). Per
image, C = 3 channels, K = 16 masks, floor f = 1e-6:

    GLC    g = 1 + softplus(MLP(mean_c, variance_c))          one gain per channel, from `predict`
           Xg = clamp(g X, f, 1)
    HSA    P = (channel mean, channel maximum) of Xg
           A = s_0 sigmoid(Conv3x3(P)) + s_1 sigmoid(Conv5x5(P)),  s = softmax(Linear(mean of Xg))
           Xs = clamp(A Xg, f, 1)
    RGFC   L = Conv3x3(Xs), K logits per pixel;  q = MLP(spatial mean of L)
           w_k = w_min + (w_max - w_min) sigmoid(q_k)         K weights per image, from `predict`
           Y = sum_k M_k clamp(Xs^(1 / w_k), f, 1),  M from L

What the released code does otherwise, and what we do:

- M is a Gumbel softmax of temperature 0.1 with fresh noise per pixel and mask, at inference too: a
  picture and its boxes change from run to run, by 10 to 30 of 255 levels. Here `mode` chooses.
  "mean", the default, is the softmax of L at temperature 1: as the temperature of the sampling goes
  to 0 a sample is one-hot with these probabilities, so this is its mean. A softmax at 0.1 ("sharp")
  or the largest logit ("hard") are not; "noise" is the reference's behaviour.
- The weight range is a constant of the program, and another one for each experiment ([2, 4] for
  LOD, [1, 4] or [2, 4] for PASCAL RAW, [1, 3] for ADE20K-RAW, [5, 9] for ROD), so that a checkpoint
  renders differently under another. Here it is part of the configuration.
- Padding enters the statistics, and so does the rest of the batch. Not so here (`valid`).
- K x 3 planes of curves are kept, about 4.6 GB for a 4K frame. Here they are summed up one by one,
  and the mean of L, which is linear in Xs, is found from nine sums without L.
- It runs in half precision under autocast, where 1e-6 is subnormal. Here all is float32; a scripted
  module under autocast computes its convolutions in half precision, as TorchScript cannot leave it.

The floor makes a pedestal of black: 0.001 at w = 2, 0.2 at w = 9.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rawisp.isp.base import Isp
from rawisp.isp.row_statistics import combined_rows

MODES = ("mean", "sharp", "hard", "noise")


@dataclass(frozen=True)
class TaIspConfig:
    """The constants of TA-ISP, which its checkpoints do not hold.

    mode: how the masks come from their logits: "mean" softmax; "sharp" softmax of temperature tau;
    "hard" the largest one, which gives the mask head no gradient; "noise" Gumbel softmax of
    temperature tau, for comparison with the reference only: noise cannot be the same in tiles.
    w_min, w_max: the range of the weights; pixels are raised to 1 / w. tau: temperature, 0.1.
    masks: K, 16. floor: the smallest value after each step, 1e-6. hidden: width of both MLPs, 64.
    in_channels: 3, or 4 for (R, G1, G2, B), whose greens are averaged at the end. seed: of the
    noise, the same for every image and call; negative: the global generator's, fresh at each call.
    """

    mode: str = "mean"
    w_min: float = 1.0
    w_max: float = 3.0
    tau: float = 0.1
    masks: int = 16
    floor: float = 1e-6
    hidden: int = 64
    in_channels: int = 3
    seed: int = -1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}; it can be {', '.join(MODES)}")
        if not 0.0 < self.w_min <= self.w_max:
            raise ValueError(f"w_min, w_max are {self.w_min}, {self.w_max}; 0 < w_min <= w_max")
        if not 0.0 < self.floor < 1.0:
            raise ValueError(f"floor is {self.floor}; it lies between 0 and 1")
        if self.tau <= 0.0:
            raise ValueError(f"tau is {self.tau}; it is positive")
        if self.in_channels not in (3, 4):
            raise ValueError(f"in_channels is {self.in_channels}; it can be 3 or 4")


class TaIsp(Isp):
    """Gain, attention and a mixture of gamma curves: 3,297 parameters; 3,636 with four channels.

    Input: linear, 0 black, 1 white, demosaiced or binned. The gains are 1 or more, so values above
    1 are lost. Output: in [floor, 1], in training as well. Any height and width from 1 up; images
    of a batch do not influence each other. In mode "hard" a pixel with two equally large logits can
    take either, so that tiles may differ from the whole at such pixels.
    """

    name = "ta-isp"
    Config = TaIspConfig
    halo = 3  # 5x5, then 3x3

    def __init__(self, config: TaIspConfig | None = None) -> None:
        super().__init__()
        config = config or TaIspConfig()
        self.config = config
        self.mode = config.mode
        self.w_min, self.w_max = config.w_min, config.w_max
        self.tau, self.floor, self.seed = config.tau, config.floor, config.seed
        self.in_channels = config.in_channels
        channels, hidden, masks = config.in_channels, config.hidden, config.masks
        self.gain_mlp = nn.Sequential(
            nn.Linear(2 * channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )
        self.attention3 = nn.Conv2d(2, 1, 3, padding=1)
        self.attention5 = nn.Conv2d(2, 1, 5, padding=2)
        self.gate = nn.Linear(channels, 2)
        self.mask_head = nn.Conv2d(channels, masks, 3, padding=1)
        self.weight_mlp = nn.Sequential(
            nn.Linear(masks, hidden), nn.ReLU(), nn.Linear(hidden, masks)
        )

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """{"gain": (B, C), "gate": (B, 2), "weight": (B, K)}, in float32 also under autocast."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self._predicted(x.float())
        else:  # noqa: RET505 - TorchScript compiles one branch of these two
            with torch.autocast(x.device.type, enabled=False):
                return self._predicted(x.float())

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """Gain, attention and mixture; K curves are summed up one after the other."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self._rendered(x.float(), parameters)
        else:  # noqa: RET505
            with torch.autocast(x.device.type, enabled=False):
                return self._rendered(x.float(), parameters)

    def _predicted(self, x: Tensor) -> dict[str, Tensor]:
        variances, means = torch.var_mean(x, dim=[3], unbiased=False)
        mean, variance = combined_rows(means, variances)
        gain = 1.0 + functional.softplus(self.gain_mlp(torch.cat([mean, variance], dim=1)).float())
        bright = self._brightened(x, gain)
        rows = bright.mean(dim=3)
        level = combined_rows(rows, torch.zeros_like(rows))[0]
        gate = torch.softmax(self.gate(level).float(), dim=1)
        logits = self.pooled_logits(self._attended(bright, gate))
        weight = torch.sigmoid(self.weight_mlp(logits).float())
        return {
            "gain": gain,
            "gate": gate,
            "weight": self.w_min + (self.w_max - self.w_min) * weight,
        }

    def _brightened(self, x: Tensor, gain: Tensor) -> Tensor:
        """Xg; negative values end on the floor."""
        return torch.clamp(gain.unsqueeze(2).unsqueeze(3) * x, self.floor, 1.0)

    def _attended(self, bright: Tensor, gate: Tensor) -> Tensor:
        """Xs: one attention map for all channels, a convex mixture of two sigmoids."""
        pooled = torch.cat(
            [bright.mean(dim=1, keepdim=True), bright.amax(dim=1, keepdim=True)], dim=1
        )
        near = torch.sigmoid(self.attention3(pooled).float())
        far = torch.sigmoid(self.attention5(pooled).float())
        share = gate.unsqueeze(2).unsqueeze(3)
        attention = share[:, 0:1] * near + share[:, 1:2] * far
        return torch.clamp(bright * attention, self.floor, 1.0)

    def pooled_logits(self, attended: Tensor) -> Tensor:
        """The spatial mean of the mask head's output, (B, K), without that output.

        l_k = bias_k + sum_cij weight_kcij S_cij / (H W). S_cij is the sum of the channel shifted by
        (i, j) under zero padding: of all pixels, less the row and the column that the shift moves
        out of the image, plus the corner that both have.
        """
        wide = torch.float32 if attended.device.type == "mps" else torch.float64
        rows = attended.sum(dim=3).to(wide)  # (B, C, H)
        nothing = torch.zeros_like(rows[:, :, 0])
        total = rows.sum(dim=2)
        # The row that the kernel's rows -1, 0, 1 miss: the last, none, the first. Columns likewise.
        missed_rows = torch.stack([rows[:, :, -1], nothing, rows[:, :, 0]], dim=2)
        left = attended[:, :, :, 0].to(wide)
        right = attended[:, :, :, -1].to(wide)
        missed_columns = torch.stack([right.sum(dim=2), nothing, left.sum(dim=2)], dim=2)
        of_last = torch.stack([right[:, :, -1], nothing, left[:, :, -1]], dim=2)
        of_first = torch.stack([right[:, :, 0], nothing, left[:, :, 0]], dim=2)
        corners = torch.stack([of_last, torch.zeros_like(of_last), of_first], dim=2)
        sums = (
            total.unsqueeze(2).unsqueeze(3)
            - missed_rows.unsqueeze(3)
            - missed_columns.unsqueeze(2)
            + corners
        )
        means = sums / attended.shape[2] / attended.shape[3]
        weight = self.mask_head.weight.to(wide).unsqueeze(0)
        logits = (weight * means.unsqueeze(1)).sum(dim=[2, 3, 4]).float()
        bias = self.mask_head.bias
        return logits if bias is None else logits + bias

    def _rendered(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        attended = self._attended(self._brightened(x, parameters["gain"]), parameters["gate"])
        logits = self.mask_head(attended).float()
        logarithm = torch.log2(attended)
        power = torch.reciprocal(parameters["weight"])  # (B, K)
        if self.mode == "hard":
            at = logits.argmax(dim=1, keepdim=True)  # (B, 1, H, W)
            planes = power.gather(1, at.flatten(1)).view(at.shape)
            y = torch.clamp(torch.exp2(logarithm * planes), self.floor, 1.0)
        else:
            shares = self._shares(logits)
            y = torch.zeros_like(attended)
            for k in range(shares.shape[1]):
                curve = torch.exp2(logarithm * power[:, k].view(-1, 1, 1, 1))
                y = torch.addcmul(y, shares[:, k : k + 1], torch.clamp(curve, self.floor, 1.0))
        if y.shape[1] == 4:
            green = 0.5 * (y[:, 1:2] + y[:, 2:3])
            y = torch.cat([y[:, 0:1], green, y[:, 3:4]], dim=1).clamp(0.0, 1.0)
        return y

    def _shares(self, logits: Tensor) -> Tensor:
        """M, (B, K, H, W), adding up to 1 over the masks."""
        if self.mode == "sharp":
            return torch.softmax(logits / self.tau, dim=1)
        if self.mode == "noise":
            return torch.softmax((logits + self._gumbel(logits)) / self.tau, dim=1)
        return torch.softmax(logits, dim=1)

    def _gumbel(self, logits: Tensor) -> Tensor:
        """Gumbel noise, -log of an exponential variable; with a seed, one field for all images."""
        if self.seed < 0:
            return -torch.log(torch.empty_like(logits).exponential_())
        generator = torch.Generator(device=logits.device)
        generator.manual_seed(self.seed)
        return -torch.log(torch.empty_like(logits[:1]).exponential_(generator=generator))
