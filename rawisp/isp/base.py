"""What every ISP has in common: predict a few operators, then apply them to the image.

    parameters = isp.predict(x)         # looks at each image as a whole
    y = isp.apply(x, parameters)        # local: looks `halo` pixels around each pixel

so that parameters can be logged, plotted, frozen or reused, and a large image be rendered tile by
tile with the very same result (`rawisp.isp.stream`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn


class Isp(nn.Module):
    """Linear (B, 3, H, W) in, an image for detectors (B, 3, H, W) out, in [0, 1] in eval mode.

    A subclass sets `name`, `Config` (a frozen dataclass of JSON values) and `halo`, takes a Config
    as its only argument, keeps it as `self.config`, and writes `predict` and `apply`. Everything
    that depends on more than the neighbourhood of a pixel belongs into `predict`.
    """

    name = ""
    Config: type = type(None)
    # How many pixels around a pixel `apply` looks at.
    halo = 0
    # Tiles begin at multiples of this, for networks that halve the resolution.
    multiple = 1
    # Whether `apply` is local. False for networks whose layers pool the whole image at many depths.
    streams = True
    # Whether what is computed depends on the image: TorchScript can hold that, torch.export cannot.
    branches = False
    # Submodules that see encoded values only, so that --amp may have them compute in bfloat16;
    # linear values do not survive it.
    encoded_modules: tuple[str, ...] = ()
    # Channels of the input; the output has 3.
    in_channels = 3

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """The operators' parameters for each image, the batch as their first dimension."""
        raise NotImplementedError

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """The rendered batch, given its parameters; not cut to [0, 1]."""
        raise NotImplementedError

    def parameters_at(
        self, parameters: dict[str, Tensor], box: tuple[int, int, int, int], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """The parameters with which `apply` renders one crop as it stands in the image.

        box: (top, left, bottom, right) of the crop; size: (height, width) of the image. Only an ISP
        with parameters that vary over the image, such as a coarse map, has to override this.
        """
        return parameters

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """`apply(x, predict(x))`, cut to [0, 1] in eval mode.

        valid: bool (B, 1, H, W), true on the rectangle of each image that is no padding. Each image
        is then rendered as if the padding were not there; the output is 0 on it.
        """
        if valid is None:
            y = self.apply(x, self.predict(x))
        else:
            y = self.render_valid(x, valid)
        return y if self.training else torch.clamp(y, 0.0, 1.0)

    def render_valid(self, x: Tensor, valid: Tensor) -> Tensor:
        """Each image's valid rectangle rendered alone, so that no padding reaches statistics."""
        rows = valid.any(dim=3).any(dim=1)  # (B, H)
        columns = valid.any(dim=2).any(dim=1)  # (B, W)
        y = torch.zeros_like(x[:, :3])
        for n in range(x.shape[0]):
            at_rows = torch.nonzero(rows[n])
            at_columns = torch.nonzero(columns[n])
            if at_rows.shape[0] == 0 or at_columns.shape[0] == 0:
                continue
            top, bottom = int(at_rows[0]), int(at_rows[-1]) + 1
            left, right = int(at_columns[0]), int(at_columns[-1]) + 1
            image = x[n : n + 1, :, top:bottom, left:right]
            y[n : n + 1, :, top:bottom, left:right] = self.apply(image, self.predict(image))
        return y


def config_of(isp: nn.Module) -> dict[str, Any]:
    """An ISP's configuration as JSON values: what `create_isp(name, **config)` takes."""
    return asdict(isp.config)  # type: ignore[call-overload,no-any-return]
