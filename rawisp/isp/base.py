"""What every ISP has in common: predict a few operators, then apply them to the image."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Isp(nn.Module):
    """Linear (B, 3, H, W) in, an image for detectors (B, 3, H, W) out, in [0, 1] in eval mode.

    `predict` looks at the image as a whole (a thumbnail, global statistics) and returns named
    parameters, each with the batch as its first dimension; `apply` uses them on every pixel.
    """

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """The operators' parameters for each image of the batch."""
        raise NotImplementedError

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """The rendered batch, given its parameters."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """`apply(x, predict(x))`, cut to [0, 1] in eval mode."""
        y = self.apply(x, self.predict(x))
        return y if self.training else torch.clamp(y, 0.0, 1.0)
