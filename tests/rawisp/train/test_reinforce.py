"""What is minimised, by hand; that it teaches; that a run of it is a run like any other."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rawisp.data.prepared import PreparedImage
from rawisp.detect import weights_hash
from rawisp.detect.base import Target
from rawisp.errors import TrainingError, UsageError
from rawisp.isp.adaptive.operators import COST_MS, KEYS
from rawisp.train import TrainConfig, resolve_config, rewards
from rawisp.train.events import TrainEvent
from rawisp.train.gradient import StepLoss
from rawisp.train.rollout import STOP
from rawisp.train.schedule import lr_at
from rawisp.train.strategy import NotFiniteError, SupervisedStrategy

from .conftest import Run
from .toy import Brightness, Lesson, choose_always, photographs

MODES = ("terminal", "td", "greedy")
# Exposure by one stop from 1/8: raw with 3.5 tanh(raw) = 1. Losses are (level - 1/2)^2.
ONE_STOP = math.atanh(1 / 3.5)
BEFORE, AFTER = (0.125 - 0.5) ** 2, (0.25 - 0.5) ** 2
GAIN = 100 * (BEFORE - AFTER)  # 7.8125
CERTAIN = 0.05 * math.log(11)  # the entropy penalty of a sure choice among eleven


def tensor(*values: float) -> Tensor:
    return torch.tensor(values)


def test_a_steps_penalty() -> None:
    choice = torch.tensor([0, 4, STOP])
    used = torch.zeros(3, 10)
    used[1, 4] = 1.0
    gap = tensor(0.0, 2.0, 1.0)
    found = rewards.step_penalty(choice, used, gap, entropy_weight=0.05, runtime_penalty=0.1)
    assert found.tolist() == pytest.approx([0.17, 1.0 + 1.0 + 0.1, 0.05])
    reward = rewards.step_reward(tensor(0.5), tensor(0.47), tensor(1.25))
    assert reward.tolist() == pytest.approx([3.0 - 1.25])


def test_a_steps_target_ends_where_the_episode_ends_or_the_picture_is_lost() -> None:
    # In order: goes on; ended; too bright; too dark; dark as it began; darker than it began.
    brightness = tensor(0.3, 0.3, 0.95, 0.005, 0.004, 0.001)
    at_start = tensor(0.3, 0.3, 0.3, 0.3, 0.005, 0.005)
    ended = torch.tensor([False, True, False, False, False, False])
    td = rewards.bootstrap("td", brightness, at_start, ended)
    assert td.tolist() == [1, 0, 0, 0, 1, 0]
    # As released: the wrong way round.
    greedy = rewards.bootstrap("greedy", brightness, at_start, ended)
    assert greedy.tolist() == [0, 0, 1, 1, 1, 1]
    target = rewards.step_target(torch.full((6,), 2.0), 0.5, td, torch.full((6,), 10.0))
    assert target.tolist() == [7, 2, 2, 2, 7, 2]


def test_actor_and_critic() -> None:
    target, value = tensor(3.0, 1.0), tensor(1.0, 4.0)
    log_probability = tensor(-0.5, -2.0)
    actor = rewards.actor_loss(target, value, log_probability)
    assert actor.tolist() == [-3.0 + 0.5 * 2.0, -1.0 + 2.0 * -3.0]
    assert rewards.critic_loss(target, value).tolist() == [4.0, 9.0]


def test_a_rollouts_returns_and_loss() -> None:
    penalties = torch.tensor([[1.0, 0.5], [2.0, 0.0]])
    returns = rewards.returns_to_go(tensor(10.0, 4.0), penalties)
    assert returns.tolist() == [[7.0, 3.5], [8.0, 4.0]]
    advantages = rewards.above_others(returns, returns.sum(dim=1), 2)
    assert advantages.tolist() == [[3.5, -3.5], [4.0, -4.0]]
    # One of three pictures, the others of which are elsewhere; and one that is alone.
    assert rewards.above_others(tensor(3.0)[None], tensor(6.0), 3).tolist() == [[1.5]]
    assert rewards.above_others(tensor(3.0)[None], tensor(3.0), 1).tolist() == [[3.0]]
    log_probability = torch.tensor([[-1.0, -2.0], [-0.5, 0.0]], requires_grad=True)
    after = tensor(0.1, 0.26).requires_grad_()
    gain = rewards.step_reward(tensor(0.2, 0.3), after, torch.zeros(2))
    loss = rewards.rollout_loss(gain, penalties, log_probability, advantages)
    expected = [3.0 - 10.0 + 1.0 * 3.5 + 0.5 * 4.0, 0.5 - 4.0 - 2.0 * 3.5]
    assert loss.tolist() == pytest.approx(expected, abs=1e-4)
    loss.sum().backward()
    assert after.grad is not None
    assert log_probability.grad is not None
    assert after.grad.tolist() == [100.0, 100.0]  # the returns are held
    assert log_probability.grad.flatten().tolist() == pytest.approx(
        [-3.5, 3.5, -4.0, 4.0], abs=1e-4
    )


def certain(mode: str, folder: Path, steps: int, **settings: Any) -> Lesson:
    """A lesson whose policy brightens by one stop, and whose value network says 3."""
    lesson = Lesson(
        photographs(folder, [0.125] * 4),
        isp_config={"steps": steps, "dropout": 0.0, "repeat": True},
        reinforce=mode,
        explore=0.0,
        **settings,
    )
    choose_always(lesson.isp, 0, [ONE_STOP])
    if mode != "terminal":
        last = lesson.strategy.value.head[-1]  # type: ignore[attr-defined]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.fill_(3.0)
    return lesson


def test_the_whole_loss_of_terminal_by_hand(tmp_path: Path) -> None:
    # Twice by one stop: 1/8, 1/4, 1/2. The second time costs 1. All pictures are alike, so that no
    # return is above the others'; a sure choice has the logarithm 0 besides.
    lesson = certain("terminal", tmp_path, steps=2, runtime_penalty=0.1)
    found = lesson.gradient()
    penalty = 2 * CERTAIN + 1.0 + 0.1 * 2 * COST_MS[0]
    assert float(found.total) == pytest.approx(penalty - 100 * BEFORE, abs=1e-3)
    assert found.images == 4
    assert found.sums["detector"] == pytest.approx(0.0, abs=1e-6)
    assert found.sums["agent.reward"] / 4 == pytest.approx(100 * BEFORE - penalty, abs=1e-3)
    assert found.sums["agent.cost_ms"] / 4 == pytest.approx(3.4)
    assert found.sums["agent.usage.E"] == 8.0
    assert sum(found.sums[f"agent.usage.{key}"] for key in (*KEYS, "stop")) == 8.0


@pytest.mark.parametrize(("mode", "discount"), [("td", 1.0), ("td", 0.5), ("greedy", 1.0)])
def test_the_whole_loss_of_a_step_by_hand(mode: str, discount: float, tmp_path: Path) -> None:
    lesson = certain(mode, tmp_path, steps=2, discount=discount, runtime_penalty=0.1)
    reward = GAIN - CERTAIN - 0.17
    # 1/4 is a picture like others: for td it has a future, for the released code none.
    target = reward + (discount * 3.0 if mode == "td" else 0.0)
    found = lesson.gradient()
    assert float(found.total) == pytest.approx(-target + (target - 3.0) ** 2, abs=2e-3)
    assert found.sums["agent.reward"] / 4 == pytest.approx(reward, abs=1e-3)
    assert found.sums["detector"] / 4 == pytest.approx(AFTER, abs=1e-5)
    assert found.sums["agent.value_loss"] / 4 == pytest.approx((target - 3.0) ** 2, abs=1e-2)


@pytest.mark.parametrize("mode", ["td", "greedy"])
def test_the_last_step_has_no_future(mode: str, tmp_path: Path) -> None:
    lesson = certain(mode, tmp_path, steps=1)
    target = GAIN - CERTAIN
    assert float(lesson.gradient().total) == pytest.approx(-target + (target - 3) ** 2, abs=2e-3)


def test_an_episode_goes_on_where_it_stood(tmp_path: Path) -> None:
    """Step after step: the reward is the next difference, and after two steps it is over."""
    lesson = certain("td", tmp_path, steps=2, replay=4)
    assert lesson.gradient().sums["agent.reward"] / 4 == pytest.approx(GAIN - CERTAIN, abs=1e-3)
    pool = lesson.strategy.pool  # type: ignore[attr-defined]
    assert [r.choices for r in pool.records] == [(0,)] * 4
    assert [r.loss for r in pool.records] == pytest.approx([AFTER] * 4, abs=1e-5)
    again = lesson.gradient(step=0)
    assert again.sums["agent.reward"] / 4 == pytest.approx(100 * AFTER - 1.0 - CERTAIN, abs=1e-3)
    assert {r.draw for r in pool.records} == {4, 5, 6, 7}


def test_the_actor_cannot_raise_the_value_networks_opinion(tmp_path: Path) -> None:
    """Gradients of the whole loss on its weights are those of the critic's loss alone."""
    grads = []
    for discount in (1.0, 0.0):
        lesson = certain("td", tmp_path, steps=3, discount=discount)
        strategy: Any = lesson.strategy
        (batch,) = list(strategy.batches(0, 0))
        found = strategy.loss(batch, 0, 0)
        found.total.backward()
        grads.append(float(strategy.value.head[-1].bias.grad))
    # d/dV (target - V)^2 = -2 (target - V); with the leak discount x 1 would be taken off too.
    reward = GAIN - CERTAIN
    assert grads[0] == pytest.approx(-2 * (reward + 3.0 - 3.0), abs=2e-2)
    assert grads[1] == pytest.approx(-2 * (reward - 3.0), abs=2e-2)


