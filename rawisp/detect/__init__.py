"""Detectors as guides: per-image losses in training, boxes in evaluation, behind one interface."""

from rawisp.detect.base import Detections, Guide, Target, freeze, thaw, weights_hash
from rawisp.detect.features import features_apart
from rawisp.detect.registry import create_guide, guide_names, save_guide

__all__ = [
    "Detections",
    "Guide",
    "Target",
    "create_guide",
    "features_apart",
    "freeze",
    "guide_names",
    "save_guide",
    "thaw",
    "weights_hash",
]
