"""InvISP: an invertible network from RAW to RGB and back (Xing, Qian and Chen, CVPR 2021).

Each step first mixes the three channels by an invertible matrix W, then couples 1 and 2 of them:

    W = P (lower, unit diagonal) (upper + diag(sign exp(d)))        P, sign fixed; 21 parameters
    y1 = x1 + F(x2);  s = 0.8 (2 sigmoid(H(y1)) - 1);  y2 = x2 exp(s) + G(y1)

F (2->1), G and H (1->2) are dense blocks: five 3x3 convolutions, growth 32, each sees all before
it, LeakyReLU 0.2 after the first four. The inverse runs the steps backwards:

    x2 = (y2 - G(y1)) exp(-s);  x1 = y1 - F(x2);  then W^-1

Parameters: 1,060,320 with 6 steps (TA-ISP's table), 1,413,760 with 8 (the paper), 353,440 with 2
(the ADE20K experiments).

`apply` is local, but looks far: F five pixels, then G and H five more, in every step, so 60 pixels
with 6 steps. A tile has to be much larger than that to be worth it.

Published defects, and what we do instead:
- A last global Xavier start overrides the small one that the blocks were given, so that the fresh
  network is no picture. The start "identity" has no coupling, and as matrices permutations that
  together are the identity, so that channels still take turns. "paper" is Xavier's normal start
  with zero biases (which of Xavier's two is not known to us) and random rotations.
- TA-ISP's wrapper and RAW-Adapter's comparison used it frozen, after grey-world white balance; the
  balance is not part of it, nor is it here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rawisp.isp.base import Isp

GROWTH = 32
REACH = 10  # pixels that one step looks around


@dataclass(frozen=True)
class InvispConfig:
    """The settings of InvISP.

    steps: how many flow steps, 1 or more. init: "identity" or "paper".
    """

    steps: int = 6
    init: str = "identity"


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each of the input and all outputs so far."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, GROWTH, 3, padding=1)
        self.second = nn.Conv2d(channels + GROWTH, GROWTH, 3, padding=1)
        self.third = nn.Conv2d(channels + 2 * GROWTH, GROWTH, 3, padding=1)
        self.fourth = nn.Conv2d(channels + 3 * GROWTH, GROWTH, 3, padding=1)
        self.last = nn.Conv2d(channels + 4 * GROWTH, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([x, functional.leaky_relu(self.first(x), 0.2)], dim=1)
        seen = torch.cat([seen, functional.leaky_relu(self.second(seen), 0.2)], dim=1)
        seen = torch.cat([seen, functional.leaky_relu(self.third(seen), 0.2)], dim=1)
        seen = torch.cat([seen, functional.leaky_relu(self.fourth(seen), 0.2)], dim=1)
        return self.last(seen).to(x.dtype)  # type: ignore[no-any-return]


class FlowStep(nn.Module):
    """One invertible matrix and one affine coupling."""

    def __init__(self, start: Tensor) -> None:
        """start: the first W, (3, 3)."""
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(start)
        diagonal = upper.diagonal()
        self.permutation: Tensor
        self.sign: Tensor
        self.below: Tensor
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.register_buffer("below", torch.ones(3, 3).tril(-1))
        self.lower = nn.Parameter(lower * self.below)
        self.upper = nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(diagonal.abs().log())
        self.add_to_one = DenseBlock(2, 1)  # F
        self.add_to_two = DenseBlock(1, 2)  # G
        self.scale_two = DenseBlock(1, 2)  # H

    def matrix(self) -> Tensor:
        """W; the parts of `lower` and `upper` on the wrong side count for nothing."""
        unit = torch.diag_embed(torch.ones_like(self.log_diagonal))
        lower = self.lower * self.below + unit
        diagonal = torch.diag_embed(self.sign * torch.exp(self.log_diagonal))
        return product(self.permutation, product(lower, self.upper * self.below.t() + diagonal))

    def forward(self, x: Tensor, matrix: Tensor) -> Tensor:
        """The step with `matrix`, (B, 3, 3)."""
        x = mixed(x, matrix)
        one = x[:, :1] + self.add_to_one(x[:, 1:])
        two = x[:, 1:] * torch.exp(self._log_scale(one)) + self.add_to_two(one)
        return torch.cat([one, two], dim=1)

    @torch.jit.export
    def backward_step(self, y: Tensor) -> Tensor:
        """The inverse of the step."""
        one = y[:, :1]
        two = (y[:, 1:] - self.add_to_two(one)) * torch.exp(-self._log_scale(one))
        x = torch.cat([one - self.add_to_one(two), two], dim=1)
        return mixed(x, torch.linalg.inv(self.matrix()).unsqueeze(0))

    def _log_scale(self, one: Tensor) -> Tensor:
        return 0.8 * (2.0 * torch.sigmoid(self.scale_two(one)) - 1.0)


def product(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product in full precision, under autocast too."""
    return (a.unsqueeze(2) * b.unsqueeze(0)).sum(dim=1)