@pytest.mark.parametrize(
    ("mode", "steps"), [("terminal", 50), pytest.param("td", 80, marks=pytest.mark.soak)]
)
def test_the_policy_learns_to_brighten(mode: str, steps: int, tmp_path: Path) -> None:
    """Photographs of level 0.06 for a detector that wants 0.5."""
    images = photographs(tmp_path, np.random.default_rng(0).uniform(0.05, 0.07, 8).tolist())
    lesson = Lesson(images, reinforce=mode, epochs=steps, batch_size=8, replay=16)
    before, _ = lesson.judged()
    frozen = weights_hash(lesson.guide)
    found = lesson.learn(steps)
    after, operators = lesson.judged()
    assert before == pytest.approx(0.194, abs=0.01)  # nothing is done in the beginning
    assert after < 0.25 * before
    brighter = {KEYS.index(key) for key in ("E", "G", "T")}
    assert all(brighter & set(row) for row in operators)
    rewards_seen = [f.sums["agent.reward"] / f.images for f in found]
    assert np.mean(rewards_seen[-10:]) > np.mean(rewards_seen[:10]) + 1.0
    assert weights_hash(lesson.guide) == frozen
    assert all(p.grad is None for p in lesson.guide.parameters())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", MODES)
def test_a_gpu_learns_as_well(mode: str, tmp_path: Path) -> None:
    images = photographs(tmp_path, [0.06] * 8)
    lesson = Lesson(images, device="cuda", reinforce=mode, epochs=80, batch_size=8, replay=16)
    before, _ = lesson.judged()
    lesson.learn(80)
    assert lesson.judged()[0] < 0.25 * before


