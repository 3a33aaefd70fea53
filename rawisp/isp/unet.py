"""What small U-Nets at half resolution share: convolutions, cells of 2x2 pixels, the blur."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def one_convolution(channels: int, out: int) -> nn.Sequential:
    """3x3, then a leaky ReLU."""
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.LeakyReLU(0.1))


def two_convolutions(channels: int, middle: int, out: int) -> nn.Sequential:
    """3x3, leaky ReLU, twice."""
    return nn.Sequential(one_convolution(channels, middle), one_convolution(middle, out))


def blurred(x: Tensor) -> Tensor:
    """[1 2 1; 2 4 2; 1 2 1] / 16 of each channel, edges repeated; it takes Nyquist to nothing."""
    wide = functional.pad(x, [1, 1, 1, 1], mode="replicate")
    rows = (wide[:, :, :-2] + 2.0 * wide[:, :, 1:-1] + wide[:, :, 2:]) / 4.0
    return (rows[:, :, :, :-2] + 2.0 * rows[:, :, :, 1:-1] + rows[:, :, :, 2:]) / 4.0


def doubled(x: Tensor) -> Tensor:
    """Each pixel four times."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def to_multiples_of_8(x: Tensor) -> Tensor:
    """Height and width made multiples of 8, the last row and column repeated.

    So written that torch.export sees that they are: 8 times something.
    """
    height, width = x.shape[2], x.shape[3]
    x = functional.pad(x, [0, 7, 0, 7], mode="replicate")
    return x[:, :, : (height + 7) // 8 * 8, : (width + 7) // 8 * 8]


def in_cells(x: Tensor) -> Tensor:
    """(B, 4 C, H / 2, W / 2): the four pixels of each 2x2 cell, of multiples of 8."""
    return functional.pixel_unshuffle(to_multiples_of_8(x), 2)


def out_of_cells(x: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `in_cells`, blurred.

    A U-Net writes each phase of its cells by itself; without the blur training finds a checkerboard
    that detectors like and people do not.
    """
    return blurred(functional.pixel_shuffle(x, 2)[:, :, :height, :width])