def mixed(x: Tensor, matrix: Tensor) -> Tensor:
    """(B, 3, H, W) multiplied by (B or 1, 3, 3), in full precision, under autocast too."""
    columns = matrix.unsqueeze(3).unsqueeze(4)
    first, second = columns[:, :, 0] * x[:, 0:1], columns[:, :, 1] * x[:, 1:2]
    return first + second + columns[:, :, 2] * x[:, 2:3]


def turns(steps: int) -> list[list[int]]:
    """Channel orders whose sequence is the identity: rotations by three, then a pair of swaps."""
    orders = [[1, 2, 0]] * (steps // 3 * 3)
    return orders + {0: [], 1: [[0, 1, 2]], 2: [[1, 0, 2], [1, 0, 2]]}[steps % 3]


class InvispIsp(Isp):
    """A chain of flow steps; `inverse` undoes it.

    Input: linear, 0 black and 1 white, white-balanced, R, G, B. Any height and width from 1 up.
    """

    name = "invisp"
    Config = InvispConfig

    def __init__(self, config: InvispConfig | None = None) -> None:
        super().__init__()
        config = config or InvispConfig()
        if config.init not in ("identity", "paper"):
            raise ValueError(f"init is {config.init!r}; there are identity and paper")
        if config.steps < 1:
            raise ValueError(f"steps is {config.steps}; there must be at least one")
        self.config = config
        self.halo = REACH * config.steps
        if config.init == "identity":
            starts = [torch.eye(3)[order] for order in turns(config.steps)]
        else:
            starts = [torch.linalg.qr(torch.randn(3, 3))[0] for _ in range(config.steps)]
        self.steps = nn.ModuleList(FlowStep(start) for start in starts)
        for module in self.modules():
            if config.init == "paper" and isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            if config.init == "identity" and isinstance(module, DenseBlock):
                nn.init.zeros_(module.last.weight)
                nn.init.zeros_(module.last.bias)  # type: ignore[arg-type]

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """{"matrices": (B, steps, 3, 3)}: the steps' W, the same for every image."""
        matrices: list[Tensor] = []
        for step in self.steps:
            matrices.append(step.matrix())  # type: ignore[operator]
        return {"matrices": torch.stack(matrices).unsqueeze(0).repeat(x.shape[0], 1, 1, 1)}

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """RAW to RGB, all steps."""
        matrices = parameters["matrices"]
        for n, step in enumerate(self.steps):
            x = step(x, matrices[:, n])
        return x

    @torch.jit.export
    def inverse(self, y: Tensor) -> Tensor:
        """RGB to RAW: what `apply` made `y` from. Cut to [0, 1], `y` has lost what was beyond."""
        for step in self.steps[::-1]:
            y = step.backward_step(y)  # type: ignore[operator]
        return y
