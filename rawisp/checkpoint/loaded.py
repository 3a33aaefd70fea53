"""A checkpoint ready to run: checks what goes in, and never trusts what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from rawisp.checkpoint.metadata import CheckpointMetadata
from rawisp.errors import CheckpointError, InvalidArrayError, ProcessingError, display_path
from rawisp.geometry import Fit, fit_size
from rawisp.isp.base import Isp
from rawisp.isp.stream import render_in_tiles
from rawisp.resize import shrink

# Sizes of the trial runs: one round, one odd and not square.
_WARM_UP_SIZES = ((64, 64), (67, 93))
# Learned ISPs overshoot [0, 1] by a few units; one that is meant for 0..255 goes far beyond.
_LARGEST_OUTPUT = 32.0
# Larger pictures are rendered in tiles, which needs a tile's memory: GenISP would take 5 GB for 20
# megapixels. Exported files cannot be taken apart, and render the picture at once.
_TILED_ABOVE_PIXELS = 2_000_000
_TILE = 1024
# Of a picture: the share outside 0..1, and of exactly 0 or 1, and the spread of its values, from
# which it is reported. Every seventh value is looked at.
_MOSTLY, _NEARLY_ALL, _FLAT, _SUSPICION_STEP = 0.5, 0.9, 0.02, 7


@dataclass(frozen=True)
class LoadedIsp:
    """An ISP on a device, with what it expects.

    Call it on a packed image; `metadata` says which colour space and size it was trained on.
    """

    run: Callable[[torch.Tensor], torch.Tensor]
    metadata: CheckpointMetadata
    path: str
    sha256: str
    device: torch.device

    def __repr__(self) -> str:
        m = self.metadata
        return f"<LoadedIsp {m.name!r} ({m.isp}) for {m.input_color} input on {self.device}>"

    def __call__(
        self,
        image: npt.NDArray[np.floating],
        *,
        fit: Fit | Literal["checkpoint"] | None = "checkpoint",
    ) -> npt.NDArray[np.uint8]:
        """Renders a packed image, float (H, W, 3), to uint8 RGB (h, w, 3).

        `image` is what `RawFrame.pack(color=isp.metadata.input_color)` returns. fit: scale it down
        first, antialiased, to within (long, short) pixels; by default as the checkpoint was
        trained, None for full size. Raises InvalidArrayError for a wrong array, ProcessingError
        when the checkpoint returns something that is no image.
        """
        array = np.asarray(image)
        if array.ndim != 3 or array.shape[2] != 3 or not np.issubdtype(array.dtype, np.floating):
            raise InvalidArrayError(
                f"an ISP takes float (H, W, 3), not {array.dtype} {array.shape}; "
                "use RawFrame.pack()"
            )
        planar = np.ascontiguousarray(np.moveaxis(array, -1, 0), dtype=np.float32)
        limits = self.metadata.fit if fit == "checkpoint" else fit
        width, height = fit_size(planar.shape[2], planar.shape[1], limits)
        return self.render(shrink(planar, height, width))

    def render(self, planar: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """uint8 (H, W, 3) from float32 (3, H, W), at its own size.

        0..1 becomes 0..255, rounded half up; what lies outside is cut, never wrapped.
        """
        return self.render_and_judge(planar)[0]

    def render_and_judge(
        self, planar: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
        """As `render`, and what speaks against the picture: that it is flat, or mostly cut."""
        if not np.isfinite(planar).all():
            raise ProcessingError(self.path, "was given an image with NaN or infinite values")
        with torch.inference_mode():
            x = torch.from_numpy(planar).unsqueeze(0).to(self.device)
            y = self._checked(self._run(x), x)
            warnings = _suspicions(x, y.float())
            levels = (y.float().clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8)
            return levels[0].permute(1, 2, 0).contiguous().cpu().numpy(), warnings

    def warm_up(self) -> None:
        """Trial runs on two sizes; CheckpointError when the module is no ISP."""
        for height, width in _WARM_UP_SIZES:
            ramp = torch.linspace(0.0, 0.05, 3 * height * width, device=self.device)
            with torch.inference_mode():
                x = ramp.view(1, 3, height, width)
                try:
                    y = self._checked(self._run(x), x)
                except ProcessingError as error:
                    raise CheckpointError(
                        f"{display_path(self.path)}: on a trial image of {width}x{height} it "
                        f"{error.reason}"
                    ) from None
            if float(y.abs().max()) > _LARGEST_OUTPUT:
                raise CheckpointError(
                    f"{display_path(self.path)}: on a trial image it returned values up to "
                    f"{float(y.abs().max()):.0f}; 1.0 must be white, so divide by 255 inside the "
                    "module if that is its scale"
                )

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        run = self.run
        try:
            if isinstance(run, Isp) and run.streams and x[0, 0].numel() > _TILED_ABOVE_PIXELS:
                return render_in_tiles(run, x, _TILE)
            return run(x)
        except Exception as error:  # whatever a foreign module raises
            lines = [line for line in str(error).strip().splitlines() if line.strip()]
            reason = (lines[-1] if lines else type(error).__name__)[:200]
            if "out of memory" in str(error).lower() or isinstance(error, MemoryError):
                size = f"{x.shape[3]}x{x.shape[2]}"
                raise ProcessingError(
                    self.path,
                    f"ran out of memory on {size}",
                    "scale down with --fit, or use --device cpu",
                ) from None
            raise ProcessingError(self.path, f"failed ({reason})") from None

    def _checked(self, y: object, x: torch.Tensor) -> torch.Tensor:
        if not isinstance(y, torch.Tensor):
            raise ProcessingError(self.path, f"returned {type(y).__name__}, not a tensor")
        if y.shape != x.shape:
            raise ProcessingError(
                self.path,
                f"returned shape {tuple(y.shape)} for an input of {tuple(x.shape)}",
                "it must take any size and keep it: pad inside the module and crop afterwards",
            )
        if not y.is_floating_point():
            raise ProcessingError(self.path, f"returned {y.dtype}, not floating point")
        if not bool(torch.isfinite(y).all()):
            raise ProcessingError(
                self.path,
                f"the checkpoint {self.metadata.name} returned NaN or infinite values",
                "packed values can be negative: clamp before powers and logarithms",
            )
        return y


def _suspicions(x: torch.Tensor, y: torch.Tensor) -> tuple[str, ...]:
    """Of a picture y (1, 3, H, W) of x: whether it has nothing in it that x had, or is mostly cut.

    Both are what a checkpoint makes that was trained on numbers of another scale.
    """
    advice = (
        "the checkpoint may have been made for numbers of another scale; here 0 is black and 1 is "
        "white"
    )
    seen, shown = x.flatten()[::_SUSPICION_STEP], y.flatten()[::_SUSPICION_STEP]
    cut = float(((shown < 0.0) | (shown > 1.0)).float().mean())
    if cut > _MOSTLY:
        return (f"{100 * cut:.0f} % of the picture lies outside 0 to 1 and was cut: {advice}",)
    shown = shown.clamp(0.0, 1.0)
    ends = float(((shown <= 0.0) | (shown >= 1.0)).float().mean())
    if ends > _NEARLY_ALL:
        return (f"{100 * ends:.0f} % of the picture is 0 or 1: {advice}",)
    if _spread(shown) < _FLAT and _spread(seen) > _FLAT * float(seen.abs().mean()):
        return (f"the picture is flat, {float(shown.median()):.3f} nearly everywhere: {advice}",)
    return ()


def _spread(values: torch.Tensor) -> float:
    """From the 1st to the 99th percentile."""
    ordered = values.float().sort()[0]
    last = ordered.shape[0] - 1
    return float(ordered[round(0.99 * last)] - ordered[round(0.01 * last)])
