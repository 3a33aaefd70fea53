"""A COCO-pretrained ONNX detector as a guide: FastestDet (dog-qiuqiu, BSD-3-Clause).

    pip install '.[train]' onnx2torch
    PYTHONPATH=examples rawisp train DATA -o RUN --detector fastestdet:build \\
        --detector-weights FastestDet.onnx

A complete example of a user's own guide: the ONNX graph becomes a PyTorch module through
onnx2torch, its loss is written down here, and `losses` and `detect` are all that rawisp asks for.
It has 0.24 M parameters and takes some milliseconds an image without a GPU.

The network takes (B, 3, 352, 352) BGR in [0, 1], resized without keeping the aspect, and returns
(B, 85, 22, 22): objectness (a probability), four numbers of the box, 80 class probabilities.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnx2torch import convert
from torch import Tensor
from torch.nn import functional
from torchvision.ops import batched_nms

from rawisp.detect import Detections, Guide, Target, features_apart
from rawisp.errors import UsageError

SIDE, CELLS = 352, 22
# By the graph's node numbers: the ends of the three stages, the fused features, and objectness,
# boxes and classes before their activations.
OUTPUTS = ("Conv_257", "Conv_260")
WATCHED = ("Concat_56", "Concat_170", "Concat_224", "Relu_248", "Conv_253")
SCORE_THRESHOLD, NMS_IOU, MOST = 0.001, 0.45, 100
COCO = """person|bicycle|car|motorcycle|airplane|bus|train|truck|boat|traffic light|fire hydrant|
stop sign|parking meter|bench|bird|cat|dog|horse|sheep|cow|elephant|bear|zebra|giraffe|backpack|
umbrella|handbag|tie|suitcase|frisbee|skis|snowboard|sports ball|kite|baseball bat|baseball glove|
skateboard|surfboard|tennis racket|bottle|wine glass|cup|fork|knife|spoon|bowl|banana|apple|
sandwich|orange|broccoli|carrot|hot dog|pizza|donut|cake|chair|couch|potted plant|bed|dining table|
toilet|tv|laptop|mouse|remote|keyboard|cell phone|microwave|oven|toaster|sink|refrigerator|book|
clock|vase|scissors|teddy bear|hair drier|toothbrush""".replace("\n", "").split("|")


class _OfThread(threading.local):
    """What a thread keeps between two calls: `seen` of the last forward pass, and of the night's
    (images, output, seen)."""

    def __init__(self) -> None:
        self.seen: dict[str, Tensor] = {}
        self.night: tuple[Sequence[Tensor], Tensor, dict[str, Tensor]] = ((), torch.zeros(0), {})


class FastestDet(Guide):
    """The detector behind rawisp's interface."""

    categories = tuple(COCO)
    thread_safe = True

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self._own = _OfThread()
        for name in (*WATCHED, *OUTPUTS):
            self._watch(name)

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """The published training loss, one number per image and term."""
        out = self._forward(images)
        self._own.night = (images, out, self._own.seen)
        terms: list[dict[str, Tensor]] = []
        for n, (image, target) in enumerate(zip(images, targets, strict=True)):
            height, width = image.shape[1:]
            scale = target.boxes.new_tensor([width, height, width, height])
            terms.append(image_loss(out[n], target.boxes / scale, target.labels))
        return {name: torch.stack([one[name] for one in terms]) for name in terms[0]}

    def disagreement(self, images: Sequence[Tensor], by_day: Sequence[Tensor]) -> Tensor:
        """What the network makes of the night against what it makes of the day, (B,).

        `features_apart` at WATCHED layers, and at OUTPUTS, where cells count as much as there is
        an object by day. Half of `divergence` besides. Features teach an ISP faster than boxes can:
        every cell of every layer says something, in photographs without a box as well.
        """
        given, out, night = self._own.night
        if given is not images:  # else `losses` has just been asked for the very same
            out, night = self._forward(images), self._own.seen
        self._own.night = ((), out, {})
        with torch.no_grad():
            by_day_out, day = self._forward(by_day), self._own.seen
        share = by_day_out[:, :1] + 0.02
        share = share / share.mean(dim=(1, 2, 3), keepdim=True)
        total = 0.5 * divergence(out, by_day_out)
        total = total + features_apart([night[k] for k in WATCHED], [day[k] for k in WATCHED])
        outputs = [night[k] for k in OUTPUTS], [day[k] for k in OUTPUTS]
        return total + features_apart(*outputs, weight=share)

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Score = objectness^0.6 x class^0.4, one class per cell, NMS at IoU 0.45 per class."""
        out = self._forward(images)
        found = []
        for n, image in enumerate(images):
            height, width = image.shape[1:]
            best, labels = out[n, 5:].max(dim=0)
            scores = (out[n, 0] ** 0.6 * best**0.4).flatten()
            boxes = (decoded(out[n]).flatten(1).T.clamp(0, 1)) * scores.new_tensor(
                [width, height, width, height]
            )
            area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
            keep = torch.nonzero(area & (scores > SCORE_THRESHOLD)).flatten()
            boxes, scores, labels = boxes[keep], scores[keep], labels.flatten()[keep]
            order = batched_nms(boxes, scores, labels, NMS_IOU)[:MOST]
            found.append(Detections(boxes[order], scores[order], labels[order]))
        return found

    def _forward(self, images: Sequence[Tensor]) -> Tensor:
        """(B, 85, 22, 22); `seen` then holds what WATCHED layers gave."""
        resized = [
            functional.interpolate(image[None].flip(1), (SIDE, SIDE), mode="bilinear")
            for image in images
        ]
        self._own.seen = {}
        # In float32 always: its depthwise convolutions are no faster in bfloat16.
        with torch.autocast(images[0].device.type, enabled=False):
            out: Tensor = self.network(torch.cat(resized).float())
        return out

    def _watch(self, name: str) -> None:
        def keep(module: torch.nn.Module, given: Any, out: Tensor) -> None:
            self._own.seen[name] = out

        self.network.get_submodule(name).register_forward_hook(keep)


def decoded(out: Tensor) -> Tensor:
    """(4, 22, 22) corners x1, y1, x2, y2 relative to the image, from one image's output.

    Centre ((w + tanh' c1) / 22, (h + tanh' c2) / 22) with tanh'(v) = 2 / (1 + exp(-2 v)) - 1, which
    is tanh; width and height are sigmoids.
    """
    at = torch.arange(CELLS, device=out.device, dtype=out.dtype)
    x = (at.view(1, -1) + torch.tanh(out[1])) / CELLS
    y = (at.view(-1, 1) + torch.tanh(out[2])) / CELLS
    half_width, half_height = torch.sigmoid(out[3]) / 2, torch.sigmoid(out[4]) / 2
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height])


def divergence(out: Tensor, by_day: Tensor) -> Tensor:
    """Kullback-Leibler of objectness, and of classes where there is an object by day, (B,).

    Summed over the cells and divided by the objectness by day.
    """
    low, share = 1e-4, by_day[:, 0]
    p, q = out[:, 0].clamp(low, 1 - low), share.clamp(low, 1 - low)
    objects = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    classes = (by_day[:, 5:] * ((by_day[:, 5:] + low) / (out[:, 5:] + low)).log()).sum(dim=1)
    return (objects + share * classes).sum(dim=(1, 2)) / share.sum(dim=(1, 2)).clamp(min=1.0)


def image_loss(out: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The terms of one image, (85, 22, 22), for relative corners (N, 4) and labels (N,).

    Each box is offered to the cell of its centre and to its right, lower and diagonal neighbours;
    those above the mean IoU are its positives. 8 (1 - SIoU), 16 smooth-L1 of the objectness against
    the IoU at positives and 0 elsewhere (weight 0.75 at negatives, 0.25 HW / n at n positives), and
    the negative logarithm of the class probability.
    """
    prediction = decoded(out)
    objectness = out[0]
    wanted, weight = torch.zeros_like(objectness), torch.full_like(objectness, 0.75)
    zero = objectness.sum() * 0.0
    box_term, class_term = zero, zero
    if len(boxes):
        rows, columns, owner = offered(boxes)
        chosen = prediction[:, rows, columns].T  # (K, 4)
        iou, siou = box_agreement(chosen, boxes[owner])
        positive = iou > iou.mean()
        if bool(positive.any()):
            rows, columns, owner = rows[positive], columns[positive], owner[positive]
            wanted = wanted.index_put((rows, columns), iou[positive].detach())
            share = torch.full_like(iou[positive].detach(), 0.25 * CELLS * CELLS / len(rows))
            weight = weight.index_put((rows, columns), share)
            box_term = (1.0 - siou[positive]).mean()
            probability = out[5:, rows, columns].T.gather(1, labels[owner].view(-1, 1))
            class_term = -torch.log(probability.clamp(min=1e-6)).mean()
    objects = functional.smooth_l1_loss(objectness, wanted, reduction="none") * weight
    return {"box": 8.0 * box_term, "objectness": 16.0 * objects.mean(), "class": class_term}


