"""Mean and variance of an image from those of its rows, accurate also where both are tiny."""

from __future__ import annotations

import torch
from torch import Tensor


def combined_rows(means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of each image's channels, (B, C) float32.

    means, variances: of each of its rows, (B, C, H). Rows have equal lengths, so that
    variance = mean(variances) + variance(means): Welford's merge of all rows at once, in float64
    where the device has it, which loses nothing when means are large against deviations.
    """
    wide = torch.float32 if means.device.type == "mps" else torch.float64
    of_rows = means.to(wide)
    mean = of_rows.mean(dim=2)
    between = (of_rows - mean.unsqueeze(2)).square().mean(dim=2)
    return mean.float(), (variances.to(wide).mean(dim=2) + between).float()
