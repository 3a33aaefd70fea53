"""What is compared: checkpoints, and ISPs that need none, as functions with a name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from rawisp.checkpoint.archive import inspect_checkpoint
from rawisp.checkpoint.load import SHIPPED, checkpoint_path, load_isp
from rawisp.checkpoint.metadata import CheckpointMetadata
from rawisp.color import InputColor
from rawisp.errors import ProcessingError, UsageError
from rawisp.geometry import Fit
from rawisp.isp.registry import create_isp, isp_names

OnNote = Callable[[str], None]


@dataclass(frozen=True)
class Rendering:
    """An ISP in evaluation mode, and what it is fed.

    run: float32 (1, 3, H, W), linear, to (1, 3, H, W) in [0, 1]; called with the image, it is
    checked as well. fit: the size that it is meant for, or "any"; training_fit: the size that it
    was trained at. sha256: of the checkpoint, None for an ISP that is not read from a file.
    trained: of a run of `rawisp train`, the data set's name ("data") and what was held out of it
    ("val", "seed"). partner: of a checkpoint whose detector learned along, which detector that is,
    as `partner_of` says.
    """

    name: str
    run: Callable[[Tensor], Tensor]
    input_color: InputColor = "xyz"
    fit: Fit | Literal["any"] | None = "any"
    sha256: str | None = None
    isp: str = ""
    trained: Mapping[str, Any] | None = None
    training_fit: Fit | Literal["as fit"] | None = "as fit"
    partner: Mapping[str, Any] | None = None

    @property
    def trained_at(self) -> Fit | Literal["any"] | None:
        """The size that it was trained at, or "any"."""
        return self.fit if self.training_fit == "as fit" else self.training_fit

    def __call__(self, x: Tensor) -> Tensor:
        """The rendered image. ProcessingError for anything that is none."""
        try:
            y = self.run(x)
        except Exception as error:  # whatever a foreign module raises
            if "out of memory" in str(error).lower() or isinstance(error, MemoryError):
                reason = f"ran out of memory on {x.shape[3]}x{x.shape[2]}"
                raise ProcessingError(self.name, reason, "scale down with --fit") from None
            lines = [line for line in str(error).splitlines() if line.strip()]
            reason = (lines[-1].strip() if lines else type(error).__name__)[:200]
            raise ProcessingError(self.name, f"failed ({reason})") from None
        if not isinstance(y, Tensor) or y.shape != (1, 3, *x.shape[2:]):
            what = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            raise ProcessingError(self.name, f"returned {what} for {tuple(x.shape)}")
        if not bool(torch.isfinite(y).all()):
            raise ProcessingError(self.name, "returned NaN or infinite values")
        return y


Wanted = str | os.PathLike[str] | Rendering


def load_renderings(
    wanted: Sequence[Wanted] | Wanted,
    device: torch.device,
    *,
    input_color: InputColor | None = None,
    safe: bool = False,
    on_note: OnNote = lambda _: None,
) -> list[Rendering]:
    """Each as a `Rendering`, on `device`, with names that differ.

    A text is the name of an ISP without parameters (classic, rawpy-default, demosaic), else what
    `load_isp` takes. input_color: of checkpoints that do not say. Raises UsageError,
    CheckpointError.
    """
    if isinstance(wanted, str | os.PathLike | Rendering):
        wanted = [wanted]
    if not wanted:
        raise UsageError("nothing is to be evaluated; name a --ckpt, a --baseline, or both")
    loaded = []
    for one in wanted:
        if isinstance(one, Rendering):
            loaded.append(one)
        elif os.fspath(one) in isp_names():
            loaded.append(baseline(os.fspath(one), device))
        else:
            loaded.append(_checkpoint(os.fspath(one), device, input_color, safe, on_note))
    return _told_apart(loaded)


def baseline(name: str, device: torch.device) -> Rendering:
    """An ISP without parameters, by name; UsageError for any other."""
    isp = create_isp(name)
    if any(True for _ in isp.parameters()):
        raise UsageError(
            f"{name} has parameters to learn, so it is no baseline; give its checkpoint as --ckpt"
        )
    if name in SHIPPED:
        return replace(
            _checkpoint(name, device, None, False, lambda _: None), fit="any", training_fit="as fit"
        )
    return Rendering(name, isp.eval().to(device), isp=name)


def _checkpoint(
    path: str, device: torch.device, input_color: InputColor | None, safe: bool, on_note: OnNote
) -> Rendering:
    archive = inspect_checkpoint(checkpoint_path(path))
    notice = None if safe else archive.trust_notice()
    if notice is not None:
        on_note(notice)
    says = archive.metadata_json is not None
    isp = load_isp(path, device=str(device), input_color=None if says else input_color, safe=safe)
    m = isp.metadata
    training = m.provenance.get("training")
    trained = None
    if isinstance(training, dict) and "data" in m.provenance:
        trained = {"data": m.provenance["data"], "val": training.get("val", 0.0)}
        trained["seed"] = training.get("seed", 0)
    return Rendering(
        m.name,
        isp.run,
        m.input_color,
        m.fit,
        isp.sha256,
        m.isp,
        trained,
        m.training_fit,
        partner_of(isp.path, m),
    )


def partner_of(path: str, metadata: CheckpointMetadata) -> dict[str, Any] | None:
    """The detector that learned along with a checkpoint, None where the detector was frozen.

    {"file": beside the checkpoint, "detector", "sha256" of its weights as `weights_hash` counts}.
    """
    partner = metadata.provenance.get("partner")
    if not isinstance(partner, dict) or not {"file", "detector", "sha256"} <= partner.keys():
        return None
    return {**partner, "file": os.path.join(os.path.dirname(path), str(partner["file"]))}


def _told_apart(renderings: list[Rendering]) -> list[Rendering]:
    """The second one of a name becomes "name (2)"."""
    count: dict[str, int] = {}
    told = []
    for one in renderings:
        count[one.name] = count.get(one.name, 0) + 1
        number = count[one.name]
        told.append(replace(one, name=f"{one.name} ({number})") if number > 1 else one)
    return told
