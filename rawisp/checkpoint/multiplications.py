"""Counting the multiply-accumulates of convolutions and matrix products, as papers count them.

PyTorch's own FlopCounterMode finds the same numbers, but its first use imports torch._dynamo, sympy
and triton, which takes longer than everything else that `rawisp describe` does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
# Matrix products, and which argument is the left factor.
_PRODUCTS = {_ATEN.mm: 0, _ATEN.bmm: 0, _ATEN.addmm: 1, _ATEN.baddbmm: 1}


class MultiplicationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, `count` is how many multiply-accumulates have been run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: int = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Newer PyTorch asks this before it wraps the next method in an import of torch._dynamo."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs `func` and adds what it multiplies."""
        out = func(*args, **(kwargs or {}))
        operator = getattr(func, "overloadpacket", None)
        if operator is _ATEN.convolution:
            self.count += _of_convolution(args[0], args[1], bool(args[6]), out)
        elif operator in _PRODUCTS:
            self.count += out.numel() * args[_PRODUCTS[operator]].shape[-1]
        return out


def _of_convolution(x: Tensor, weight: Tensor, transposed: bool, out: Tensor) -> int:
    """Each output (of transposed ones: input) meets the weights of one output (input) channel."""
    return (x if transposed else out).numel() * weight[0].numel()
