"""Choices are drawn as they should be, only they run, only they learn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rawisp.isp.adaptive import operators
from rawisp.isp.adaptive.adaptive_isp import AdaptiveConfig, AdaptiveIsp
from rawisp.train import rollout
from rawisp.train.rollout import (
    STOP,
    apply_choices,
    choice_probabilities,
    decide,
    draw,
    entropy_gap,
    refresh_statistics,
    rollout_mode,
    start_picture,
    thumbnails,
)

from .toy import choose_always


@pytest.fixture
def isp() -> AdaptiveIsp:
    torch.manual_seed(0)
    return AdaptiveIsp(AdaptiveConfig(steps=10, repeat=False))


def pictures(count: int, size: int = 20) -> list[Tensor]:
    torch.manual_seed(1)
    return list(torch.rand(count, 3, size, size))


def test_probabilities_are_mixed_with_chance_among_what_is_open() -> None:
    logits = torch.tensor([[0.0, math.log(3.0), 5.0]])
    barred = torch.tensor([[False, False, True]])
    mixed = choice_probabilities(logits, barred, 0.2)
    torch.testing.assert_close(mixed, torch.tensor([[0.3, 0.7, 0.0]]))  # 0.8 (1/4, 3/4) + 0.1
    assert mixed[0, 2] == 0.0


def test_log_probabilities_and_entropy_are_those_of_torch_distributions(isp: AdaptiveIsp) -> None:
    torch.manual_seed(2)
    logits = torch.randn(500, 11)
    barred = torch.rand(500, 11) < 0.3
    barred[:, STOP] = False
    probabilities = choice_probabilities(logits, barred, 0.05)
    theirs = torch.distributions.Categorical(probs=probabilities)
    choice = draw(probabilities, torch.rand(500))
    ours = probabilities.gather(1, choice[:, None]).squeeze(1).log()
    torch.testing.assert_close(ours, theirs.log_prob(choice))
    gap = (~barred).sum(dim=1).float().log() - theirs.entropy()
    torch.testing.assert_close(entropy_gap(probabilities, barred), gap, atol=1e-5, rtol=0)
    # And of a real decision, BatchNorm and dropout included.
    isp.eval()
    seen, state = thumbnails(pictures(6)), torch.zeros(6, 13)
    decision = decide(isp, seen, state, torch.rand(6), 0.05)
    shown = torch.softmax(isp.policy(seen, state)[0], dim=1) * 0.95 + 0.05 / 11
    expected = torch.distributions.Categorical(probs=shown).log_prob(decision.choice)
    torch.testing.assert_close(decision.log_probability, expected)


def test_draws_follow_the_probabilities_and_never_what_has_none() -> None:
    probabilities = torch.tensor([[0.0, 0.2, 0.0, 0.5, 0.3, 0.0]])
    edges = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71, 1.0 - 2.0**-24, 1.0])
    drawn = draw(probabilities.expand(7, 6), edges)
    assert drawn.tolist() == [1, 1, 3, 3, 4, 4, 4]
    even = (torch.arange(10_000) + 0.5) / 10_000
    counts = torch.bincount(draw(probabilities.expand(10_000, 6), even), minlength=6)
    assert counts.tolist() == [0, 2000, 0, 5000, 3000, 0]


def test_a_uniform_of_zero_gives_no_black_picture(isp: AdaptiveIsp) -> None:
    before = pictures(3)
    zeros = torch.zeros(3)
    decision = decide(isp, thumbnails(before), torch.zeros(3, 13), zeros, 0.05)
    after = apply_choices(isp, before, decision.choice, decision.raw)
    assert all(0 <= choice <= STOP for choice in decision.choice.tolist())
    for a, b in zip(after, before, strict=True):
        assert float(a.detach().mean()) > 0.5 * float(b.mean())


def test_used_operators_are_not_chosen_again(isp: AdaptiveIsp) -> None:
    torch.manual_seed(3)
    state, used = torch.zeros(2, 13), []
    with torch.no_grad():
        isp.policy.choice[-1].bias[STOP] = -50.0
    for _ in range(10):
        decision = decide(isp, thumbnails(pictures(2)), state, torch.rand(2), 0.0)
        used.append(decision.choice)
        state = isp.next_state(state, decision.choice)
    for row in torch.stack(used, dim=1).tolist():
        assert sorted(row) == list(range(10))


def test_mixed_operators_and_sizes_are_as_one_by_one_and_only_they_run(
    isp: AdaptiveIsp, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(4)
    given = [*pictures(4, 20), *pictures(4, 27)]
    choice = torch.tensor([0, 0, 4, STOP, 0, 5, 9, STOP])
    raw = torch.randn(8, 27)
    expected = [
        isp.step(x[None], choice[n : n + 1], raw[n : n + 1])[0] for n, x in enumerate(given)
    ]
    ran: list[tuple[int, int]] = []
    real = operators.run_operator

    def spy(operator: int, x: Tensor, theta: Tensor, fixed: bool) -> Tensor:
        ran.append((operator, len(x)))
        return real(operator, x, theta, fixed)

    monkeypatch.setattr(operators, "run_operator", spy)
    found = apply_choices(isp, given, choice, raw)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    assert sorted(ran) == [(0, 1), (0, 2), (4, 1), (5, 1), (9, 1)]
    assert found[3] is given[3]


@pytest.mark.parametrize("operator", [0, 4, 5])
def test_gradients_reach_the_policy_and_the_chosen_head_only(
    operator: int, isp: AdaptiveIsp
) -> None:
    isp.train()
    choose_always(isp, operator, sure=4.0)
    seen = [0.4 + 0.01 * picture for picture in pictures(3)]  # denoising has something to do
    decision = decide(isp, thumbnails(seen), torch.zeros(3, 13), torch.full((3,), 0.5), 0.05)
    assert decision.choice.tolist() == [operator] * 3
    made = apply_choices(isp, seen, decision.choice, decision.raw)
    (torch.stack(made).mean() + decision.log_probability.sum()).backward()
    for n, head in enumerate(isp.policy.heads):
        moved = any(bool(p.grad.abs().sum() > 0) for p in head.parameters())
        assert moved == (n == operator), n
    for part in (isp.policy.choice, isp.policy.choice_trunk):
        assert any(bool(p.grad.abs().sum() > 0) for p in part.parameters())


def test_one_picture_without_a_finite_gradient_spoils_no_other(isp: AdaptiveIsp) -> None:
    isp.train()
    choose_always(isp, 0)
    bad: list[list[bool]] = []
    seen = pictures(3)
    decision = decide(
        isp,
        thumbnails(seen),
        torch.zeros(3, 13),
        torch.rand(3),
        0.0,
        lambda b: bad.append(b.tolist()),
    )
    made = apply_choices(isp, seen, decision.choice, decision.raw)
    poison = (made[1] * 0.0).sum().sqrt()  # 0, with an infinite slope
    (made[0].mean() + made[2].mean() + poison).backward()
    assert bad == [[False, True, False]]
    assert all(bool(torch.isfinite(p.grad).all()) for p in isp.policy.heads.parameters())
    assert float(isp.policy.heads[0].fc_filter.bias.grad.abs().sum()) > 0


def test_rollouts_see_what_validation_sees() -> None:
    torch.manual_seed(5)
    isp = AdaptiveIsp(AdaptiveConfig(dropout=0.0))
    seen, state = thumbnails(pictures(8)), torch.zeros(8, 13)
    state[4:, 2] = 1.0
    refresh_statistics(isp.policy, seen, state)
    rollout_mode(isp.policy)
    rolled = isp.policy(seen, state)[0]
    isp.eval()
    torch.testing.assert_close(rolled, isp.policy(seen, state)[0], atol=0, rtol=0)


def test_statistics_are_the_first_batchs_and_then_follow(isp: AdaptiveIsp) -> None:
    seen, state = thumbnails(pictures(8)), torch.zeros(8, 13)
    first = isp.policy.choice_trunk[1]
    assert rollout.untracked(isp.policy)
    refresh_statistics(isp.policy, seen, state)
    assert not rollout.untracked(isp.policy)
    planes = torch.cat([seen, state[:, :, None, None].expand(-1, -1, 64, 64)], dim=1)
    with torch.no_grad():
        answers = isp.policy.choice_trunk[0](planes)
    torch.testing.assert_close(first.running_mean, answers.mean(dim=(0, 2, 3)))
    before = first.running_mean.clone()
    refresh_statistics(isp.policy, seen * 0.0, state)
    dark = isp.policy.choice_trunk[0](planes * 0.0).mean(dim=(0, 2, 3))
    torch.testing.assert_close(first.running_mean, 0.9 * before + 0.1 * dark)
    assert first.momentum == 0.1
    assert isp.policy.choice_trunk[-1].training  # dropout, as in training
    assert not first.training


def test_the_first_picture_has_the_configured_gain() -> None:
    isp = AdaptiveIsp(AdaptiveConfig(exposure_ev=3.0))
    x = torch.tensor([-0.1, 0.05, 0.5]).view(3, 1, 1)
    assert start_picture(isp, x).flatten().tolist() == pytest.approx([0.0, 0.4, 1.0])
