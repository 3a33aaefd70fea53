"""`staged`'s stages as PyTorch operations with compiled kernels behind them, for training on a CPU.

Array operations take some sixty passes over the image forwards and backwards; these take four. The
values are those of `rawisp.isp.staged` up to rounding (tested), and so are the gradients; there is
none with respect to the image, which nobody learns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from rawisp.kernels import stages

_F = np.float32


def usable(x: Tensor) -> bool:
    """Whether the kernels can take the place of array operations: on a CPU, to learn."""
    if torch.compiler.is_exporting() or not torch.is_grad_enabled() or x.requires_grad:
        return False
    return x.device.type == "cpu" and x.dtype == torch.float32


class Encode(torch.autograd.Function):
    """From (B, 3, H, W) linear to encoded RGB: colour matrix to gamma, see `kernels.stages`.

    matrix (B, 3, 3), desaturation (1,), knots (17,), steps (16,), exponent (1,), all float32; clip:
    where pixels begin to count as clipped and where they are (0, 0: nowhere); shoulder in (0, 1].
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        matrix: Tensor,
        desaturation: Tensor,
        knots: Tensor,
        steps: Tensor,
        exponent: Tensor,
        clip: tuple[float, float],
        shoulder: float,
    ) -> Tensor:
        from rawisp.kernels import stages

        x = x.contiguous()
        encoded = torch.empty_like(x)
        for n in range(x.shape[0]):
            given = _given(matrix[n], desaturation, knots, steps, exponent, clip, shoulder)
            stages.encode(x[n].numpy(), *given, encoded[n].numpy())
        ctx.save_for_backward(x, matrix, desaturation, knots, steps, exponent, encoded)
        ctx.settings = clip, shoulder
        return encoded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from rawisp.kernels import stages

        x, matrix, desaturation, knots, steps, exponent, encoded = ctx.saved_tensors
        to_matrix = np.zeros((x.shape[0], 3, 3))
        to_knots, to_steps = np.zeros(17), np.zeros(16)
        to_desaturation, to_exponent = np.zeros(1), np.zeros(1)
        gradient = gradient.contiguous()
        for n in range(x.shape[0]):
            given = _given(matrix[n], desaturation, knots, steps, exponent, *ctx.settings)
            stages.encode_gradient(
                x[n].numpy(),
                *given,
                encoded[n].numpy(),
                gradient[n].numpy(),
                to_matrix[n],
                to_knots,
                to_steps,
                to_desaturation,
                to_exponent,
            )
        found = (to_matrix, to_desaturation, to_knots, to_steps, to_exponent)
        return (None, *(torch.from_numpy(array).float() for array in found), None, None)


class Sharpen(torch.autograd.Function):
    """encoded + strength (encoded - its blur): strength (1,), blur (3, 3), float32."""

    @staticmethod
    def forward(ctx: Any, encoded: Tensor, strength: Tensor, blur: Tensor) -> Tensor:
        from rawisp.kernels import stages

        out = torch.empty_like(encoded)
        for n in range(encoded.shape[0]):
            stages.sharpen(
                encoded[n].numpy(), np.float32(strength.item()), blur.numpy(), out[n].numpy()
            )
        ctx.save_for_backward(encoded, strength, blur)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        from rawisp.kernels import stages

        encoded, strength, blur = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_encoded = torch.empty_like(encoded)
        to_strength, to_blur = np.zeros(1), np.zeros((3, 3))
        for n in range(encoded.shape[0]):
            stages.sharpen_gradient(
                encoded[n].numpy(),
                np.float32(strength.item()),
                blur.numpy(),
                gradient[n].numpy(),
                to_encoded[n].numpy(),
                to_strength,
                to_blur,
            )
        return to_encoded, torch.from_numpy(to_strength).float(), torch.from_numpy(to_blur).float()


def _given(
    matrix: Tensor,
    desaturation: Tensor,
    knots: Tensor,
    steps: Tensor,
    exponent: Tensor,
    clip: tuple[float, float],
    shoulder: float,
) -> tuple[stages.F32, _F, _F, _F, _F, stages.F32, stages.F32, _F]:
    """The kernels' arguments between the image and what they write."""
    return (
        matrix.contiguous().numpy(),
        np.float32(clip[0]),
        np.float32(clip[1]),
        np.float32(desaturation.item()),
        np.float32(shoulder),
        knots.numpy(),
        steps.numpy(),
        np.float32(exponent.item()),
    )
