"""torchvision's detectors as guides, and the one place that knows torchvision.

Their `forward` returns either losses or boxes, and losses averaged over the batch. Here their parts
are called one by one: the backbone once for the batch, the rest for each image, so that each image
has a loss of its own, in evaluation mode.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rawisp.detect.base import Detections, Guide, Target
from rawisp.detect.features import features_apart
from rawisp.errors import UsageError

# Names of ours are torchvision's builders'. SSDLite works at 320x320, the others at 800 to 1333.
NAMES = (
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "ssdlite320_mobilenet_v3_large",
)
BACKGROUND = "__background__"
# GenISP's reproductions train RetinaNets whose box deltas (x, y, log width, log height) are divided
# by these, and smooth L1 with this beta on the quotients; torchvision divides by nothing.
BOX_DELTA_SCALE = (0.1, 0.1, 0.2, 0.2)
SMOOTH_L1_BETA = 1.0 / 9.0


class TorchvisionGuide(Guide):
    """One of torchvision's detectors.

    model: RetinaNet, FCOS, FasterRCNN or SSD. categories: by label, None for background and for
    COCO's unused numbers.
    """

    def __init__(self, model: Any, categories: Sequence[str | None]) -> None:
        super().__init__()
        self.model = model
        self.categories = tuple(categories)
        self.model.eval()
        self.smooth_l1_beta: float | None = None  # see `use_smooth_l1`
        # Two-stage detectors sample at random, which `_two_stage_losses` hides by seeding.
        self.thread_safe = not hasattr(model, "rpn")

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """The model's own terms, for each image as if it were alone in its batch.

        Images of one size go together; torchvision would pad those of different sizes, and the
        padding would tell in norms and anchors.
        """
        terms: dict[str, list[Tensor]] = {}
        order: list[int] = []
        for indices in by_size(images):
            part = self._losses([images[n] for n in indices], [targets[n] for n in indices])
            for name, values in part.items():
                terms.setdefault(name, []).extend(values)
            order += indices
        at = [order.index(n) for n in range(len(order))]
        return {name: torch.stack(values)[at] for name, values in terms.items()}

    def _losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, list[Tensor]]:
        dicts = [{"boxes": t.boxes, "labels": t.labels} for t in targets]
        batch, dicts = self.model.transform(list(images), dicts)
        features = self.model.backbone(batch.tensors)
        if isinstance(features, Tensor):
            features = OrderedDict([("0", features)])
        each = [self._losses_of(n, batch, features, target) for n, target in enumerate(dicts)]
        return {name: [terms[name] for terms in each] for name in each[0]}

    def _losses_of(
        self, n: int, batch: Any, features: dict[str, Tensor], target: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        from torchvision.models.detection.image_list import ImageList

        alone = ImageList(batch.tensors[n : n + 1], [batch.image_sizes[n]])
        part = OrderedDict((name, level[n : n + 1]) for name, level in features.items())
        if hasattr(self.model, "rpn"):
            return self._two_stage_losses(alone, part, target)
        levels = list(part.values())
        outputs = self.model.head(levels)
        anchors = self.model.anchor_generator(alone, levels)
        kind = type(self.model).__name__
        extra: tuple[Any, ...] = ()
        if kind == "FCOS":
            extra = ([level.shape[2] * level.shape[3] for level in levels],)
        if kind == "SSD":
            extra = (self._matched(target, anchors[0]),)
        terms: dict[str, Tensor] = self.model.compute_loss([target], outputs, anchors, *extra)
        if self.smooth_l1_beta is not None:
            terms["bbox_regression"] = self._smooth_l1(target, outputs, anchors[0])
        return terms

    def _smooth_l1(
        self, target: dict[str, Tensor], outputs: dict[str, Tensor], anchors: Tensor
    ) -> Tensor:
        """GenISP's box loss, over the foreground anchors: the sum over the four deltas, each
        divided by BOX_DELTA_SCALE, which torchvision's are not; over the number of anchors."""
        matched = self._matched(target, anchors)[0]
        at = torch.nonzero(matched >= 0).squeeze(1)
        found = outputs["bbox_regression"][0][at]
        if at.numel() == 0:
            return found.sum()
        coder = self.model.head.regression_head.box_coder
        wanted = coder.encode_single(target["boxes"][matched[at]], anchors[at])
        scale = 1.0 / torch.tensor(BOX_DELTA_SCALE, dtype=found.dtype, device=found.device)
        assert self.smooth_l1_beta is not None
        loss = functional.smooth_l1_loss(
            found * scale, wanted * scale, reduction="sum", beta=self.smooth_l1_beta
        )
        return loss / at.numel()

    def _matched(self, target: dict[str, Tensor], anchors: Tensor) -> list[Tensor]:
        """SSD's forward matches before it computes losses."""
        from torchvision.ops import box_iou

        if target["boxes"].numel() == 0:
            return [torch.full((anchors.shape[0],), -1, dtype=torch.int64, device=anchors.device)]
        return [self.model.proposal_matcher(box_iou(target["boxes"], anchors))]

    def _two_stage_losses(
        self, image: Any, features: dict[str, Tensor], target: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Proposal and box losses. Both stages look at their own flag, which means no BatchNorm.

        They sample anchors at random; the generator is seeded so that the loss is a function of the
        image, and the caller's random state is left alone.
        """
        stages = (self.model.rpn, self.model.roi_heads)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for stage in stages:
                stage.training = True
            try:
                proposals, first = self.model.rpn(image, features, [target])
                _, second = self.model.roi_heads(features, proposals, image.image_sizes, [target])
            finally:
                for stage in stages:
                    stage.training = False
        return {**first, **second}

    def disagreement(self, images: Sequence[Tensor], by_day: Sequence[Tensor]) -> Tensor:
        """Of the backbone's levels, see `features_apart`."""
        values: dict[int, Tensor] = {}
        for indices in by_size(images):
            seen = self._features([images[n] for n in indices])
            with torch.no_grad():
                wanted = self._features([by_day[n] for n in indices])
            for n, value in zip(indices, features_apart(seen, wanted), strict=True):
                values[n] = value
        return torch.stack([values[n] for n in range(len(images))])

    def _features(self, images: list[Tensor]) -> list[Tensor]:
        """The backbone's levels, each (B, C, h, w)."""
        batch, _ = self.model.transform(images, None)
        features = self.model.backbone(batch.tensors)
        return [features] if isinstance(features, Tensor) else list(features.values())

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """What the model returns in evaluation mode."""
        self.model.eval()
        found: dict[int, Detections] = {}
        for indices in by_size(images):
            for n, f in zip(indices, self.model([images[n] for n in indices]), strict=True):
                found[n] = Detections(f["boxes"], f["scores"], f["labels"])
        return [found[n] for n in range(len(images))]


def by_size(images: Sequence[Tensor]) -> list[list[int]]:
    """Indices of images of equal size together, in order of first appearance."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for n, image in enumerate(images):
        groups.setdefault(tuple(image.shape), []).append(n)
    return list(groups.values())


def build(
    name: str, *, pretrained: bool, categories: Sequence[str | None] | None = None
) -> TorchvisionGuide:
    """A detector by torchvision's name, with COCO weights (downloaded once) or random ones.

    categories: of a detector with other classes, by label; the first is the background's. Raises
    UsageError when the weights cannot be downloaded.
    """
    from torchvision.models import get_model, get_model_weights

    best = get_model_weights(name).DEFAULT
    if pretrained:
        try:
            model = get_model(name, weights=best)
        except OSError as error:  # URLError is one
            raise UsageError(
                f"{name}: its weights cannot be downloaded ({error}); give a file with "
                "--detector-weights"
            ) from None
        return TorchvisionGuide(model, _named(best.meta["categories"]))
    names = tuple(categories) if categories is not None else _named(best.meta["categories"])
    model = get_model(name, weights=None, weights_backbone=None, num_classes=len(names))
    return TorchvisionGuide(model, names)


def _named(categories: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(None if c in (BACKGROUND, "N/A") else c for c in categories)


def use_smooth_l1(guide: Guide, beta: float = SMOOTH_L1_BETA) -> bool:
    """GenISP's box loss for RetinaNet, whose torchvision form has plain L1 (v1) or GIoU (v2).

    0.5 d^2 / beta below beta, d - 0.5 beta above, of box deltas d divided by BOX_DELTA_SCALE, as
    GenISP's reproductions have it. Returns True. UsageError for a detector without such deltas,
    whose losses would stay what they are, and for a beta that is not above 0.
    """
    if not 0.0 < beta < float("inf"):
        raise UsageError(f"the beta of smooth_l1 is {beta:g}; it must be above 0")
    model: Any = getattr(guide, "model", None)
    if not isinstance(guide, TorchvisionGuide) or type(model).__name__ != "RetinaNet":
        raise UsageError(
            "--box-loss smooth_l1 is for RetinaNets of torchvision; leave it away for this detector"
        )
    guide.smooth_l1_beta = float(beta)
    return True