class Content(Brightness):
    """A detector to which all pictures are the same."""

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        return {"brightness": torch.stack([0.0 * image.mean() for image in images])}


@pytest.mark.parametrize("mode", ["terminal", "greedy"])
def test_what_costs_and_brings_nothing_is_given_up(mode: str, tmp_path: Path) -> None:
    lesson = Lesson(
        photographs(tmp_path, [0.3] * 8),
        Content(),
        reinforce=mode,
        runtime_penalty=1.0,
        lr=3e-4,
        epochs=30,
        isp_config={"steps": 2, "dropout": 0.0},
    )
    found = lesson.learn(30)
    costs = [f.sums["agent.cost_ms"] / f.images for f in found]
    assert np.mean(costs[-10:]) < 0.5 * np.mean(costs[:10])
    _, operators = lesson.judged()
    assert operators == [[STOP, STOP]] * 8


def test_without_a_stop_the_cheap_operators_are_taken(tmp_path: Path) -> None:
    lesson = Lesson(
        photographs(tmp_path, [0.3] * 8),
        Content(),
        reinforce="terminal",
        runtime_penalty=1.0,
        lr=3e-4,
        epochs=40,
        isp_config={"steps": 1, "dropout": 0.0, "stop": False},
    )
    lesson.learn(40)
    _, operators = lesson.judged()
    assert all(COST_MS[row[0]] <= 2.1 for row in operators)


