"""Plain formulas that the references are written with: NumPy, float64, one image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

Array = npt.NDArray[np.float64]


class Weights:
    """A module's parameters and buffers as float64 arrays, and layers that read them by name."""

    def __init__(self, module: nn.Module) -> None:
        self.values = {k: v.double().numpy() for k, v in module.state_dict().items()}

    def __getitem__(self, name: str) -> Array:
        return self.values[name]

    def conv(self, x: Array, name: str, stride: int = 1) -> Array:
        """(C, H, W), zero padding that keeps the size at stride 1."""
        w = self[f"{name}.weight"]
        size, pad = w.shape[2], w.shape[2] // 2
        height, width = x.shape[1:]
        padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        y = np.zeros((w.shape[0], height, width))
        for dy in range(size):
            for dx in range(size):
                shifted = padded[:, dy : dy + height, dx : dx + width]
                y += np.einsum("oi,ihw->ohw", w[:, :, dy, dx], shifted)
        if f"{name}.bias" in self.values:
            y += self[f"{name}.bias"][:, None, None]
        return y[:, ::stride, ::stride]

    def linear(self, x: Array, name: str) -> Array:
        y = self[f"{name}.weight"] @ x
        return y + self[f"{name}.bias"] if f"{name}.bias" in self.values else y

    def batch_norm(self, x: Array, name: str) -> Array:
        mean, var = self[f"{name}.running_mean"], self[f"{name}.running_var"]
        scale = self[f"{name}.weight"] / np.sqrt(var + 1e-5)
        return (x - mean[:, None, None]) * scale[:, None, None] + self[f"{name}.bias"][
            :, None, None
        ]


@pytest.fixture
def weights() -> Callable[[nn.Module], Weights]:
    return Weights


@pytest.fixture
def shaken() -> Callable[..., nn.Module]:
    """A module whose parameters and statistics are away from their start, in eval mode."""

    def shake(module: nn.Module, seed: int = 0, by: float = 0.1) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for value in module.parameters():
                value.add_(by * torch.randn(value.shape, generator=generator))
            for name, value in module.named_buffers():
                if name.endswith("running_mean"):
                    value.add_(by * torch.randn(value.shape, generator=generator))
                elif name.endswith("running_var"):
                    value.mul_(0.5 + torch.rand(value.shape, generator=generator))
        return module.eval()

    return shake


@pytest.fixture
def scene() -> Array:
    """A dim, tinted, noisy scene with a lamp and some pixels below black, (3, 21, 34)."""
    rng = np.random.default_rng(5)
    image = 0.05 * rng.uniform(-0.05, 2.0, (3, 21, 34)) * np.array([1.2, 1.0, 0.6])[:, None, None]
    image[:, 5:9, 10:14] = 1.1
    return image.astype(np.float32).astype(np.float64)
