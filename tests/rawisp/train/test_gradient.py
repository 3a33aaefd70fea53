"""The gradient of a batch taken in threads, one image each, is that of the batch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from torch import Tensor

from rawisp.detect import create_guide, freeze
from rawisp.detect.base import Target
from rawisp.isp.base import Isp
from rawisp.isp.registry import create_isp
from rawisp.train.gradient import StepLoss, gradients, mixes_images, pieces_at_once
from rawisp.train.step import Step
from tests.rawisp.train.toy import Brightness

CPU = torch.device("cpu")


def losses_of(isp: Isp) -> list[Callable[[], StepLoss]]:
    """Of five images and their boxes with `tiny`, each by itself."""
    guide = create_guide("tiny")
    freeze(guide)
    step = Step(isp.train(), guide, color_weight=0.1)
    generator = torch.Generator().manual_seed(0)
    target = Target(torch.tensor([[10.0, 8.0, 40.0, 44.0]]), torch.tensor([1]))

    def loss(image: Tensor) -> StepLoss:
        terms = step([image], [target])
        total = torch.stack(list(terms.values())).sum()
        return StepLoss(total, {"all": float(total.detach())}, 1)

    images = [torch.rand(3, 48, 64, generator=generator) ** 3 for _ in range(5)]
    return [partial(loss, image) for image in images]


def taken(name: str, at_once: int) -> tuple[list[float], list[Tensor]]:
    """(losses, gradients) with that many threads."""
    torch.manual_seed(0)
    isp = create_isp(name)
    parameters = [p for p in isp.parameters() if p.requires_grad]
    with gradients(at_once) as adder:
        told = adder.add(losses_of(isp), parameters, 0.2)
    assert all(not one.total.requires_grad for one in told)
    return [one.sums["all"] for one in told], [p.grad for p in parameters if p.grad is not None]


@pytest.mark.parametrize("name", ["staged", "genisp", "ta-isp", "film-unet"])
def test_threads_add_up_the_same_gradient(name: str) -> None:
    losses, one_by_one = taken(name, 1)
    in_threads, side_by_side = taken(name, 3)
    assert in_threads == pytest.approx(losses, rel=1e-5)
    assert len(one_by_one) == len(side_by_side) > 0
    for a, b in zip(one_by_one, side_by_side, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5 * float(a.abs().max()) + 1e-7)


def test_the_sum_does_not_depend_on_which_thread_is_first() -> None:
    first = taken("staged", 3)
    for _ in range(3):
        again = taken("staged", 3)
        assert again[0] == first[0]
        assert all(torch.equal(a, b) for a, b in zip(first[1], again[1], strict=True))


def test_the_first_pieces_exception_is_raised() -> None:
    weight = torch.ones((), requires_grad=True)

    def loss(n: int) -> StepLoss:
        if n in (2, 4):
            raise ValueError(f"piece {n}")
        return StepLoss(weight * n, {}, 1)

    with gradients(2) as adder, pytest.raises(ValueError, match="piece 2"):
        adder.add([partial(loss, n) for n in range(6)], [weight], 1.0)


def test_only_guides_that_say_so_are_asked_by_several_threads() -> None:
    isp, tiny, toy = create_isp("staged"), create_guide("tiny"), Brightness()
    threads = torch.get_num_threads()
    assert pieces_at_once(isp, tiny, CPU, 64) == threads
    assert pieces_at_once(isp, tiny, CPU, 1) == 1
    assert pieces_at_once(isp, toy, CPU, 64) == 1
    assert pieces_at_once(isp, tiny, torch.device("cuda"), 64) == 1


def test_batch_norm_keeps_a_batch_together() -> None:
    assert mixes_images(create_isp("simrod"))
    assert not mixes_images(create_isp("film-unet"))
    assert pieces_at_once(create_isp("simrod"), create_guide("tiny"), CPU, 64) == 1


def test_threads_that_begin_later_have_all_of_pytorchs_threads() -> None:
    before = torch.get_num_threads()
    weight = torch.ones((), requires_grad=True)
    with gradients(2) as adder:
        adder.add([lambda: StepLoss(weight * 2, {}, 1)] * 4, [weight], 1.0)
        assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == before
    assert weight.grad is not None and weight.grad.item() == 8.0
