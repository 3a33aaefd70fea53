"""`tiny`: a small RetinaNet for tests and for the rendered night streets of the sample data.

torchvision's RetinaNet with a backbone of seven convolutions and a head of 32 channels, at the
image's own size; its anchors begin at 10 pixels. GroupNorm instead of BatchNorm, so that nothing
depends on the batch. 0.16 M parameters.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from rawisp.detect.torchvision_models import TorchvisionGuide

CHANNELS = 32
# Strides 4, 8, 16, 32; three scales an octave as in RetinaNet.
ANCHOR_SIZES = tuple(
    tuple(round(base * 2 ** (k / 3)) for k in range(3)) for base in (10, 20, 40, 80)
)
ASPECT_RATIOS = ((0.4, 1.0, 2.5),) * 4


def _block(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.GroupNorm(8, out), nn.ReLU()
    )


class _Backbone(nn.Module):
    """Four levels of CHANNELS each, coarser ones added to finer ones as in a feature pyramid."""

    out_channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_block(3, 16, 2), _block(16, 32, 2), _block(32, 32, 1))
        self.down = nn.ModuleList([_block(32, 48, 2), _block(48, 64, 2), _block(64, 64, 2)])
        self.lateral = nn.ModuleList([nn.Conv2d(n, CHANNELS, 1) for n in (32, 48, 64, 64)])

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        levels = [self.stem(x)]
        for stage in self.down:
            levels.append(stage(levels[-1]))
        merged = [lateral(level) for lateral, level in zip(self.lateral, levels, strict=True)]
        for fine in range(len(merged) - 2, -1, -1):
            coarse = functional.interpolate(merged[fine + 1], list(merged[fine].shape[2:]))
            merged[fine] = merged[fine] + coarse
        return OrderedDict((str(n), level) for n, level in enumerate(merged))


def _same_size_transform() -> type[Any]:
    """torchvision's normalisation and batching without its resize.

    Its own `_skip_resize` holds in training mode only, and a guide is always in evaluation mode.
    """
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    class SameSize(GeneralizedRCNNTransform):  # type: ignore[misc]
        def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
            return image, target

    return SameSize


def build_tiny(categories: Sequence[str]) -> TorchvisionGuide:
    """With random weights, for these categories; labels begin at 1, 0 is the background."""
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.retinanet import RetinaNetHead

    anchors = AnchorGenerator(ANCHOR_SIZES, ASPECT_RATIOS)
    count = anchors.num_anchors_per_location()[0]
    head = RetinaNetHead(
        CHANNELS, count, len(categories) + 1, norm_layer=lambda n: nn.GroupNorm(8, n)
    )
    for branch in (head.classification_head, head.regression_head):
        branch.conv = nn.Sequential(*list(branch.conv)[:2])  # two of RetinaNet's four
    model = RetinaNet(
        _Backbone(),
        num_classes=len(categories) + 1,
        anchor_generator=anchors,
        head=head,
        score_thresh=0.02,
        detections_per_img=100,
    )
    mean, std = [0.45, 0.45, 0.45], [0.25, 0.25, 0.25]
    model.transform = _same_size_transform()(0, 0, mean, std)
    return TorchvisionGuide(model, (None, *categories))
