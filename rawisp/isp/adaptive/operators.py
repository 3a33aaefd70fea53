"""The ten operators of AdaptiveISP (NeurIPS 2024), each a function of an image and its parameters.

Images are (B, 3, H, W), parameters (B, k), one row for each image. Numbers in KEYS order are part
of the policy's state and of published checkpoints. Luma here is 0.27 R + 0.67 G + 0.06 B.

`fixed=True` mends what the released code gets wrong, each where it stands; `fixed=False` is parity.
Every operator's caller cuts the result to [0, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

KEYS = ("E", "G", "CCM", "Shr", "NLM", "T", "Ct", "S+", "BW", "W")
PARAMETER_COUNTS = (1, 1, 9, 1, 1, 8, 1, 1, 1, 3)
# Milliseconds of the paper's runtime penalty; a table, not a measurement of this code.
COST_MS = (1.7, 2.0, 1.9, 6.3, 10.0, 2.7, 2.1, 2.0, 1.9, 1.7)
# How far each looks: the sharpening's 3x3, NLM's 11x11 window and 5x5 patch.
HALOS = (0, 0, 0, 1, 7, 0, 0, 0, 0, 0)


def between(raw: Tensor, low: float, high: float, at_zero: float) -> Tensor:
    """From any number to (low, high) by tanh, `at_zero` where `raw` is 0."""
    share = 2.0 * (at_zero - low) / (high - low) - 1.0
    bias = 0.5 * math.log((1.0 + share) / (1.0 - share))
    return low + (high - low) * (torch.tanh(raw + bias) + 1.0) / 2.0


def parameters_from_raw(operator: int, raw: Tensor, fixed: bool) -> Tensor:
    """The operator's parameters from the regressor's raw outputs, (B, k).

    Fixed: zero means identity for every operator, or nearly so (denoising 0.005, saturation and
    desaturation 0.02), the sharpening's factor lies in the paper's [0, 2] and not in [0, 10], and
    denoising is log-scaled over its useful range.
    """
    if operator == 0:
        return between(raw, -3.5, 3.5, 0.0)
    if operator == 1:
        return torch.exp(between(raw, -math.log(3.0), math.log(3.0), 0.0))
    if operator == 2:
        return torch.tanh(raw) if fixed else 2.0 * torch.tanh(raw)
    if operator == 3:
        return between(raw, 0.0, 2.0, 1.0) if fixed else between(raw, 0.0, 10.0, 5.0)
    if operator == 4:
        if fixed:
            return torch.pow(10.0, between(raw, -3.0, -0.5, -2.3))
        return torch.sigmoid(raw)
    if operator == 5:
        return between(raw, 0.5, 2.0, 1.25)
    if operator == 6:
        return torch.tanh(raw)
    if operator == 7 or operator == 8:
        return torch.sigmoid(raw - 4.0) if fixed else torch.sigmoid(raw)
    # White balance: only green and blue are free, red is held.
    held = torch.cat([torch.zeros_like(raw[:, :1]), raw[:, 1:]], dim=1)
    return torch.exp(0.5 * torch.tanh(held))


def run_operator(operator: int, x: Tensor, theta: Tensor, fixed: bool) -> Tensor:
    """Operator number `operator` on `x`; not cut to [0, 1]."""
    if operator == 0:
        return exposure(x, theta)
    if operator == 1:
        return gamma(x, theta)
    if operator == 2:
        return color_matrix(x, theta, fixed)
    if operator == 3:
        return sharpen(x, theta, fixed)
    if operator == 4:
        return denoise(x, theta, fixed)
    if operator == 5:
        return tone(x, theta)
    if operator == 6:
        return contrast(x, theta)
    if operator == 7:
        return saturate(x, theta, fixed)
    if operator == 8:
        return desaturate(x, theta)
    return white_balance(x, theta)


def luma(x: Tensor) -> Tensor:
    """(B, 1, H, W)."""
    return 0.27 * x[:, 0:1] + 0.67 * x[:, 1:2] + 0.06 * x[:, 2:3]


def _per_image(theta: Tensor) -> Tensor:
    """(B, 1, 1, 1) from (B, 1)."""
    return theta.view(-1, 1, 1, 1)


def exposure(x: Tensor, theta: Tensor) -> Tensor:
    """x 2^theta, theta in stops."""
    return x * torch.pow(2.0, _per_image(theta))


def gamma(x: Tensor, theta: Tensor) -> Tensor:
    """max(x, 0.001)^theta."""
    return torch.pow(x.clamp(min=1e-3), _per_image(theta))


def color_matrix(x: Tensor, theta: Tensor, fixed: bool) -> Tensor:
    """out = M x with rows of M summing to one.

    Parity: M = theta / row sum, which explodes when a row's sum nears zero. Fixed: M = I + theta -
    row mean of theta, which never does, and is the identity at zero.
    """
    m = theta.view(-1, 3, 3)
    if fixed:
        identity = torch.eye(3, device=x.device, dtype=m.dtype).unsqueeze(0)
        m = identity + m - m.mean(dim=2, keepdim=True)
    else:
        m = m / m.sum(dim=2, keepdim=True)
    return torch.einsum("bij,bjhw->bihw", m, x)


def sharpen(x: Tensor, theta: Tensor, fixed: bool) -> Tensor:
    """theta x + (1 - theta) blur(x), blur by [1 1 1; 1 5 1; 1 1 1] / 13.

    At the border parity keeps the input; fixed repeats the edge.
    """
    kernel = torch.ones(1, 1, 3, 3, device=x.device, dtype=x.dtype)
    kernel[0, 0, 1, 1] = 5.0
    kernel = (kernel / 13.0).repeat(3, 1, 1, 1)
    padded = functional.pad(x, [1, 1, 1, 1], mode="replicate")
    blurred = functional.conv2d(padded, kernel, groups=3)
    y = x + (1.0 - _per_image(theta)) * (blurred - x)
    if fixed:
        return y
    inside = torch.zeros_like(x[:, :1])
    inside[:, :, 1:-1, 1:-1] = 1.0
    return torch.where(inside > 0.5, y, x)


def denoise(x: Tensor, theta: Tensor, fixed: bool) -> Tensor:
    """Non-local means: an 11x11 window, 5x5 patches of luma, weight exp(-distance / theta).

    The distance is the patches' root sum of squares, not squared, as released. Parity shifts
    circularly, so that opposite borders mix; fixed repeats the edge.
    """
    x = x.clamp(0.0, 1.0)
    y = 0.299 * x[:, 0:1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3]
    mode = "replicate" if fixed else "circular"
    height, width = x.shape[2], x.shape[3]
    far = _padded(y, 7, mode)
    colors = _padded(x, 5, mode)
    scale = 1.0 / (functional.relu(_per_image(theta)) + 1e-8)
    total = x.clone()
    weight_sum = torch.ones_like(y)
    for dy in range(-5, 6):
        for dx in range(-5, 6):
            if dy == 0 and dx == 0:
                continue
            here = far[:, :, 5 : 5 + height + 4, 5 : 5 + width + 4]
            there = far[:, :, 5 + dy : 5 + dy + height + 4, 5 + dx : 5 + dx + width + 4]
            squares = functional.avg_pool2d((here - there) ** 2, 5, 1) * 25.0
            # The tiny floor keeps the gradient of the root finite where patches are equal.
            distance = torch.sqrt(functional.relu(squares) + 1e-12)
            weight = torch.exp(-distance * scale)
            total = total + weight * colors[:, :, 5 + dy : 5 + dy + height, 5 + dx : 5 + dx + width]
            weight_sum = weight_sum + weight
    return total / weight_sum


def _padded(x: Tensor, reach: int, mode: str) -> Tensor:
    """Padded by `reach`, circularly also where the image is smaller than that."""
    if mode == "replicate":
        return functional.pad(x, [reach, reach, reach, reach], mode="replicate")
    rows = torch.arange(-reach, x.shape[2] + reach, device=x.device) % x.shape[2]
    columns = torch.arange(-reach, x.shape[3] + reach, device=x.device) % x.shape[3]
    return x[:, :, rows][:, :, :, columns]


def tone(x: Tensor, theta: Tensor) -> Tensor:
    """Monotone and piecewise linear: (8 / sum w) sum_i w_i clip(x - i / 8, 0, 1 / 8)."""
    total = torch.zeros_like(x)
    for i in range(8):
        total = total + _per_image(theta[:, i : i + 1]) * (x - i / 8.0).clamp(0.0, 0.125)
    return total * 8.0 / _per_image(theta.sum(dim=1, keepdim=True))


def contrast(x: Tensor, theta: Tensor) -> Tensor:
    """(1 - t) x + t x c / (Y + 1e-6), c = (1 - cos(pi Y)) / 2 with Y cut to [0, 1]."""
    level = luma(x).clamp(0.0, 1.0)
    curve = 0.5 * (1.0 - torch.cos(math.pi * level))
    t = _per_image(theta)
    return (1.0 - t) * x + t * x * curve / (level + 1e-6)


def saturate(x: Tensor, theta: Tensor, fixed: bool) -> Tensor:
    """(1 - t) x + t x', x' with HSV saturation s' = s + (1 - s) 0.8 (0.5 - |0.5 - v|).

    Closed form x' = v - (v - x) s' / s. For neutral pixels parity takes hue 0, so that grey turns
    red; fixed leaves them, and fades in over saturations up to 0.05.
    """
    x = x.clamp(0.0, 1.0)
    value = x.amax(dim=1, keepdim=True)
    s = (value - x.amin(dim=1, keepdim=True)) / (value + 1e-8)
    boosted = s + (1.0 - s) * 0.8 * (0.5 - torch.abs(0.5 - value))
    vivid = value - (value - x) * boosted / s.clamp(min=1e-6)
    if fixed:
        vivid = x + (vivid - x) * (s / 0.05).clamp(0.0, 1.0)
    else:
        red = torch.cat([value, value * (1 - boosted), value * (1 - boosted)], dim=1)
        vivid = torch.where(s > 0.0, vivid, red)
    t = _per_image(theta)
    return (1.0 - t) * x + t * vivid


def desaturate(x: Tensor, theta: Tensor) -> Tensor:
    """(1 - t) x + t Y."""
    t = _per_image(theta)
    return (1.0 - t) * x + t * luma(x)


def white_balance(x: Tensor, theta: Tensor) -> Tensor:
    """Gains g divided by their luma, so that grey keeps its brightness."""
    level = 1e-5 + 0.27 * theta[:, 0:1] + 0.67 * theta[:, 1:2] + 0.06 * theta[:, 2:3]
    return x * (theta / level).view(-1, 3, 1, 1)
