"""The terms that are minimised, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from rawisp.detect import Detections, Guide, Target
from rawisp.isp.registry import create_isp
from rawisp.train.gradient import in_pieces
from rawisp.train.loader import Batch
from rawisp.train.step import Step, grey_world, likeness, render

NOTHING = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


class Mean(Guide):
    """Its loss is the mean of the picture."""

    categories = ("x",)

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        return {"mean": torch.stack([image.mean() for image in images])}

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        raise NotImplementedError


def test_the_grey_world_term_is_the_papers_equation() -> None:
    image = torch.tensor([0.5, 0.2, 0.1]).view(3, 1, 1).expand(3, 4, 5)
    assert float(grey_world(image)) == pytest.approx(0.3 + 0.4 + 0.1)


def test_all_terms_are_per_image_and_weighted() -> None:
    isp = create_isp("staged", gamma=1.0, input_color="camera").eval()
    images = [torch.full((3, 8, 8), 0.2), torch.full((3, 6, 9), 0.4)]
    days = [torch.full((3, 8, 8), 0.5), None]
    terms = Step(isp, Mean(), color_weight=2.0, day_weight=10.0)(images, [NOTHING] * 2, days)
    assert terms["mean"].tolist() == pytest.approx([0.2, 0.4], abs=1e-5)
    assert terms["color"].tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    assert terms["day"].tolist() == pytest.approx([6.0, 0.0], abs=1e-4)


def test_likeness_counts_brightness_and_colour_more_than_details() -> None:
    day = torch.rand(3, 50, 61) * 0.5
    noisy = day.clone()
    noisy[:, :48, :60] += torch.tensor([[0.1, -0.1], [-0.1, 0.1]]).repeat(24, 30)
    everywhere = 48 * 60 / (50 * 61)
    assert float(likeness(noisy, day)) == pytest.approx(0.1 * everywhere, abs=2e-3)
    assert float(likeness(day + 0.1, day)) == pytest.approx(0.2, abs=1e-4)
    assert float(likeness(day[:, :5, :7], day[:, :5, :7] * 0.0)) > 0.0


@pytest.mark.parametrize("name", ["film-unet", "staged-unet"])
def test_amp_has_encoded_modules_compute_in_bfloat16(name: str) -> None:
    torch.manual_seed(0)
    isp = create_isp(name)
    for p in isp.parameters():  # last layers begin with zeros
        torch.nn.init.normal_(p, std=0.02) if not p.any() else None
    images = [torch.rand(3, 40, 56) * 0.02, torch.rand(3, 33, 47) * 0.02]
    exact = render(isp, images)
    computed: set[torch.dtype] = set()
    for module in isp.modules():
        if isinstance(module, torch.nn.Conv2d) and module.in_channels > 6:
            module.register_forward_hook(lambda m, x, y: computed.add(y.dtype))
    Step(isp, Mean(), amp=True)
    rounded = render(isp, images)
    assert torch.bfloat16 in computed
    for a, b in zip(exact, rounded, strict=True):
        assert b.dtype == torch.float32
        assert 0.0 < float((a - b).detach().abs().max()) < 0.02
    torch.stack([y.mean() for y in rounded]).sum().backward()
    grads = [p.grad for p in isp.parameters() if p.grad is not None]
    assert grads and all(bool(g.isfinite().all()) for g in grads)
    isp.load_state_dict(isp.state_dict())


def test_rendering_groups_by_size_and_keeps_the_order() -> None:
    isp = create_isp("demosaic")
    images = [torch.full((3, h, w), v) for h, w, v in ((4, 5, 0.1), (5, 4, 0.2), (4, 5, 0.3))]
    for image, y in zip(images, render(isp, images), strict=True):
        assert torch.equal(image, y)


def test_what_is_cut_can_come_back() -> None:
    isp = create_isp("demosaic").train()
    x = torch.tensor([-0.5, 0.5, 1.5]).view(3, 1, 1).repeat(1, 2, 2).requires_grad_(True)
    (y,) = render(isp, [x])
    assert y[:, 0, 0].tolist() == [0.0, 0.5, 1.0]
    (towards_grey,) = torch.autograd.grad(((y - 0.5) ** 2).sum(), x)
    assert float(towards_grey[0, 0, 0]) < 0 < float(towards_grey[2, 0, 0])
    (y,) = render(isp, [x])
    (outwards,) = torch.autograd.grad((-((y - 0.5) ** 2)).sum(), x)
    assert float(outwards[0].abs().max()) == float(outwards[2].abs().max()) == 0.0


def test_pieces_are_the_batch_in_order() -> None:
    images = [torch.full((3, 2, 2), float(n)) for n in range(5)]
    batch = Batch(images, [NOTHING] * 5, [str(n) for n in range(5)], by_day=[None] * 5)
    pieces = in_pieces(batch, 2)
    assert [piece.names for piece in pieces] == [["0", "1"], ["2", "3"], ["4"]]
    assert [len(p.images) + len(p.targets) + len(p.by_day) for p in pieces] == [6, 6, 3]
    assert in_pieces(Batch([], [], []), 2) == [Batch([], [], [])]
