"""docs/isps.md says what the code is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from rawisp.checkpoint.describe import multiply_accumulates
from rawisp.isp.registry import create_isp, isp_names


def rows(repository: Path) -> dict[str, list[str]]:
    page = (repository / "docs" / "isps.md").read_text()
    table = page.split("## What the published code")[0]
    found = re.findall(r"^\| `([a-z-]+)` \|(.*)\|$", table, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in found}


def test_the_page_lists_every_isp(repository: Path) -> None:
    assert list(rows(repository)) == isp_names()


@pytest.mark.parametrize("name", isp_names())
def test_the_page_has_the_right_numbers(name: str, repository: Path) -> None:
    _, parameters, gmac, _, halo = rows(repository)[name]
    torch.manual_seed(0)
    isp = create_isp(name).eval()
    assert sum(p.numel() for p in isp.parameters()) == int(parameters.replace(",", ""))
    assert halo == (str(isp.halo) if isp.streams else "-")
    if name not in ("invisp", "mw-ispnet"):  # seconds on a small machine; counted once, by hand
        counted = multiply_accumulates(isp, torch.device("cpu")) / 1e9
        assert counted == pytest.approx(float(gmac), rel=0.1)
