"""What is minimised: the frozen detector's losses on the rendered images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rawisp.detect.base import Guide, Target
from rawisp.isp.base import Isp


class Step(nn.Module):
    """ISP, detector and loss terms as one module, so that data-parallel training can wrap it.

    color_weight: of the grey-world term (GenISP, equation 4). day_weight: of the difference
    (`likeness`) from the well-lit photograph, where a night was made from one; day_response: of the
    difference between the detector's responses to both. amp: bfloat16 for the detector and for the
    ISP's `encoded_modules`; the rest of the ISP computes in float32, where dark values need it.
    """

    def __init__(
        self,
        isp: Isp,
        guide: Guide,
        color_weight: float = 0.0,
        amp: bool = False,
        day_weight: float = 0.0,
        day_response: float = 0.0,
    ) -> None:
        super().__init__()
        self.isp = isp
        self.guide = guide
        self.color_weight = color_weight
        self.amp = amp
        self.day_weight = day_weight
        self.day_response = day_response
        if amp:
            for name in isp.encoded_modules:
                _compute_in_bfloat16(isp.get_submodule(name))

    def forward(
        self, images: list[Tensor], targets: list[Target], by_day: Sequence[Tensor | None] = ()
    ) -> dict[str, Tensor]:
        """Loss terms by name, each (B,); weights are applied already.

        by_day: the well-lit photographs of the scenes, as far as there are any.
        """
        rendered = render(self.isp, images)
        device = images[0].device.type if images else "cpu"
        with torch.autocast(device, torch.bfloat16, enabled=self.amp):
            terms = self.guide.losses(rendered, targets)
        terms = {name: value.float() for name, value in terms.items()}
        if self.color_weight > 0.0:
            terms["color"] = self.color_weight * torch.stack([grey_world(y) for y in rendered])
        if self.day_weight > 0.0:
            pairs = zip(rendered, by_day, strict=True)
            terms["day"] = self.day_weight * torch.stack(
                [y.mean() * 0.0 if day is None else likeness(y, day) for y, day in pairs]
            )
        if self.day_response > 0.0:
            terms["response"] = self.day_response * self._response(rendered, by_day)
        return terms

    def _response(self, rendered: list[Tensor], by_day: Sequence[Tensor | None]) -> Tensor:
        """The detector's disagreement, (B,); 0 for real nights."""
        days = [day for day in by_day if day is not None]
        if len(days) == len(rendered):
            # The very list that the losses were asked for: guides may keep their response to it.
            return self.guide.disagreement(rendered, days)
        zero = rendered[0].sum() * 0.0
        values = [zero] * len(rendered)
        at = [n for n, day in enumerate(by_day) if day is not None]
        if at:
            found = self.guide.disagreement([rendered[n] for n in at], days)
            for n, value in zip(at, found, strict=True):
                values[n] = value
        return torch.stack(values)


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


def likeness(y: Tensor, day: Tensor, cell: int = 12) -> Tensor:
    """Mean absolute difference of both pictures, plus that of their averages over 12x12 pixels.

    The second is brightness and colour, which noise and details would drown in the first. Alone,
    this teaches to smooth, which detectors do not like (docs/decisions/0011); the detector's own
    terms keep what it needs.
    """
    size = (max(1, y.shape[1] // cell), max(1, y.shape[2] // cell))
    averages = [functional.adaptive_avg_pool2d(picture, size) for picture in (y, day)]
    return (y - day).abs().mean() + (averages[0] - averages[1]).abs().mean()


def _compute_in_bfloat16(module: nn.Module) -> None:
    """From here on, `module` computes under autocast; its result is bfloat16."""
    forward = type(module).forward

    def under_autocast(x: Tensor, *others: Tensor) -> Any:
        # Channels last: a third faster for small numbers of channels on a CPU.
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16):
            return forward(module, x, *others)

    module.forward = under_autocast