@pytest.mark.parametrize("mode", MODES)
def test_a_bad_photograph_is_left_out_alone(mode: str, tmp_path: Path) -> None:
    notes: list[str] = []
    images = photographs(tmp_path, [0.1, 0.2, math.nan, 0.3])
    lesson = Lesson(
        images, on_event=lambda e: notes.append(e.text), reinforce=mode, isp_config={"steps": 1}
    )
    for epoch in range(2):
        found = lesson.gradient(epoch)
        assert found.images == 3 or mode != "terminal"
        assert math.isfinite(float(found.total))
        for module in lesson.strategy.trained:
            assert all(bool(torch.isfinite(p.grad).all()) for p in module.parameters())
        assert all(bool(torch.isfinite(b).all()) for b in lesson.isp.buffers())
    assert notes == ["2.ARW: left out of a step, its picture is not finite"]


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_bad_photographs_stops(mode: str, tmp_path: Path) -> None:
    lesson = Lesson(photographs(tmp_path, [math.nan] * 4), reinforce=mode)
    with pytest.raises(NotFiniteError) as caught:
        lesson.gradient()
    assert sorted(caught.value.names) == [f"{n}.ARW" for n in range(4)]


def test_the_released_form_can_be_trained(tmp_path: Path) -> None:
    """Parity: ten operators, no stop, wild matrices; clipped as released, it hardly moves."""
    lesson = Lesson(
        photographs(tmp_path, [0.1, 0.2, 0.3, 0.4]),
        reinforce="greedy",
        clip_norm=1e-5,
        isp_config={"steps": 5, "parity": True, "repeat": True},
    )
    found = lesson.learn(6)
    assert all(math.isfinite(float(f.total)) for f in found)
    assert all(bool(torch.isfinite(p).all()) for p in lesson.isp.parameters())
    assert all("agent.usage.stop" in f.sums and f.sums["agent.usage.stop"] == 0 for f in found)


class Picky(Brightness):
    """Its loss of bright pictures is not a number."""

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        losses = super().losses(images, targets)["brightness"]
        bright = torch.stack([image.mean() > 0.4 for image in images])
        return {"brightness": torch.where(bright, math.nan, losses)}


@pytest.mark.parametrize("mode", MODES)
def test_a_loss_that_is_no_number_leaves_out_its_photograph(mode: str, tmp_path: Path) -> None:
    notes: list[str] = []
    lesson = Lesson(
        photographs(tmp_path, [0.1, 0.2, 0.3, 0.8]),
        Picky(),
        on_event=lambda e: notes.append(e.text),
        reinforce=mode,
        isp_config={"steps": 1},
    )
    found = lesson.gradient()
    assert math.isfinite(float(found.total))
    assert "3.ARW: left out of a step, its loss is not finite" in notes or mode != "terminal"
    assert all(bool(torch.isfinite(p.grad).all()) for p in lesson.isp.parameters())


def test_settings_that_make_no_sense_are_refused() -> None:
    def config(**settings: Any) -> TrainConfig:
        return TrainConfig(**{"isp": "adaptive-isp", **settings})

    for wrong, said in (
        ({"reinforce": "ppo"}, "'ppo' is none of terminal, td, greedy"),
        ({"runtime_penalty": -1.0}, "negative"),
        ({"explore": 1.5}, "explore 1.5 is not between 0 and 1"),
        ({"discount": -0.1}, "discount -0.1"),
        ({"replay": 4}, "replay 4 is less than a batch of 8"),
        ({"phase2_epochs": 1}, "--phase2 is not for adaptive-isp: its reward"),
        ({"color_weight": 1.0}, "--color-weight is not for adaptive-isp"),
        ({"day_response": 1.0}, "--day-response is not for adaptive-isp"),
        ({"amp": True}, "--amp is not for adaptive-isp"),
        ({"clip_norm": 1e-5}, "--reinforce greedy with --isp-config parity=true"),
        ({"clip_norm": 1e-5, "reinforce": "greedy"}, "parity=true"),
        ({"isp": "genisp", "runtime_penalty": 0.1}, "--runtime-penalty is for"),
    ):
        with pytest.raises(UsageError, match=said):
            config(**wrong)
    config(clip_norm=1e-5, reinforce="greedy", isp_config={"parity": True})
    config(clip_norm=0.0)


