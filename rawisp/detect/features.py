"""How differently a network sees two pictures, by its feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def features_apart(
    seen: Sequence[Tensor], wanted: Sequence[Tensor], weight: Tensor | None = None
) -> Tensor:
    """Smooth-L1 in units of each channel's spread in `wanted`, mean per level, summed, (B,).

    seen, wanted: levels (B, C, h, w) of both batches; no gradient should flow into `wanted`.
    weight: (B, 1, h, w) of the cells, if all do not count alike. Feature maps of an untrained or
    dead channel have no spread; a twentieth of the level's mean spread is the least.
    """
    total = torch.zeros(seen[0].shape[0], device=seen[0].device)
    for a, b in zip(seen, wanted, strict=True):
        spread = b.std(dim=(2, 3), keepdim=True, correction=0)
        spread = spread + 0.05 * spread.mean(dim=1, keepdim=True) + 1e-12
        apart = functional.smooth_l1_loss(a / spread, b / spread, reduction="none")
        total = total + (apart if weight is None else weight * apart).mean(dim=(1, 2, 3)).float()
    return total
