"""Rendering an image tile by tile, with the same result as at once."""

from __future__ import annotations

import torch
from torch import Tensor

from rawisp.errors import UsageError
from rawisp.isp.base import Isp


def render_in_tiles(isp: Isp, x: Tensor, tile: int = 512) -> Tensor:
    """`isp(x)` for (B, C, H, W), in tiles of about `tile` pixels a side.

    The parameters are predicted once from the whole image; each tile is applied with `isp.halo`
    pixels around it, which are then cut off. At the image's own border a tile ends where the image
    does, so the ISP's padding is the same. Memory is that of one tile, and of `predict`.
    Raises UsageError for an ISP that cannot be rendered in parts (`isp.streams` is false).
    """
    if not isp.streams:
        raise UsageError(
            f"{isp.name} cannot be rendered in tiles, because its inner layers depend on the whole "
            "image; render the image at once"
        )
    parameters = isp.predict(x)
    step = max(isp.multiple, tile // isp.multiple * isp.multiple)
    halo = -(-isp.halo // isp.multiple) * isp.multiple
    height, width = x.shape[2:]
    y = torch.empty_like(x[:, :3])
    for top in range(0, height, step):
        for left in range(0, width, step):
            bottom, right = min(top + step, height), min(left + step, width)
            up, down = max(top - halo, 0), min(bottom + halo, height)
            west, east = max(left - halo, 0), min(right + halo, width)
            local = isp.parameters_at(parameters, (up, west, down, east), (height, width))
            part = isp.apply(x[:, :, up:down, west:east], local)
            y[:, :, top:bottom, left:right] = part[
                :, :, top - up : bottom - up, left - west : right - west
            ]
    return y if isp.training else y.clamp(0.0, 1.0)
