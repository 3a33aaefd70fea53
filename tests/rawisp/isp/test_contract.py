"""Every ISP that we ship keeps the contract, and the contract catches one that does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from rawisp.errors import UsageError
from rawisp.isp import contract
from rawisp.isp.base import Isp
from rawisp.isp.registry import create_isp, isp_names

ALL: dict[str, tuple[str, dict[str, Any]]] = {
    "genisp": ("genisp", {}),
    "ta-isp": ("ta-isp", {}),
    "ta-isp with four channels": ("ta-isp", {"in_channels": 4}),
    "adaptive-isp": ("adaptive-isp", {"steps": 3}),
    "diap": ("diap", {}),
    "raw-adapter": ("raw-adapter", {}),
    "mw-ispnet": ("mw-ispnet", {}),
    "invisp": ("invisp", {"steps": 2}),
    "simrod": ("simrod", {}),
    "classic": ("classic", {}),
    "rawpy-default": ("rawpy-default", {}),
    "demosaic": ("demosaic", {}),
    "staged-unet": ("staged-unet", {}),
    "film-unet": ("film-unet", {}),
    "staged": ("staged", {}),
    "staged with all its parts": (
        "staged",
        {"exposure_percentile": 0.75, "grey_world": True, "sharpening": 0.2, "neutral_clip": True},
    ),
}


@pytest.mark.parametrize("case", ALL)
def test_contract(case: str) -> None:
    name, config = ALL[case]
    contract.check_isp(lambda: create_isp(name, **config))


def test_every_name_is_under_the_contract() -> None:
    assert set(isp_names()) == {name for name, _ in ALL.values()}


@dataclass(frozen=True)
class LeakyConfig:
    """No settings."""


class Leaky(Isp):
    """Normalises by the mean of the whole batch, inside apply: wrong in three ways."""

    name = "leaky"
    Config = LeakyConfig

    def __init__(self, config: LeakyConfig) -> None:
        super().__init__()
        self.config = config
        self.gain = torch.nn.Parameter(torch.ones(1))

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        return {"gain": self.gain}

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        return x * parameters["gain"] / x.mean().clamp(min=1e-6) * 0.2


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (contract.check_batch, "a batch and its images alone differ"),
        (contract.check_tiles, "tiles of"),
        (contract.check_parameters, "gain has shape"),
    ],
)
def test_the_contract_catches_what_breaks_it(check: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check(lambda: Leaky(LeakyConfig()))


def test_unknown_names_and_settings_list_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no ISP is called 'genips'; there are .*staged"):
        create_isp("genips")
    with pytest.raises(UsageError, match=r"staged has no setting 'gama'; there are .*gamma"):
        create_isp("staged", gama=2.0)
