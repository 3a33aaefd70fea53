"""Powers of linear light, and the settings that DIAP and SimROD share."""

from __future__ import annotations

import torch
from torch import Tensor


def smooth_power(x: Tensor, exponent: Tensor, floor: float) -> Tensor:
    """x^g for any x: ((x + e)^g - e^g) / ((1 + e)^g - e^g) with e = floor, and x cut at 0.

    0 goes to 0 and 1 to 1, without the pedestal that a cut above zero leaves, and the slope is
    finite. Floor 0: the published x^g with x cut at 0; 0 stays 0. Its slope is infinite there, and
    here that of 1e-12.
    """
    if floor <= 0.0:
        # 1e-12 is far below a step of 24 bits, but its root is not 0: the cut comes first.
        return torch.where(x > 0.0, x.clamp(min=1e-12) ** exponent, torch.zeros_like(x))
    black = floor**exponent
    return ((x.clamp(min=0.0) + floor) ** exponent - black) / ((1.0 + floor) ** exponent - black)


def check_gamma_settings(init: str, gamma_low: float, gamma_high: float) -> None:
    """ValueError for a start that is none, or a range of gammas that is empty."""
    if init not in ("plain", "paper"):
        raise ValueError(f"init is {init!r}; there are plain and paper")
    if not 0.0 < gamma_low <= gamma_high:
        raise ValueError("gamma_low must be above 0, and gamma_high no less than gamma_low")
