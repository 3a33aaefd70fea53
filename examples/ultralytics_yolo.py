"""Ultralytics' YOLO as a guide, through your own installation of it.

    pip install ultralytics
    PYTHONPATH=examples rawisp train DATA -o RUN --detector ultralytics_yolo:build \\
        --detector-weights yolo11n.pt

ultralytics is AGPL-3.0 (or under a licence that you buy) and neither part of rawisp nor needed by
it; this file calls nothing but its published interface, `YOLO(FILE)` and the `loss` of its model.
Opening a .pt of ultralytics runs the program in it: use files that you trust. The same with `rawisp
eval`. For `--phase2` rawisp writes RUN/detector.safetensors, which goes with the same .pt.

Detection models of YOLOv8 and later, YOLO11 and YOLO26 among them. Pictures are scaled to within
SIDE, keeping their shape, and padded with grey to a multiple of the largest stride, as ultralytics
does; give `build` a name of your own for another side:

    def build_1280(weights, categories):
        return ultralytics_yolo.build(weights, categories, side=1280)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms, box_convert

from rawisp.detect import Detections, Guide, Target
from rawisp.errors import UsageError

SIDE = 640
GREY = 114 / 255  # of the padding
SCORE_THRESHOLD, NMS_IOU, MOST = 0.001, 0.7, 300


class UltralyticsYolo(Guide):
    """A detection model of ultralytics behind rawisp's interface.

    model: what `YOLO(FILE).model` is. side: within which pictures are scaled, in pixels.
    """

    def __init__(self, model: Any, names: Mapping[int, str], side: int = SIDE) -> None:
        super().__init__()
        self.model = model
        self.categories = tuple(names[label] for label in sorted(names))
        self.stride = int(max(float(s) for s in model.stride))
        self.side = side
        self.eval()

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """The model's training loss of each image as if it were alone in its batch, (B,)."""
        each = [self._loss(*one) for one in zip(images, targets, strict=True)]
        return {"yolo": torch.stack(each)}

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Boxes in pixels of each image, best first."""
        with torch.no_grad():
            return [self._detected(image) for image in images]

    def _loss(self, image: Tensor, target: Target) -> Tensor:
        padded, scale, (left, top) = letterboxed(image, self.side, self.stride)
        height, width = padded.shape[1:]
        shift = target.boxes.new_tensor([left, top, left, top])
        boxes = box_convert(target.boxes * scale + shift, "xyxy", "cxcywh")
        batch = {
            "img": padded[None],
            "batch_idx": torch.zeros(len(boxes), device=image.device),
            "cls": target.labels.to(boxes.dtype).view(-1, 1),
            "bboxes": boxes / boxes.new_tensor([width, height, width, height]),
        }
        # In evaluation mode, so that BatchNorm stays; ultralytics takes its loss from that, too.
        found = self.model.loss(batch)
        # Older versions give a sum, newer ones a number for each of box, class and distribution.
        total: Tensor = found[0].sum()
        return total

    def _detected(self, image: Tensor) -> Detections:
        padded, scale, (left, top) = letterboxed(image, self.side, self.stride)
        out = self.model(padded[None])
        rows = (out[0] if isinstance(out, tuple | list) else out)[0]
        # (rows, x1 y1 x2 y2 score label) without NMS from heads that need none, else
        # (4 + classes, rows) with centres and sizes.
        if rows.shape[-1] == 6 and rows.shape[0] != 4 + len(self.categories):
            boxes, scores, labels = rows[:, :4], rows[:, 4], rows[:, 5].long()
        else:
            boxes = box_convert(rows[:4].T, "cxcywh", "xyxy")
            scores, labels = rows[4 : 4 + len(self.categories)].max(dim=0)
        keep = torch.nonzero(scores > SCORE_THRESHOLD).flatten()
        boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
        order = batched_nms(boxes, scores, labels, NMS_IOU)[:MOST]
        boxes = (boxes[order] - boxes.new_tensor([left, top, left, top])) / scale
        height, width = image.shape[1:]
        boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
        return Detections(boxes, scores[order], labels[order])


def letterboxed(image: Tensor, side: int, stride: int) -> tuple[Tensor, float, tuple[int, int]]:
    """(picture, scale, (left, top)) of an image (3, H, W) scaled to within `side` and padded with
    grey, centred, to multiples of `stride`. A pixel x of the image lies at x * scale + left."""
    height, width = image.shape[1:]
    scale = side / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if size != (height, width):
        image = functional.interpolate(image[None], size, mode="bilinear", antialias=scale < 1)[0]
    more = [math.ceil(n / stride) * stride - n for n in size]
    top, left = more[0] // 2, more[1] // 2
    padding = (left, more[1] - left, top, more[0] - top)
    return functional.pad(image, padding, value=GREY), scale, (left, top)


def build(
    weights: str | None, categories: Sequence[str] | None, side: int = SIDE
) -> UltralyticsYolo:
    """What `--detector ultralytics_yolo:build --detector-weights yolo11n.pt` calls.

    categories: names of your own for the model's classes, in its order; else those in the file.
    """
    if weights is None:
        raise UsageError("ultralytics_yolo: name a .pt of ultralytics with --detector-weights")
    try:
        from ultralytics import YOLO
        from ultralytics.utils import DEFAULT_CFG
    except ImportError as error:
        raise UsageError(
            f"ultralytics_yolo: needs ultralytics ({error}), which is AGPL-3.0 and not part of "
            "rawisp; run: pip install ultralytics"
        ) from None
    opened = YOLO(weights)
    if opened.task != "detect":
        raise UsageError(f"{weights}: is a model for {opened.task}; this takes detection models")
    model: nn.Module = opened.model.float()
    model.args = DEFAULT_CFG  # the weights of the loss terms; a file keeps them as a dict
    names = dict(enumerate(categories)) if categories else dict(opened.names)
    if len(names) != len(opened.names):
        raise UsageError(
            f"{weights}: has {len(opened.names)} classes, but {len(names)} are named with "
            "--detector-classes"
        )
    return UltralyticsYolo(model, names, side)
