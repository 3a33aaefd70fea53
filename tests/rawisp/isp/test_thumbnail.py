"""The averaging matrices of exported programs against adaptive average pooling."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from rawisp.isp.thumbnail import averaging_matrix, cell_averages


@pytest.mark.parametrize("size", [(64, 64), (67, 93), (10, 300), (1, 1), (640, 333)])
def test_both_forms_average_the_same_cells(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    rows, columns = (averaging_matrix(n, 64, x.device) for n in size)
    expected = functional.adaptive_avg_pool2d(x, (64, 64))
    torch.testing.assert_close(rows @ x @ columns.T, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(cell_averages(x, 64), expected)
