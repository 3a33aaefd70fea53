"""Which detector, with which weights, at which size: settings that become a guide."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rawisp.detect.base import Guide
from rawisp.detect.registry import check_guide, create_guide
from rawisp.detect.transformers_models import TransformersGuide
from rawisp.errors import UsageError


@dataclass(frozen=True)
class GuideSettings:
    """name, weights, classes: as for `create_guide`. size: (long, short) limits in pixels to which
    torchvision's detectors scale their input, or the sides to which transformers' do; None for
    their own."""

    name: str
    weights: str | os.PathLike[str] | None = None
    classes: Sequence[str] | None = None
    size: tuple[int, int] | None = None

    def check(self) -> None:
        """What `create` would refuse at once; nothing is built or downloaded. UsageError,
        CheckpointError."""
        check_guide(self.name, self.weights, categories=self.classes)

    def create(self) -> Guide:
        """The detector, in evaluation mode, on the CPU. UsageError, CheckpointError."""
        guide = create_guide(self.name, self.weights, categories=self.classes)
        if self.size is not None and isinstance(guide, TransformersGuide):
            guide.work_at(self.size)
        elif self.size is not None:
            transform = _scaling(guide)
            if transform is None:
                raise UsageError(
                    "--detector-size is for torchvision's detectors that scale their input and "
                    f"transformers', not {self.name}"
                )
            transform.min_size, transform.max_size = (min(self.size),), max(self.size)
        return guide


def _scaling(guide: Guide) -> Any:
    """torchvision's transform of a detector, None where there is none or it keeps one size."""
    transform = getattr(getattr(guide, "model", None), "transform", None)
    if transform is None or getattr(transform, "fixed_size", None) is not None:
        return None
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    scales = type(transform).resize is GeneralizedRCNNTransform.resize
    return transform if scales else None
