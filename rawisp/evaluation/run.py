"""One rendering under one detector: boxes of every image, counted against the truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rawisp.data.prepared import PreparedImage
from rawisp.detect.base import Detections, Guide
from rawisp.detect.categories import CategoryMap
from rawisp.evaluation.average_precision import AveragePrecision, Found, Truth, average_precision

Render = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Evaluation:
    """precision: COCO's numbers. found: the detections per image, as the data's classes.

    render_s, detect_s: mean seconds per image.
    """

    precision: AveragePrecision
    truths: list[Truth]
    found: list[Found]
    render_s: float
    detect_s: float


def evaluate_rendering(
    render: Render,
    guide: Guide,
    images: Sequence[PreparedImage],
    categories: CategoryMap,
    device: torch.device,
    progress: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Renders and detects image by image.

    render: float32 (1, 3, H, W) linear to (1, 3, H, W) in [0, 1], on `device`. `categories`
    are classes that the detector knows, each another label (`scope.scope_of` sees to that); its
    labels that the data do not have are left out.
    """
    truths, found = [], []
    render_s = detect_s = 0.0
    for n, image in enumerate(images):
        x = torch.from_numpy(image.load())[None].to(device)
        with torch.inference_mode():
            start = time.perf_counter()
            y = render(x).float().clamp(0.0, 1.0)
            _wait(device)
            middle = time.perf_counter()
            (one,) = guide.detect([y[0]])
            _wait(device)
            detect_s += time.perf_counter() - middle
            render_s += middle - start
        truths.append(Truth(image.boxes.astype(np.float64), image.classes, image.ignore))
        found.append(_found(one, categories))
        progress(n + 1)
    count = max(1, len(images))
    precision = average_precision(truths, found, categories.categories)
    return Evaluation(precision, truths, found, render_s / count, detect_s / count)


def _found(one: Detections, categories: CategoryMap) -> Found:
    boxes = one.boxes.detach().cpu().double().numpy()
    scores = one.scores.detach().cpu().double().numpy()
    classes = categories.classes_of(one.labels.detach().cpu().numpy().astype(np.int64))
    known = classes >= 0
    return Found(boxes[known], scores[known], classes[known])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