def test_the_recipe_is_the_papers_schedule() -> None:
    config = resolve_config({"recipe": "adaptive-isp"}, environment={})
    assert (config.reinforce, config.batch_size, config.replay) == ("td", 8, 128)
    steps = -(-1830 // 8)
    assert config.epochs * steps == pytest.approx(100_000, rel=2e-3)
    total = config.epochs * steps
    assert lr_at(config, 0, 0, steps) == 3e-5
    middle = lr_at(config, config.epochs // 2, steps // 2, steps)
    assert middle == pytest.approx(3e-5 * 0.1 ** (3 * 0.5), rel=1e-2)
    assert lr_at(config, config.epochs - 1, steps - 1, steps) == pytest.approx(3e-8, rel=1e-3)
    assert total > 0


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in found:
        del record["seconds"]  # the one number that differs
    return found


AGENT: dict[str, Any] = {
    "isp": "adaptive-isp",
    "isp_config": {"steps": 2, "exposure_ev": 3.0},
    "lr": 1e-4,
    "replay": 5,
    "fit": (90, 60),
}


class Stop(KeyboardInterrupt):
    """A user's Ctrl-C at a chosen step."""


@pytest.mark.parametrize(("mode", "at"), [("terminal", (1, 2)), ("td", (2, 1)), ("greedy", (1, 1))])
def test_an_interrupted_run_continues_bit_for_bit(
    mode: str, at: tuple[int, int], small_run: Run, tmp_path: Path
) -> None:
    def stop(event: TrainEvent) -> None:
        if event.kind == "step" and (event.values["epoch"], event.values["step"]) == at:
            raise Stop

    whole, parts = tmp_path / "a" / "run", tmp_path / "b" / "run"
    small_run(whole, reinforce=mode, **AGENT)
    with pytest.raises(Stop):
        small_run(parts, reinforce=mode, save_every_s=0.0, on_event=stop, **AGENT)
    small_run(parts, reinforce=mode, resume=True, **AGENT)
    assert lines(parts) == lines(whole)
    a, b = (load_file(folder / "isp.safetensors") for folder in (parts, whole))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    first = lines(whole)[1]
    assert set(first["losses"]) == {"detector"}
    assert first["loss"] == first["losses"]["detector"]
    assert set(first["agent"]) >= {"reward", "cost_ms", "usage.E", "usage.stop"}
    assert "ap50" in first["validation"]
    state = torch.load(whole / "state.pt", weights_only=True)
    assert ("pool" in state["modules"]) == (mode != "terminal")


def test_a_run_leaves_out_what_is_bad_and_stops_when_all_is(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, bad = PreparedImage.load, "DSC01345"

    def poisoned(self: PreparedImage) -> Any:
        array = real(self)
        return array * np.float32(np.nan) if bad in self.source else array

    notes: list[TrainEvent] = []
    monkeypatch.setattr(PreparedImage, "load", poisoned)
    settings = {**AGENT, "epochs": 1, "val": 0.0, "previews": 0}
    small_run(tmp_path / "run", on_event=notes.append, **settings)
    told = [e.text for e in notes if "left out of a step" in e.text]
    assert len(told) == 1
    assert "DSC01345.ARW: left out of a step, its picture is not finite" in told[0]
    bad = ""  # in every name
    with pytest.raises(TrainingError, match=r"loss is not finite in epoch 1, step 1, for .*NEF, "):
        small_run(tmp_path / "other", **settings)


def test_a_gradient_that_is_not_finite_spoils_no_weights(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any strategy: finite losses whose gradient is not."""
    real = SupervisedStrategy.loss

    def steep(self: SupervisedStrategy, *args: Any) -> StepLoss:
        found = real(self, *args)
        first = next(self.isp.parameters())
        poison = (first * 0.0).sum().sqrt()  # 0, with an infinite slope
        return StepLoss(found.total + poison, found.sums, found.images)

    monkeypatch.setattr(SupervisedStrategy, "loss", steep)
    with pytest.raises(
        TrainingError, match=r"gradient is not finite in epoch 1, step 1, for .*\.\w"
    ):
        small_run(tmp_path / "run")
