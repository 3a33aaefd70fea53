"""Files of weights as training scripts leave them, and the guides that are made of them."""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rawisp.detect import Guide, create_guide, save_guide, weights_hash
from rawisp.errors import CheckpointError

NAMES = ("person", "bicycle", "car")


def trained(seed: int) -> Guide:
    torch.manual_seed(seed)
    return create_guide("tiny", "random", categories=NAMES)


def state(guide: Guide, prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in guide.model.state_dict().items()}  # type: ignore[operator, union-attr]


WRAPPED: dict[str, Callable[[Guide, Guide], Any]] = {
    "a state dict": lambda g, _: state(g),
    "DataParallel": lambda g, _: state(g, "module."),
    "Lightning": lambda g, _: {"state_dict": state(g, "model."), "epoch": 3},
    "torch.compile in DataParallel": lambda g, _: {"model": state(g, "module._orig_mod.")},
    "torchvision's references": lambda g, _: {
        "model": state(g),
        "optimizer": {"state": {}, "param_groups": []},
        "args": argparse.Namespace(lr=0.02, output_dir=Path("out")),
        "epoch": 25,
    },
    "an average": lambda g, other: {"ema": state(g), "model": state(other)},
    "RT-DETR's average": lambda g, other: {"ema": {"module": state(g)}, "model": state(other)},
    "torchvision's average": lambda g, other: {
        "model": state(other),
        "model_ema": {"n_averaged": torch.tensor(5), **state(g, "module.")},
        "args": argparse.Namespace(model_ema=True),
    },
    "no average after all": lambda g, _: {"ema": None, "model": state(g)},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_weights_are_found_however_they_are_wrapped(kind: str, tmp_path: Path) -> None:
    guide, other = trained(1), trained(2)
    path = tmp_path / "weights.pth"
    torch.save(WRAPPED[kind](guide, other), path)
    loaded = create_guide("tiny", path, categories=NAMES)
    assert weights_hash(loaded) == weights_hash(guide) != weights_hash(other)
    averaged = kind.endswith("average")
    assert any("averaged ones are taken" in note for note in loaded.notes) == averaged


def test_an_average_of_parameters_alone_is_filled_up_from_the_model(tmp_path: Path) -> None:
    guide, other = trained(1), trained(2)
    missing = "backbone.stem.0.0.weight"
    average = {name: value for name, value in state(guide).items() if name != missing}
    torch.save({"ema": average, "model": state(other, "module.")}, tmp_path / "w.pth")
    loaded = create_guide("tiny", tmp_path / "w.pth", categories=NAMES)
    found = loaded.model.state_dict()  # type: ignore[operator, union-attr]
    assert torch.equal(found[missing], state(other)[missing])
    assert all(torch.equal(found[name], value) for name, value in average.items())


def test_a_prefix_that_belongs_to_the_names_stays(tmp_path: Path) -> None:
    guide = trained(1)
    torch.save(state(guide, "net."), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="does not fit tiny"):
        create_guide("tiny", tmp_path / "w.pth", categories=NAMES)


def test_a_transformers_model_keeps_its_own_first_name() -> None:
    from rawisp.detect.weights import unwrapped

    one = torch.zeros(1)
    own = {"model.backbone.w": one, "model.decoder.w": one}
    assert unwrapped(own).keys() == own.keys()
    wrapped = {f"module.model.{name}": one for name in (*own, "class_embed.w")}
    assert unwrapped(wrapped).keys() == {*own, "class_embed.w"}


def test_files_without_weights_say_so(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="no weights in it, only epoch, lr"):
        create_guide("tiny", tmp_path / "w.pth", categories=NAMES)
    with pytest.raises(CheckpointError, match="there is no such file of weights"):
        create_guide("tiny", tmp_path / "none.pth")


class DetectionModel(nn.Module):
    """Stands for ultralytics' class of this name."""


DetectionModel.__module__ = "ultralytics.nn.tasks"


def test_a_pickled_program_of_ultralytics_is_pointed_to_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.tasks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["ultralytics.nn.tasks"].DetectionModel = DetectionModel  # type: ignore[attr-defined]
    torch.save({"model": DetectionModel(), "ema": None}, tmp_path / "yolo.pt")
    with pytest.raises(CheckpointError, match=r"examples/ultralytics_yolo\.py opens it"):
        create_guide("tiny", tmp_path / "yolo.pt")


class Scales(Guide):
    """A guide of one's own with something to learn."""

    categories = ("thing",)

    def __init__(self, start: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(start))

    def losses(self, images: Any, targets: Any) -> dict[str, torch.Tensor]:
        return {"scale": torch.stack([self.scale * image.mean() for image in images])}

    def detect(self, images: Any) -> list[Any]:
        return []


@pytest.fixture
def own_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, Any]]]:
    calls: list[tuple[Any, Any]] = []

    def build(weights: str | None, categories: Any) -> Scales:
        calls.append((weights, categories))
        return Scales(float(Path(weights).read_text()) if weights else 0.0)

    module = types.ModuleType("own_guide")
    module.build = build  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_guide", module)
    yield calls


def test_a_guide_of_ones_own_is_saved_and_made_again(
    own_module: list[tuple[Any, Any]], tmp_path: Path
) -> None:
    first = tmp_path / "first.txt"
    first.write_text("2.5")
    guide = create_guide("own_guide:build", first)
    with torch.no_grad():
        guide.scale.add_(1.0)  # type: ignore[operator, union-attr]
    path = tmp_path / "detector.safetensors"
    save_guide(guide, "own_guide:build", path, begun_with=first, classes=("thing",))
    again = create_guide("own_guide:build", path)
    assert own_module[-1] == (str(first), ["thing"])
    assert again.scale.tolist() == 3.5  # type: ignore[operator, union-attr]
    with pytest.raises(CheckpointError, match="holds the weights of own_guide:build, not of tiny"):
        create_guide("tiny", path)
    first.unlink()
    with pytest.raises(CheckpointError, match=r"first\.txt, which own_guide:build needs"):
        create_guide("own_guide:build", path)
