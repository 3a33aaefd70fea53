"""What is minimised: the frozen detector's losses on the rendered images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rawisp.detect.base import Guide, Target
from rawisp.isp.base import Isp


class Step(nn.Module):
    """ISP, detector and loss terms as one module, so that data-parallel training can wrap it.

    color_weight: of the grey-world term (GenISP, equation 4). amp: bfloat16 for the detector; the
    ISP computes in float32, where dark values need it.
    """

    def __init__(
        self, isp: Isp, guide: Guide, color_weight: float = 0.0, amp: bool = False
    ) -> None:
        super().__init__()
        self.isp = isp
        self.guide = guide
        self.color_weight = color_weight
        self.amp = amp

    def forward(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Loss terms by name, each (B,); weights are applied already."""
        rendered = render(self.isp, images)
        device = images[0].device.type if images else "cpu"
        with torch.autocast(device, torch.bfloat16, enabled=self.amp):
            terms = self.guide.losses(rendered, targets)
        terms = {name: value.float() for name, value in terms.items()}
        if self.color_weight > 0.0:
            terms["color"] = self.color_weight * torch.stack([grey_world(y) for y in rendered])
        return terms


def render(isp: Isp, images: list[Tensor]) -> list[Tensor]:
    """Each image through the ISP, those of one size together, cut to [0, 1] for the detector.

    Beyond [0, 1] the gradient of the cut is kept (straight through) where it points back inside, so
    that an ISP that starts too bright can come back.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for n, image in enumerate(images):
        groups.setdefault(tuple(image.shape), []).append(n)
    rendered: dict[int, Tensor] = {}
    for indices in groups.values():
        y = _InsideUnit.apply(isp(torch.stack([images[n] for n in indices])))
        for n, one in zip(indices, y, strict=True):
            rendered[n] = one
    return [rendered[n] for n in range(len(images))]


class _InsideUnit(torch.autograd.Function):
    """clamp(y, 0, 1) whose gradient also flows from outside, if following it leads inside."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return y.clamp(0.0, 1.0)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors  # type: ignore[attr-defined]
        outward = ((y > 1.0) & (gradient < 0.0)) | ((y < 0.0) & (gradient > 0.0))
        return gradient.masked_fill(outward, 0.0)


def grey_world(y: Tensor) -> Tensor:
    """|mR - mG| + |mR - mB| + |mG - mB| of the channels' means of (3, H, W); GenISP, equation 4."""
    red, green, blue = y.mean(dim=(1, 2)).unbind()
    return (red - green).abs() + (red - blue).abs() + (green - blue).abs()
