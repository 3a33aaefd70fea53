"""What every guide promises, for the built-in ones; and how they are found."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.ops import box_iou

from rawisp.detect import Guide, Target, create_guide, freeze, guide_names, save_guide, weights_hash
from rawisp.detect.categories import category_map
from rawisp.detect.torchvision_models import use_smooth_l1
from rawisp.errors import CheckpointError, UsageError

CLASSES = ("person", "bicycle", "car")
# The others are the same code with other weights; the three families and tiny are all kinds.
KINDS = (
    "tiny",
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "ssdlite320_mobilenet_v3_large",
)


def small(name: str) -> Guide:
    """With random weights, at a small working size."""
    torch.manual_seed(0)
    guide = create_guide(name, "random", categories=CLASSES)
    if name != "tiny" and not name.startswith("ssd"):
        guide.model.transform.min_size, guide.model.transform.max_size = (96,), 160  # type: ignore[union-attr, assignment]
    freeze(guide)
    return guide


def scene() -> tuple[list[torch.Tensor], list[Target]]:
    """Two sizes, one image without objects."""
    generator = torch.Generator().manual_seed(1)
    sizes = ((64, 96), (96, 64), (64, 96))
    images = [torch.rand(3, *size, generator=generator) for size in sizes]
    some = Target(torch.tensor([[10.0, 12.0, 42.0, 50.0]]), torch.tensor([1]))
    boxes = torch.tensor([[5.0, 5.0, 30.0, 60.0], [20.0, 8.0, 60.0, 40.0]])
    other = Target(boxes, torch.tensor([3, 2]))
    nothing = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    return images, [some, nothing, other]


@pytest.mark.parametrize("name", KINDS)
def test_losses_are_per_image_and_independent_of_the_batch(name: str) -> None:
    guide = small(name)
    images, targets = scene()
    together = guide.losses(images, targets)
    for n in range(3):
        alone = guide.losses(images[n : n + 1], targets[n : n + 1])
        for term, values in together.items():
            assert values.shape == (3,)
            torch.testing.assert_close(values[n : n + 1], alone[term], atol=2e-4, rtol=2e-3)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_reach_the_image_and_nothing_else_moves(name: str) -> None:
    guide = small(name)
    before = weights_hash(guide)
    images, targets = scene()
    images = [image.requires_grad_(True) for image in images]
    random_state = torch.get_rng_state()
    terms = guide.losses(images, targets)
    torch.stack(list(terms.values())).sum().backward()
    for image, target in zip(images, targets, strict=True):
        assert image.grad is not None
        assert bool(torch.isfinite(image.grad).all())
        # SSD mines as many negatives as a multiple of the positives: none without objects.
        silent = name.startswith("ssd") and len(target.boxes) == 0
        assert float(image.grad.abs().max()) > 0.0 or silent
    assert all(p.grad is None for p in guide.parameters())
    guide.detect([image.detach() for image in images])
    assert weights_hash(guide) == before
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not guide.training


@pytest.mark.parametrize("name", KINDS)
def test_detections_lie_in_the_image_best_first(name: str) -> None:
    guide = small(name)
    images, _ = scene()
    for image, found in zip(images, guide.detect(images), strict=True):
        height, width = image.shape[1:]
        assert found.boxes.shape == (len(found.scores), 4)
        if len(found.scores):
            assert float(found.boxes.min()) >= 0.0
            assert float(found.boxes[:, [0, 2]].max()) <= width + 1e-3
            assert float(found.boxes[:, [1, 3]].max()) <= height + 1e-3
            assert bool((found.scores.diff() <= 1e-6).all())


def test_retinanets_losses_are_torchvisions_for_one_image() -> None:
    guide = small("retinanet_resnet50_fpn")
    images, targets = scene()
    model: Any = guide.model
    with torch.no_grad():
        ours = guide.losses(images[:1], targets[:1])
        model.training = True  # this flag only: no layer below looks at it but its own
        try:
            theirs = model(images[:1], [{"boxes": targets[0].boxes, "labels": targets[0].labels}])
        finally:
            model.training = False
    for term, value in theirs.items():
        torch.testing.assert_close(ours[term][0], value, atol=1e-5, rtol=1e-4)


def test_smooth_l1_is_genisps_on_divided_deltas() -> None:
    guide = small("retinanet_resnet50_fpn")
    images, targets = scene()
    with torch.no_grad():
        plain = guide.losses(images[:1], targets[:1])
        assert use_smooth_l1(guide)
        smooth = guide.losses(images[:1], targets[:1])
        # Written out from what the model says.
        model: Any = guide.model
        batch, (target,) = model.transform([images[0]], [{"boxes": targets[0].boxes}])
        levels = list(model.backbone(batch.tensors).values())
        said = model.head(levels)["bbox_regression"][0]
        (anchors,) = model.anchor_generator(batch, levels)
    matched = model.proposal_matcher(box_iou(target["boxes"], anchors))
    total, count = 0.0, 0
    for n in torch.nonzero(matched >= 0).squeeze(1).tolist():
        x1, y1, x2, y2 = anchors[n].tolist()
        bx1, by1, bx2, by2 = target["boxes"][matched[n]].tolist()
        width, height = x2 - x1, y2 - y1
        wanted = (
            ((bx1 + bx2) / 2 - (x1 + x2) / 2) / width,
            ((by1 + by2) / 2 - (y1 + y2) / 2) / height,
            math.log((bx2 - bx1) / width),
            math.log((by2 - by1) / height),
        )
        for a, b, divisor in zip(said[n].tolist(), wanted, (0.1, 0.1, 0.2, 0.2), strict=True):
            d = abs(a - b) / divisor
            total += 4.5 * d * d if d < 1 / 9 else d - 1 / 18
        count += 1
    assert count > 0
    assert float(smooth["bbox_regression"]) == pytest.approx(total / count, rel=1e-4)
    assert float(smooth["bbox_regression"]) > 3 * float(plain["bbox_regression"])
    torch.testing.assert_close(smooth["classification"], plain["classification"])


def test_smooth_l1s_beta_is_a_setting() -> None:
    guide = small("retinanet_resnet50_fpn_v2")
    images, targets = scene()
    found = []
    for beta in (1 / 9, 1.0, 10.0):
        use_smooth_l1(guide, beta)
        with torch.no_grad():
            found.append(float(guide.losses(images[:1], targets[:1])["bbox_regression"]))
    assert found[0] > found[1] > found[2] > 0
    with pytest.raises(UsageError, match="must be above 0"):
        use_smooth_l1(guide, 0.0)


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "fcos_resnet50_fpn"])
def test_smooth_l1_is_refused_where_there_is_no_such_loss(name: str) -> None:
    guide = small(name)
    with pytest.raises(UsageError, match="smooth_l1 is for RetinaNets"):
        use_smooth_l1(guide)


def test_an_image_without_boxes_has_a_finite_smooth_l1() -> None:
    guide = small("retinanet_resnet50_fpn")
    use_smooth_l1(guide)
    images, _ = scene()
    nothing = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    with torch.no_grad():
        assert float(guide.losses(images[:1], [nothing])["bbox_regression"]) == 0.0


def test_weights_round_trip_with_their_categories(tmp_path: Path) -> None:
    guide = create_guide("tiny", "random", categories=("fox", "boar"))
    path = tmp_path / "fox.safetensors"
    save_guide(guide, "tiny", path)
    again = create_guide("tiny", path)
    assert again.categories == (None, "fox", "boar")
    assert weights_hash(again) == weights_hash(guide)


def test_a_state_dict_needs_its_classes(tmp_path: Path) -> None:
    guide = create_guide("tiny", "random", categories=("fox",))
    path = tmp_path / "fox.pth"
    torch.save({"model": guide.model.state_dict()}, path)  # type: ignore[union-attr]
    assert create_guide("tiny", path, categories=("fox",)).categories == (None, "fox")
    with pytest.raises(CheckpointError, match=r"does not fit tiny .*--detector-classes"):
        create_guide("tiny", path)


def test_bad_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"nonsense")
    torch.save(object, tmp_path / "b.pth")
    save_guide(create_guide("tiny", "random"), "tiny", tmp_path / "t.safetensors")
    for name, said in (("none.pth", "no such file"), ("a.safetensors", "cannot be read")):
        with pytest.raises(CheckpointError, match=said):
            create_guide("tiny", tmp_path / name)
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        create_guide("tiny", tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="holds the weights of tiny"):
        create_guide("ssdlite320_mobilenet_v3_large", tmp_path / "t.safetensors")
    with pytest.raises(UsageError, match=r"no detector is called 'yolo'; there are tiny, "):
        create_guide("yolo")


def test_a_factory_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_detector.py").write_text(
        "from rawisp.detect import Guide\n"
        "class Mine(Guide):\n"
        "    categories = ('cat',)\n"
        "def build(weights, categories):\n"
        "    guide = Mine()\n"
        "    guide.given = (weights, categories)\n"
        "    return guide\n"
        "def wrong(weights, categories):\n"
        "    return 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    guide = create_guide("my_detector:build", "w.pt", categories=("cat",))
    assert guide.given == ("w.pt", ("cat",))
    with pytest.raises(UsageError, match="returned int; it must return a subclass of"):
        create_guide("my_detector:wrong")
    for name in ("my_detector:none", "no_such_module:build"):
        with pytest.raises(UsageError, match="cannot be imported"):
            create_guide(name)


def test_without_torchvision_the_advice_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UsageError, match=r"pip install .*'torchvision>="):
        create_guide("tiny")


def test_categories_are_matched_by_name() -> None:
    guide = create_guide("tiny", "random", categories=CLASSES)
    assert category_map(("Car", "pedestrian", "dog"), guide).labels.tolist() == [3, 1, -1]
    assert category_map(("Car", "dog"), guide).unknown == ["dog"]
    with pytest.raises(UsageError, match="knows none of the data's categories"):
        category_map(("dog",), guide)


def test_every_name_can_be_built() -> None:
    assert guide_names()[0] == "tiny"
    assert len(set(guide_names())) == len(guide_names())
