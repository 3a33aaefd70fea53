"""RT-DETR and D-FINE keep every guide's promises, and compute what transformers computes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import interpolate

from rawisp.detect import Guide, Target, create_guide, freeze, guide_names, save_guide, weights_hash
from rawisp.detect.base import thaw
from rawisp.detect.settings import GuideSettings
from rawisp.detect.transformers_models import TransformersGuide, build, coco_categories
from rawisp.detect.transformers_zoo import PUBLISHED, Published
from rawisp.errors import CheckpointError, UsageError

transformers = pytest.importorskip("transformers")
pytest.importorskip("scipy")

CLASSES = ("person", "bicycle", "car")
KINDS = ("RTDetr", "RTDetrV2", "DFine")
RESNET = {
    "model_type": "rt_detr_resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_indices": [2, 3, 4],
}
HGNET = {
    "model_type": "hgnet_v2",
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 16, 16, 24],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [16, 16, 24, 32],
    "hidden_sizes": [16, 16, 24, 32],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [1, 1, 1, 1],
    "out_indices": [2, 3, 4],
}


def settings_of(kind: str) -> dict[str, Any]:
    """0.1 M parameters; twelve queries."""
    return {
        "backbone_config": HGNET if kind == "DFine" else RESNET,
        "encoder_in_channels": [16, 24, 32],
        "encoder_hidden_dim": 32,
        "encoder_ffn_dim": 32,
        "encoder_attention_heads": 2,
        "hidden_expansion": 0.5,
        "d_model": 32,
        "num_queries": 12,
        "decoder_in_channels": [32, 32, 32],
        "decoder_ffn_dim": 32,
        "decoder_layers": 2,
        "decoder_attention_heads": 2,
    }


@pytest.fixture(autouse=True)
def small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """One name for each kind, in place of those that are published."""
    for kind in KINDS:
        one = Published(kind, "rawisp-tests/no-such-detector", settings_of(kind))
        monkeypatch.setitem(PUBLISHED, kind, one)


def small(kind: str, size: tuple[int, int] = (128, 96)) -> Any:
    """With random weights that let signals through: the library's are made for training."""
    torch.manual_seed(0)
    guide: Any = GuideSettings(kind, "random", CLASSES, size).create()
    for module in guide.modules():
        if hasattr(module, "running_mean"):
            module.weight.data.fill_(1.0)
            module.running_mean.normal_(0.0, 0.1)
    for parameter in guide.parameters():
        if parameter.dim() > 1:
            torch.nn.init.kaiming_normal_(parameter)
    freeze(guide)
    return guide


def scene() -> tuple[list[torch.Tensor], list[Target]]:
    """Pictures that lie and that stand, one without objects."""
    generator = torch.Generator().manual_seed(1)
    sizes = ((64, 96), (96, 64), (64, 96), (150, 200))
    images = [torch.rand(3, *size, generator=generator) for size in sizes]
    some = Target(torch.tensor([[10.0, 12.0, 42.0, 50.0]]), torch.tensor([1]))
    nothing = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    boxes = torch.tensor([[5.0, 5.0, 30.0, 60.0], [20.0, 8.0, 60.0, 40.0]])
    return images, [some, nothing, Target(boxes, torch.tensor([3, 2])), some]


def scaled(image: torch.Tensor) -> torch.Tensor:
    """To the working size, (1, 3, 96, 128)."""
    return interpolate(image[None], (96, 128), mode="bilinear", antialias=True)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_per_image_and_independent_of_the_batch(kind: str) -> None:
    guide = small(kind)
    images, targets = scene()
    images = [image.requires_grad_(True) for image in images]
    together = guide.losses(images, targets)
    assert set(together) == {"vfl", "bbox", "giou"}
    gradients = torch.autograd.grad(torch.stack(list(together.values())).sum(), images)
    for n, image in enumerate(images):
        alone = guide.losses([image], targets[n : n + 1])
        for term, values in together.items():
            assert values.shape == (len(images),) and values.dtype == torch.float32
            torch.testing.assert_close(values[n : n + 1], alone[term], atol=1e-4, rtol=1e-3)
        # PyTorch's BatchNorm would fail this, see _ask_for_plain_gradient.
        (gradient,) = torch.autograd.grad(torch.stack(list(alone.values())).sum(), [image])
        torch.testing.assert_close(gradients[n], gradient, atol=1e-3, rtol=1e-2)
    empty = {term: values[1].item() for term, values in together.items()}
    assert empty["bbox"] == empty["giou"] == 0.0 < empty["vfl"]
    assert guide.losses([], []) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_the_sum_is_the_librarys_own_loss(kind: str) -> None:
    guide = small(kind)
    images, targets = scene()
    image, target = images[2], targets[2]
    left, top, right, bottom = (target.boxes / torch.tensor([96.0, 64.0, 96.0, 64.0])).unbind(1)
    sides = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    labels = [{"class_labels": torch.tensor([2, 1]), "boxes": torch.stack(sides, 1)}]
    with torch.no_grad():
        ours = torch.stack(list(guide.losses([image], [target]).values())).sum()
        theirs = guide.model(scaled(image), labels=labels).loss
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_image_and_nothing_else_moves(kind: str) -> None:
    guide = small(kind)
    before = weights_hash(guide)
    images, targets = scene()
    with torch.inference_mode():  # what the library keeps from here must serve gradients too
        guide.detect(images)
    images = [image.requires_grad_(True) for image in images]
    random_state = torch.get_rng_state()
    terms = guide.losses(images, targets)
    torch.stack(list(terms.values())).sum().backward()
    for image in images:
        assert image.grad is not None
        assert bool(torch.isfinite(image.grad).all())
        assert float(image.grad.abs().max()) > 1e-3
    assert all(p.grad is None for p in guide.parameters())
    again = guide.train().losses(images, targets)  # a careless caller's flag
    for term, values in terms.items():
        assert torch.equal(values, again[term])
    assert torch.equal(torch.get_rng_state(), random_state)
    assert weights_hash(guide) == before


