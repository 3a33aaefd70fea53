"""The small picture that statistics and policies are taken from: averages over a grid of cells."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cell_averages(x: Tensor, side: int) -> Tensor:
    """(B, C, side, side): each cell's mean, of any height and width; aspect is not kept.

    PyTorch's adaptive average pooling. Exported programs multiply by averaging matrices instead,
    which is the same within rounding: ONNX has no such pooling for a size that is not known yet.
    """
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        return functional.adaptive_avg_pool2d(x, [side, side])  # type: ignore[arg-type]
    if torch.compiler.is_exporting():
        rows = averaging_matrix(x.shape[2], side, x.device)
        columns = averaging_matrix(x.shape[3], side, x.device)
        return torch.matmul(torch.matmul(rows, x), columns.transpose(0, 1))
    return functional.adaptive_avg_pool2d(x, [side, side])  # type: ignore[arg-type]


def averaging_matrix(size: int, cells: int, device: torch.device) -> Tensor:
    """(cells, size): row i averages from floor(i size / cells) up to ceil((i + 1) size / cells)."""
    cell = torch.arange(cells, device=device).unsqueeze(1)
    at = torch.arange(size, device=device).unsqueeze(0)
    first = torch.div(cell * size, cells, rounding_mode="floor")
    end = torch.div((cell + 1) * size + cells - 1, cells, rounding_mode="floor")
    inside = ((at >= first) & (at < end)).to(torch.float32)
    return inside / inside.sum(dim=1, keepdim=True)
