"""How apart two pictures are for a detector: the formula, and every guide that offers it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rawisp.detect import Guide, create_guide, features_apart, freeze
from rawisp.detect.settings import GuideSettings

GUIDES = ("tiny", "retinanet_resnet50_fpn", "ssdlite320_mobilenet_v3_large", "dfine_n")


def by_hand(a: Tensor, b: Tensor) -> float:
    """One image, one level, channel by channel."""
    spreads = [float(channel.std(correction=0)) for channel in b]
    least = 0.05 * sum(spreads) / len(spreads) + 1e-12
    total, count = 0.0, 0
    for x, y, spread in zip(a, b, spreads, strict=True):
        for d in ((x - y).abs() / (spread + least)).flatten().tolist():
            total += 0.5 * d * d if d < 1 else d - 0.5
            count += 1
    return total / count


def test_the_formula() -> None:
    torch.manual_seed(0)
    levels = [
        (torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5) * 2),
        (torch.randn(2, 1, 2, 2),) * 2,
    ]
    found = features_apart([a for a, _ in levels], [b for _, b in levels])
    assert found.tolist() == pytest.approx([by_hand(*(t[n] for t in levels[0])) for n in (0, 1)])
    weight = torch.zeros(2, 1, 4, 5)
    assert features_apart([levels[0][0]], [levels[0][1]], weight).tolist() == [0.0, 0.0]


def test_a_level_of_one_cell_or_a_dead_channel_is_no_nan() -> None:
    dead = torch.zeros(1, 2, 1, 1)
    assert bool(features_apart([dead + 1.0], [dead]).isfinite().all())


@pytest.mark.parametrize("name", GUIDES)
def test_guides_tell_pictures_apart(name: str) -> None:
    torch.manual_seed(0)
    guide: Guide
    if name == "dfine_n":
        pytest.importorskip("transformers")
        guide = GuideSettings(name, "random", ("person", "car"), (320, 320)).create()
    elif name == "tiny":
        guide = create_guide(name)
    else:
        guide = create_guide(name, "random", categories=("person", "car"))
        if name.startswith("retina"):
            guide.model.transform.min_size, guide.model.transform.max_size = (96,), 160  # type: ignore[union-attr, assignment]
    for parameter in guide.parameters():  # the libraries' random weights let nothing through
        if parameter.dim() > 1 and name != "tiny":
            torch.nn.init.kaiming_normal_(parameter)
    freeze(guide)
    days = [torch.rand(3, 64, 96), torch.rand(3, 96, 64), torch.rand(3, 64, 96)]
    nights = [day.clone().requires_grad_(True) for day in days[:2]]
    nights.append((days[2] * 0.3).requires_grad_(True))
    apart = guide.disagreement(nights, days)
    assert apart.shape == (3,)
    same, other = apart.detach()[:2], float(apart.detach()[2])
    assert same.tolist() == pytest.approx([0.0, 0.0], abs=1e-4)
    assert other > 0.02
    alone = guide.disagreement(nights[2:], days[2:])
    torch.testing.assert_close(apart[2:], alone, atol=1e-4, rtol=1e-3)
    (gradient,) = torch.autograd.grad(alone.sum(), [nights[2]])
    assert bool(gradient.isfinite().all()) and float(gradient.abs().max()) > 0.0
