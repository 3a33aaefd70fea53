"""The example of a user's own guide: its loss, boxes and response, around a network of its shape.

The ONNX file itself is not part of the repository; where it lies beside it, it is tried, too.
"""

from __future__ import annotations

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rawisp.detect import Guide, Target, freeze
from rawisp.errors import UsageError

NOTHING = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


@pytest.fixture(scope="module")
def example(repository: Path) -> ModuleType:
    path = repository / "examples" / "fastestdet.py"
    spec = importlib.util.spec_from_file_location("fastestdet", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Network(nn.Module):
    """Layers of the graph's names; (B, 3, 352, 352) to (B, 85, 22, 22)."""

    def __init__(self, watched: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.order = watched
        for name in watched:
            self.add_module(name, nn.Conv2d(3 if name == watched[0] else 8, 8, 3, padding=1))
        self.outputs = outputs
        self.add_module(outputs[0], nn.Conv2d(8, 5, 1))
        self.add_module(outputs[1], nn.Conv2d(8, 80, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.avg_pool2d(x, 16)
        for name in self.order:
            y = torch.tanh(self.get_submodule(name)(y))
        boxes, classes = (self.get_submodule(name)(y) for name in self.outputs)
        objectness, size = torch.sigmoid(boxes[:, :1]), torch.sigmoid(boxes[:, 3:])
        return torch.cat([objectness, boxes[:, 1:3], size, torch.softmax(classes, 1)], dim=1)


@pytest.fixture
def guide(example: Any) -> Guide:
    torch.manual_seed(0)
    found: Guide = example.FastestDet(Network(example.WATCHED, example.OUTPUTS).eval())
    freeze(found)
    return found


def pictures(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, 60 + 4 * n, 80, generator=generator) for n in range(count)]


def boxes(*corners: tuple[float, ...]) -> Target:
    return Target(torch.tensor(corners), torch.arange(len(corners)))


def test_losses_are_one_number_per_image_whatever_the_batch(guide: Guide) -> None:
    images = [image.requires_grad_() for image in pictures(3)]
    targets = [boxes((10, 10, 40, 50)), NOTHING, boxes((0, 0, 80, 60), (5, 5, 9, 9))]
    together = guide.losses(images, targets)
    assert set(together) == {"box", "objectness", "class"}
    for n, (image, target) in enumerate(zip(images, targets, strict=True)):
        for name, value in guide.losses([image], [target]).items():
            torch.testing.assert_close(value[0], together[name][n])
    assert together["box"][1].item() == together["class"][1].item() == 0.0
    sum(value.sum() for value in together.values()).backward()
    assert all(image.grad is not None and bool((image.grad != 0).any()) for image in images)


def perfect(example: Any, cell: tuple[int, int], size: float, label: int) -> Tensor:
    """(85, 22, 22): one object, centred on the corner where its four cells meet."""
    out = torch.zeros(85, 22, 22)
    row, column = cell
    for down in (0, 1):
        for right in (0, 1):
            at = (row + down, column + right)
            out[0][at] = 1.0
            # tanh' of the offset from this cell's own corner to the common centre.
            out[1][at], out[2][at] = torch.atanh(torch.tensor([0.5 - right, 0.5 - down]))
            out[3][at] = out[4][at] = torch.logit(torch.tensor(size))
            out[5 + label][at] = 1.0
    return out


def test_a_perfect_answer_costs_nothing_but_its_neighbours_doubt(example: Any) -> None:
    centre = torch.tensor([10.5, 6.5]) / 22
    box = torch.cat([centre - 0.1, centre + 0.1])[None]
    answer = perfect(example, (6, 10), 0.2, 3)
    found = example.decoded(answer)
    torch.testing.assert_close(found[:, 6, 10], box[0])
    torch.testing.assert_close(found[:, 7, 11], box[0])
    iou, siou = example.box_agreement(box, box)
    assert float(iou) == pytest.approx(1.0) and float(siou) == pytest.approx(1.0, abs=1e-4)
    # Only cells above the mean IoU are positives, and all four are equal: shift one a little.
    answer[3, 7, 11] -= 0.5
    terms = example.image_loss(answer, box, torch.tensor([3]))
    assert float(terms["box"]) == pytest.approx(0.0, abs=1e-3)
    assert float(terms["class"]) == pytest.approx(0.0, abs=1e-5)
    wrong = example.image_loss(answer, box, torch.tensor([4]))
    assert float(wrong["class"]) > 10.0
    away = example.image_loss(answer, box + 0.03, torch.tensor([3]))
    assert float(away["box"]) > 1.0
    nothing = example.image_loss(torch.zeros(85, 22, 22), box[:0], torch.zeros(0).long())
    assert float(nothing["objectness"]) == 0.0


def test_overlap_is_intersection_over_union(example: Any) -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    b = torch.tensor([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    iou, siou = example.box_agreement(a, b)
    assert iou.tolist() == pytest.approx([1 / 3, 0.0])
    assert bool((siou < iou).all())


def test_the_response_to_the_same_picture_does_not_differ(guide: Guide) -> None:
    night, day = pictures(2), pictures(2, seed=1)
    assert guide.disagreement(day, day).tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    leaves = [image.requires_grad_() for image in night]
    values = guide.disagreement(leaves, [image.requires_grad_() for image in day])
    assert bool((values > 0).all())
    values.sum().backward()
    assert all(image.grad is not None for image in leaves)
    assert all(image.grad is None for image in day)


def test_threads_do_not_see_each_others_pictures(guide: Guide) -> None:
    assert guide.thread_safe

    def both(n: int) -> list[float]:
        night, day = pictures(1, seed=n), pictures(1, seed=n + 100)
        terms = guide.losses(night, [boxes((10, 10, 40, 50))])
        response = guide.disagreement(night, day)
        return [float(value) for value in (*terms.values(), response)]

    alone = [both(n) for n in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(both, range(12))) == [pytest.approx(one) for one in alone]


def test_boxes_are_in_pixels_of_each_image(
    example: Any, guide: Guide, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = perfect(example, (6, 10), 0.2, 3)
    monkeypatch.setattr(guide, "_forward", lambda images: answer[None].repeat(len(images), 1, 1, 1))
    (found,) = guide.detect([torch.zeros(3, 220, 440)])
    best = found.boxes[found.scores > 0.9]
    assert best.shape == (1, 4)  # four cells say the same: suppressed
    assert best[0].tolist() == pytest.approx([166.0, 43.0, 254.0, 87.0], abs=0.5)
    assert int(found.labels[0]) == 3


def test_weights_must_be_named(example: Any) -> None:
    with pytest.raises(UsageError, match=r"name the file FastestDet\.onnx"):
        example.build(None, None)


def test_the_published_file_is_a_guide(example: Any, repository: Path) -> None:
    path = repository.parent / "shared" / "data" / "detectors" / "FastestDet.onnx"
    if not os.path.exists(path):
        pytest.skip("FastestDet.onnx is not beside the repository")
    guide = example.build(str(path), None)
    freeze(guide)
    terms = guide.losses(pictures(2), [NOTHING, boxes((10, 10, 40, 50))])
    assert all(value.shape == (2,) and bool(value.isfinite().all()) for value in terms.values())
    assert guide.disagreement(pictures(1), pictures(1)).tolist() == pytest.approx([0.0], abs=1e-4)
