"""The example for ultralytics' YOLO, around a stand-in for the module of that name.

ultralytics itself is AGPL-3.0 and not installed here; where it is, the example is tried with it.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rawisp.detect import Guide, Target, create_guide, freeze, weights_hash
from rawisp.errors import UsageError

NAMES = {0: "person", 1: "car"}


class Model(nn.Module):
    """As much of a detection model as the example asks for: what lies under the boxes is its loss,
    and it finds one car and one person at known places of the padded picture."""

    def __init__(self, end_to_end: bool = False) -> None:
        super().__init__()
        self.stride = torch.tensor([8.0, 16.0, 32.0])
        self.weight = nn.Parameter(torch.ones(3))
        self.norm = nn.BatchNorm2d(3)
        self.end_to_end = end_to_end
        self.args: Any = {"box": 7.5}
        self.batches: list[dict[str, Tensor]] = []

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        assert self.args.box == 7.5  # attributes, as its criterion wants them
        self.batches.append(batch)
        picture = self.norm(batch["img"])
        terms = torch.stack([(picture.mean(dim=(0, 2, 3)) * self.weight).sum(), picture.mean()])
        return terms * len(batch["img"]), terms.detach()

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        car, person = [200.0, 100.0, 40.0, 20.0], [300.0, 200.0, 20.0, 60.0]
        if self.end_to_end:
            rows = [[180.0, 90, 220, 110, 0.9, 1], [290.0, 170, 310, 230, 0.8, 0]]
            return x.new_tensor([rows]), None
        columns = [[*car, 0.1, 0.9], [*person, 0.8, 0.0], [*car, 0.0, 0.7], [*person, 0.0, 0.0]]
        return x.new_tensor(columns).T[None], None


@pytest.fixture
def module(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example, with a stand-in for ultralytics."""
    stand_in = types.ModuleType("ultralytics")
    utilities = types.ModuleType("ultralytics.utils")

    def opened(weights: str) -> Any:
        task = "segment" if "seg" in weights else "detect"
        torch.manual_seed(0)
        return types.SimpleNamespace(model=Model("e2e" in weights), names=NAMES, task=task)

    stand_in.YOLO = opened  # type: ignore[attr-defined]
    utilities.DEFAULT_CFG = types.SimpleNamespace(box=7.5)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ultralytics", stand_in)
    monkeypatch.setitem(sys.modules, "ultralytics.utils", utilities)
    path = repository / "examples" / "ultralytics_yolo.py"
    spec = importlib.util.spec_from_file_location("ultralytics_yolo", path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ultralytics_yolo", loaded)
    spec.loader.exec_module(loaded)
    yield loaded


def guide_of(weights: str = "yolo.pt", **options: Any) -> Guide:
    guide = create_guide("ultralytics_yolo:build", weights, **options)
    freeze(guide)
    return guide


@pytest.mark.usefixtures("module")
def test_boxes_reach_the_model_where_they_lie_in_the_padded_picture() -> None:
    guide = guide_of()
    image = torch.full((3, 300, 600), 0.5)
    target = Target(torch.tensor([[60.0, 30.0, 120.0, 90.0]]), torch.tensor([1]))
    guide.losses([image], [target])
    (batch,) = guide.model.batches  # type: ignore[union-attr]
    # 600x300 becomes 640x320, which needs no padding: a multiple of 32 on both sides.
    assert batch["img"].shape == (1, 3, 320, 640)
    torch.testing.assert_close(batch["bboxes"], torch.tensor([[0.15, 0.2, 0.1, 0.2]]))
    assert batch["cls"].tolist() == [[1.0]] and batch["batch_idx"].tolist() == [0.0]
    guide.losses([torch.zeros(3, 280, 600)], [target])
    batch = guide.model.batches[1]  # type: ignore[union-attr, index]
    # 600x280 becomes 640x299, padded to 320: 10 rows above, 11 below.
    assert batch["img"].shape == (1, 3, 320, 640)
    assert batch["img"][0, 0, :, 5].tolist() == pytest.approx(
        [114 / 255] * 10 + [0.0] * 299 + [114 / 255] * 11
    )
    middle = (60.0 * 640 / 600 + 10) / 320
    assert float(batch["bboxes"][0, 1]) == pytest.approx(middle, abs=1e-6)


@pytest.mark.usefixtures("module")
def test_losses_are_each_images_own_and_reach_it_and_leave_the_model_alone() -> None:
    guide = guide_of()
    before = weights_hash(guide)
    images = [torch.rand(3, 40, 60, requires_grad=True), torch.rand(3, 50, 30)]
    nothing = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    both = guide.losses(images, [nothing, nothing])["yolo"]
    alone = guide.losses(images[1:], [nothing])["yolo"]
    assert both.shape == (2,)
    torch.testing.assert_close(both[1], alone[0])
    both.sum().backward()  # type: ignore[no-untyped-call]
    assert images[0].grad is not None and float(images[0].grad.abs().sum()) > 0.0
    assert weights_hash(guide) == before


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("weights", ["yolo.pt", "yolo_e2e.pt"])
def test_boxes_come_back_in_pixels_of_the_image(weights: str) -> None:
    guide = guide_of(weights)
    (found,) = guide.detect([torch.zeros(3, 160, 320)])  # scaled by two, without padding
    torch.testing.assert_close(
        found.boxes, torch.tensor([[90.0, 45, 110, 55], [145.0, 85, 155, 115]])
    )
    assert [guide.categories[n] for n in found.labels.tolist()] == ["car", "person"]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    (narrow,) = guide.detect([torch.zeros(3, 40, 320)])  # what lies in the padding is cut
    assert float(narrow.boxes[:, 1::2].max()) <= 40.0


@pytest.mark.usefixtures("module")
def test_names_of_ones_own_and_mistakes() -> None:
    assert guide_of(categories=("pedestrian", "vehicle")).categories == ("pedestrian", "vehicle")
    with pytest.raises(UsageError, match="has 2 classes, but 1 are named"):
        guide_of(categories=("pedestrian",))
    with pytest.raises(UsageError, match="is a model for segment"):
        guide_of("yolo_seg.pt")
    with pytest.raises(UsageError, match=r"name a \.pt of ultralytics"):
        create_guide("ultralytics_yolo:build")


def test_without_ultralytics_it_is_said_how_to_get_it(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(UsageError, match=r"AGPL-3\.0 and not part of rawisp; run: pip install"):
        module.build("yolo.pt", None)
