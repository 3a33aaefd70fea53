"""The five stages of `staged` as published: datarax's guide to a learned ISP, formula by formula.

x is a pixel as a row vector, sigma the logistic function. In this order:

    colour      y = x A                                              A 3x3, at first the identity
    grey        y = x (1 - a) + mean(x) a,  a = sigma(s)             s = 0: half grey
    tone        piecewise linear through (k / 15, v_k), v = sort(sigma(c))
                                                    c_k = k / 15: v from 0.500 to 0.731
    gamma       y = cut(x, 1e-6, 1)^g,  g = cut(exp(l), 0.1, 5)      l = 0: the identity
    sharpening  y = x + sigma(t) (x - blur(x)), blur by K / (sum K + 1e-6) with repeated edges
                                                    t = 0.5: strength 0.622; K binomial

Each stage's result is cut to [0, 1]. 9 + 1 + 16 + 1 + 10 = 37 parameters.

This is for comparison. The start is a grey picture, black at 0.5; the cuts stop gradients; K's sum
may come near 0; and knots at equal distances spend most of themselves above what night RAW holds.
`rawisp.isp.staged` says what we do instead.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

KNOTS = 16


class PublishedStages(nn.Module):
    """The 37 parameters, and what they do to a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.intervals = KNOTS - 1  # TorchScript sees attributes, not globals
        self.color_matrix = nn.Parameter(torch.eye(3))  # A
        self.desaturation = nn.Parameter(torch.zeros(1))  # s
        self.tone = nn.Parameter(torch.linspace(0.0, 1.0, KNOTS))  # c
        self.log_gamma = nn.Parameter(torch.zeros(1))  # l
        self.sharpening = nn.Parameter(torch.tensor([0.5]))  # t
        line = torch.tensor([1.0, 2.0, 1.0])
        self.kernel = nn.Parameter(torch.outer(line, line) / 16.0)  # K

    def predict(self, batch: int) -> dict[str, Tensor]:
        """The formulas' values, the same for every image of the batch.

        color_matrix (B, 3, 3): A. desaturation (B, 1): a. tone (B, 16): v. gamma (B, 1): g.
        sharpening (B, 1): sigma(t). kernel (B, 3, 3): K / (sum K + 1e-6).
        """
        return {
            "color_matrix": self.color_matrix.expand(batch, 3, 3),
            "desaturation": torch.sigmoid(self.desaturation).expand(batch, 1),
            "tone": torch.sigmoid(self.tone).sort()[0].expand(batch, self.intervals + 1),
            "gamma": torch.exp(self.log_gamma).clamp(0.1, 5.0).expand(batch, 1),
            "sharpening": torch.sigmoid(self.sharpening).expand(batch, 1),
            "kernel": (self.kernel / (self.kernel.sum() + 1e-6)).expand(batch, 3, 3),
        }

    def forward(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """(B, 3, H, W) in [0, 1], given the values of `predict`, each image with its own."""
        y = self._colored(x, parameters["color_matrix"]).clamp(0.0, 1.0)
        share = parameters["desaturation"].view(-1, 1, 1, 1)
        y = y * (1.0 - share) + y.mean(dim=1, keepdim=True) * share
        y = self._toned(y.clamp(0.0, 1.0), parameters["tone"]).clamp(0.0, 1.0)
        y = y.clamp(min=1e-6) ** parameters["gamma"].view(-1, 1, 1, 1)
        y = y.clamp(0.0, 1.0)
        detail = y - self._blurred(y, parameters["kernel"])
        return (y + parameters["sharpening"].view(-1, 1, 1, 1) * detail).clamp(0.0, 1.0)

    def _colored(self, x: Tensor, matrix: Tensor) -> Tensor:
        """x A, in sums of planes, which autocast leaves in full precision."""
        rows = matrix.unsqueeze(3).unsqueeze(4)  # (B, 3 in, 3 out, 1, 1)
        y = rows[:, 0] * x[:, 0:1]
        y = torch.addcmul(y, rows[:, 1], x[:, 1:2])
        return torch.addcmul(y, rows[:, 2], x[:, 2:3])

    def _toned(self, y: Tensor, knots: Tensor) -> Tensor:
        """y in [0, 1] through the curve with values `knots`, (B, 16), at equal distances."""
        position = y * float(self.intervals)
        # Cut as an integer: NaN then stays NaN, and is no index out of range.
        index = position.detach().floor().long().clamp(0, self.intervals - 1)
        low = knots.gather(1, index.flatten(1)).view(y.shape)
        high = knots.gather(1, index.flatten(1) + 1).view(y.shape)
        return low + (position - index.to(y.dtype)) * (high - low)

    def _blurred(self, y: Tensor, kernel: Tensor) -> Tensor:
        """Correlated with (B, 3, 3), edges repeated."""
        height, width = y.shape[2], y.shape[3]
        padded = functional.pad(y, [1, 1, 1, 1], mode="replicate")
        blurred = torch.zeros_like(y)
        for row in range(3):
            for column in range(3):
                weight = kernel[:, row, column].view(-1, 1, 1, 1)
                shifted = padded[:, :, row : row + height, column : column + width]
                blurred = torch.addcmul(blurred, weight, shifted)
        return blurred