def offered(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(rows, columns, index of the box) of the cells that each box is offered to."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 * CELLS
    first = centre.floor().long()
    rows, columns, owner = [], [], []
    for down in (0, 1):
        for right in (0, 1):
            row, column = first[:, 1] + down, first[:, 0] + right
            inside = (row < CELLS) & (column < CELLS) & (row >= 0) & (column >= 0)
            rows.append(row[inside])
            columns.append(column[inside])
            owner.append(torch.nonzero(inside).flatten())
    return torch.cat(rows), torch.cat(columns), torch.cat(owner)


def box_agreement(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(IoU, SIoU) of corners (K, 4) pair by pair; SIoU after Gevorgyan, arXiv 2205.12740."""
    tiny = 1e-9
    size_a, size_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    intersection = overlap.prod(dim=1)
    union = size_a.prod(dim=1) + size_b.prod(dim=1) - intersection
    iou = intersection / (union + tiny)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2]) + tiny
    apart = ((b[:, :2] + b[:, 2:]) - (a[:, :2] + a[:, 2:])) / 2
    distance = (apart.square().sum(dim=1) + tiny).sqrt()
    sine = apart.abs().amin(dim=1) / distance  # of the smaller of both angles
    angle = torch.sin(2 * torch.asin(sine.clamp(max=1 - 1e-6)))
    rho = (apart / hull).square()
    distance_cost = (1 - torch.exp((angle - 2).unsqueeze(1) * rho)).sum(dim=1)
    change = (size_a - size_b).abs() / torch.maximum(size_a, size_b).clamp(min=tiny)
    shape_cost = (1 - torch.exp(-change)).pow(4).sum(dim=1)
    return iou, iou - 0.5 * (distance_cost + shape_cost)


def build(weights: str | None, categories: Sequence[str] | None) -> FastestDet:
    """What `--detector fastestdet:build --detector-weights FastestDet.onnx` calls."""
    if weights is None:
        raise UsageError("fastestdet: name the file FastestDet.onnx with --detector-weights")
    return FastestDet(convert(with_free_batch(onnx.load(str(Path(weights))))).eval())


def with_free_batch(model: Any) -> Any:
    """The exported graph for any batch size: its channel shuffles were written down for one image.

    They reshape to (channels, 2, pixels); with -1 in front the same holds for B x channels.
    """
    shapes = {i.name: i for i in model.graph.initializer}
    constants = {n.output[0]: n for n in model.graph.node if n.op_type == "Constant"}
    for node in model.graph.node:
        if node.op_type != "Reshape":
            continue
        holder = constants.get(node.input[1])
        tensor = holder.attribute[0].t if holder is not None else shapes[node.input[1]]
        shape = numpy_helper.to_array(tensor)
        if shape.size == 3:
            free = np.array([-1, *shape[1:]], np.int64)
            tensor.CopyFrom(numpy_helper.from_array(free, tensor.name))
    return model


assert len(COCO) == 80 and math.isclose(SIDE / CELLS, 16)