@pytest.mark.parametrize("kind", KINDS)
def test_steps_on_the_image_lower_the_loss(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # As many queries as there are places, so that no step changes which of them are looked at.
    settings = settings_of(kind) | {"num_queries": 84}
    monkeypatch.setitem(PUBLISHED, kind, Published(kind, "", settings))
    guide = small(kind, (64, 64))
    images, targets = scene()
    image, target = images[0].requires_grad_(True), targets[0]
    optimizer = torch.optim.Adam([image], lr=0.003)
    values = []
    for _ in range(12):
        loss = torch.stack(list(guide.losses([image], [target]).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.95 * values[0]


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_is_borne(kind: str) -> None:
    guide = small(kind)
    images, targets = scene()
    image = images[0].requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        terms = guide.losses([image], targets[:1])
    torch.stack(list(terms.values())).sum().backward()
    exact = guide.losses([image], targets[:1])
    assert image.grad is not None and bool(torch.isfinite(image.grad).all())
    for term, value in terms.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[term], atol=0.5, rtol=0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_detections_are_the_librarys_cut_to_the_image(kind: str) -> None:
    guide = small(kind)
    images, _ = scene()
    for image, found in zip(images, guide.detect(images), strict=True):
        height, width = image.shape[1:]
        assert 0 < len(found.scores) <= 12
        assert found.boxes.shape == (len(found.scores), 4)
        assert bool((found.boxes[:, 2:] > found.boxes[:, :2]).all())
        assert float(found.boxes.min()) >= 0.0
        assert float(found.boxes[:, [0, 2]].max()) <= width
        assert float(found.boxes[:, [1, 3]].max()) <= height
        assert bool((found.scores.diff() <= 0.0).all()) and float(found.scores[0]) <= 1.0
        assert set(found.labels.tolist()) <= {1, 2, 3}
    processor = transformers.RTDetrImageProcessor(size={"height": 96, "width": 128})
    pixels = scaled(images[3])
    with torch.no_grad():
        outputs = guide.model(pixels)
    (theirs,) = processor.post_process_object_detection(outputs, 0.0, [(150, 200)])
    cut = theirs["boxes"].clamp(min=0.0).minimum(torch.tensor([200.0, 150.0, 200.0, 150.0]))
    some = (cut[:, 2:] > cut[:, :2]).all(dim=1)
    (ours,) = guide.detect([images[3]])
    torch.testing.assert_close(ours.scores, theirs["scores"][some], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.boxes, cut[some], atol=1e-3, rtol=1e-4)
    assert torch.equal(ours.labels, theirs["labels"][some] + 1)
    whole = (images[3] * 255.0).round().to(torch.uint8)
    given = processor(images=whole, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(given, pixels, atol=1.6 / 255.0, rtol=0.0)  # it may round twice


@pytest.mark.parametrize("kind", KINDS)
def test_weights_come_back_from_files_and_folders(kind: str, tmp_path: Path) -> None:
    guide = small(kind)
    images, _ = scene()
    (before, *_) = guide.detect(images[:1])
    save_guide(guide, kind, tmp_path / "own.safetensors")
    guide.model.save_pretrained(tmp_path / "folder")
    torch.save(guide.model.state_dict(), tmp_path / "state.pth")
    for place, classes in (
        ("own.safetensors", None),
        ("folder", ("a", "b", "c")),
        ("folder/model.safetensors", CLASSES),
        ("state.pth", CLASSES),
    ):
        again: Any = create_guide(kind, tmp_path / place, categories=classes)
        assert again.categories == (None, *(classes or CLASSES))
        again.work_at((128, 96))
        assert not again.training
        (after,) = again.detect(images[:1])
        assert torch.equal(after.scores, before.scores) and torch.equal(after.boxes, before.boxes)


def test_names_of_classes_come_from_the_configuration(tmp_path: Path) -> None:
    old = {"motorcycle": "motorbike", "tv": "tvmonitor", "couch": "sofa"}
    guide = build("DFine", [old.get(name, name) for name in coco_categories()])
    assert guide.label_of("motorbike") == 4
    guide.model.save_pretrained(tmp_path)
    again = create_guide("DFine", tmp_path)
    assert again.categories == (None, *coco_categories())
    assert again.label_of("motorcycle") == 4
    with pytest.raises(UsageError, match="names 3 classes; the detector has 80"):
        create_guide("DFine", tmp_path, categories=CLASSES)


def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path: Path) -> None:
    guide = small("RTDetr")
    guide.model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    with pytest.raises(
        CheckpointError, match=r"tensors are mismatched, such as .*--detector-classes$"
    ):
        create_guide("RTDetr", file)
    with pytest.raises(CheckpointError, match=r"does not fit DFine \("):
        create_guide("DFine", file, categories=CLASSES)
    with pytest.raises(CheckpointError, match=r"does not fit DFine \(.* is of type rt_detr\)"):
        create_guide("DFine", tmp_path)
    tensors = guide.model.state_dict()
    tensors["model.other.weight"] = torch.zeros(1)
    torch.save(tensors, tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match=r"1 tensors are unexpected, such as model\.other"):
        create_guide("RTDetr", tmp_path / "more.pth", categories=CLASSES)
    torch.save({"a": torch.zeros(1)}, tmp_path / "less.pth")
    with pytest.raises(CheckpointError, match=r"tensors are missing, such as "):
        create_guide("RTDetr", tmp_path / "less.pth", categories=CLASSES)
    with pytest.raises(CheckpointError, match="no such file"):
        create_guide("RTDetr", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="does not fit RTDetr"):
        create_guide("RTDetr", tmp_path / "empty")


def test_no_network_and_no_library_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"^RTDetr: .*no-such-detector\) cannot be downloaded \("):
        create_guide("RTDetr")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install .*'transformers>=.*'scipy>="):
        create_guide("rtdetr_r18", "random")


def test_the_size_is_checked() -> None:
    guide = small("RTDetr")
    assert guide.size == (128, 96)
    with pytest.raises(UsageError, match="--detector-size 100x96: this detector needs multiples"):
        guide.work_at((100, 96))
    with pytest.raises(UsageError, match="too small for the 300 queries"):
        GuideSettings("dfine_n", "random", CLASSES, (224, 224)).create()


def test_the_constants_of_dfine_stay_constants() -> None:
    guide = small("DFine")
    thaw(guide)
    still = [name for name, p in guide.named_parameters() if not p.requires_grad]
    assert still == ["model.model.decoder.reg_scale", "model.model.decoder.up"]


# Megabytes of the published files, as their pages say: the configurations are the published ones.
PUBLISHED_MB = {
    "rtdetr_r18": 80.9,
    "rtdetr_r101": 307.0,
    "rtdetr_v2_r34": 126.0,
    "dfine_n": 15.3,
    "dfine_s": 41.5,
    "dfine_m": 78.7,
    "dfine_l": 126.0,
    "dfine_x": 252.0,
}


@pytest.mark.parametrize("name", PUBLISHED_MB)
def test_configurations_have_the_published_sizes(name: str) -> None:
    with torch.device("meta"):
        guide = build(name)
    tensors = [*guide.model.parameters(), *guide.model.buffers()]
    megabytes = 4e-6 * sum(t.numel() for t in tensors)
    assert megabytes == pytest.approx(PUBLISHED_MB[name], rel=0.005, abs=0.15)
    assert guide.categories[1:4] == ("person", "bicycle", "car") and len(guide.categories) == 81


def test_names_are_listed() -> None:
    assert {"rtdetr_r18", "rtdetr_v2_r18", "dfine_s"} < set(guide_names())
    guide: Guide = build("DFine", CLASSES)
    assert isinstance(guide, TransformersGuide)
    assert json.loads(json.dumps(guide.configuration))["num_queries"] == 12


def test_one_file_knows_transformers() -> None:
    root = Path(__file__).parents[3]
    users = {
        path.name
        for top in ("rawisp", "cli", "kernels")
        for path in (root / top).rglob("*.py")
        if re.search(r"^\s*(import|from) transformers\b", path.read_text(), re.MULTILINE)
    }
    assert users == {"transformers_models.py"}
