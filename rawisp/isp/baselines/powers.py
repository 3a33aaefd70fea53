"""Powers of linear light, and the settings that DIAP and SimROD share."""

from __future__ import annotations

from torch import Tensor


def smooth_power(x: Tensor, exponent: Tensor, floor: float) -> Tensor:
    """x^g for any x: ((x + e)^g - e^g) / ((1 + e)^g - e^g) with e = floor, and x cut at 0.

    0 goes to 0 and 1 to 1, without the pedestal that a cut above zero leaves, and the slope is
    finite. Floor 0: x^g with x cut at 1e-6.
    """
    if floor <= 0.0:
        return x.clamp(min=1e-6) ** exponent
    black = floor**exponent
    return ((x.clamp(min=0.0) + floor) ** exponent - black) / ((1.0 + floor) ** exponent - black)


def check_gamma_settings(init: str, gamma_low: float, gamma_high: float) -> None:
    """ValueError for a start that is none, or a range of gammas that is empty."""
    if init not in ("plain", "paper"):
        raise ValueError(f"init is {init!r}; there are plain and paper")
    if not 0.0 < gamma_low <= gamma_high:
        raise ValueError("gamma_low must be above 0, and gamma_high no less than gamma_low")
