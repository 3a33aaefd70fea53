"""`greedy` and `td`: one step of each of a batch of episodes that a pool keeps going."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rawisp.detect.base import Target
from rawisp.errors import UsageError
from rawisp.train.gradient import StepLoss
from rawisp.train.loader import Batch, Sampled
from rawisp.train.reinforce import ReinforceStrategy, facts, losses_after
from rawisp.train.replay import Pool, Record, replayed
from rawisp.train.rewards import (
    actor_loss,
    bootstrap,
    critic_loss,
    inside_window,
    step_penalty,
    step_reward,
    step_target,
)
from rawisp.train.rollout import (
    STOP,
    Decision,
    apply_choices,
    decide,
    finite_rows,
    start_picture,
    thumbnails,
)
from rawisp.train.strategy import FACT, NotFiniteError, on_device


@dataclass(frozen=True)
class PoolBatch(Batch):
    """images: the photographs that the records begin with."""

    records: list[Record]


@dataclass(frozen=True)
class Scene:
    """The pictures of a batch as they are now, a row each.

    state: (B, 13). losses: (B,), the detector's.
    """

    records: list[Record]
    names: list[str]
    pictures: list[Tensor]
    targets: list[Target]
    state: Tensor
    losses: Tensor

    def only(self, keep: Tensor) -> Scene:
        """The rows where `keep` (B,) is true."""
        rows = torch.nonzero(keep).squeeze(1)
        lists = (self.records, self.names, self.pictures, self.targets)
        records, names, pictures, targets = ([some[n] for n in rows.tolist()] for some in lists)
        return Scene(records, names, pictures, targets, self.state[rows], self.losses[rows])

    @property
    def brightness(self) -> Tensor:
        """(B,): the mean that each episode began with."""
        return torch.tensor([r.brightness for r in self.records], device=self.state.device)


class PoolStrategy(ReinforceStrategy):
    """Actor and critic, one step at a time. An epoch is as many steps as batches in the data."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        mode, size = self.config.reinforce, self.config.batch_size
        if self.team.world > 1:
            raise UsageError(
                f"--reinforce {mode} keeps its pool in one process; start one, or take --reinforce "
                "terminal"
            )
        self.value = self.isp.value_network().to(self.team.device)
        self.trained = [self.isp, self.value]
        self.pool = Pool(self.config.replay, self.isp.steps, size, self.config.seed)

    def modules(self) -> dict[str, Any]:
        """The value network and the pool."""
        return {"value": self.value, "pool": self.pool}

    def batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        """What the pool has in front; the photographs of the next batch are loaded meanwhile."""
        loading: dict[int, Future[Sampled]] = {}
        with ThreadPoolExecutor(self.loader.workers) as threads:
            for step in range(first_step, self.loader.steps):
                for record in self.pool.front(2 * self.config.batch_size):
                    if record.draw not in loading:
                        place = self.loader.drawn(record.draw)
                        loading[record.draw] = threads.submit(self.loader.sample, *place)
                records = self.pool.front(self.loader.size_of(step))
                samples = [loading.pop(record.draw).result() for record in records]
                images, targets, names = (list(part) for part in zip(*samples, strict=True))
                yield PoolBatch(images, targets, names, records)

    def loss(self, batch: Batch, epoch: int, step: int) -> StepLoss:
        """The mean of actor's and critic's loss; the pool moves on."""
        assert isinstance(batch, PoolBatch)
        self.isp.train()
        scene = self._scene(batch)
        uniforms = self.uniforms(epoch, step, 1)[: len(scene.records), 0]
        decision = decide(
            self.isp,
            thumbnails(scene.pictures),
            scene.state,
            uniforms,
            self.config.explore,
            lambda bad: self.note_bad(scene.names, bad, "gradient"),
        )
        made = apply_choices(self.isp, scene.pictures, decision.choice, decision.raw)
        made_scene = self._judged(scene, decision, made)
        fine = finite_rows(made) & torch.isfinite(made_scene.losses)
        self.note_bad(scene.names, ~fine, "picture or loss")
        if not bool(fine.any()):
            raise NotFiniteError(batch.names)
        some = _rows(decision, fine)
        before, after = scene.only(fine), made_scene.only(fine)
        each, found = self._objective(before, after, some, self.entropy_weight(epoch, step))
        self.pool.turn(len(batch.records), self._continued(after, some))
        return StepLoss(each.sum() / self.loader.size_of(step), found, len(each))

    def _scene(self, batch: PoolBatch) -> Scene:
        """Pictures and losses as they are now, of those that are finite."""
        images, targets = on_device(batch, self.team.device)
        starts = [start_picture(self.isp, image) for image in images]
        records = [
            r if r.brightness is not None else replace(r, brightness=float(start.mean()))
            for r, start in zip(batch.records, starts, strict=True)
        ]
        now = [replayed(self.isp, s, r) for s, r in zip(starts, records, strict=True)]
        pictures, state = [picture for picture, _ in now], torch.stack([s for _, s in now])
        scene = Scene(records, batch.names, pictures, targets, state, state[:, 0])
        scene = self._finite(scene, finite_rows(pictures), "picture")
        known = torch.tensor(
            [float("nan") if r.loss is None else r.loss for r in scene.records],
            device=state.device,
        )
        unknown = torch.tensor([r.loss is None for r in scene.records], device=state.device)
        with torch.no_grad():
            losses = losses_after(self.guide, scene.pictures, scene.targets, unknown, known)
        return self._finite(replace(scene, losses=losses), torch.isfinite(losses), "loss")

    def _finite(self, scene: Scene, good: Tensor, what: str) -> Scene:
        self.note_bad(scene.names, ~good, what)
        if not bool(good.any()):
            raise NotFiniteError(scene.names)
        return scene.only(good)

    def _judged(self, scene: Scene, decision: Decision, made: list[Tensor]) -> Scene:
        """The scene one step later, with the detector's losses."""
        changed = (decision.choice != STOP) & finite_rows(made)
        losses = losses_after(self.guide, made, scene.targets, changed, scene.losses)
        state = self.isp.next_state(scene.state, decision.choice)
        return replace(scene, pictures=made, state=state, losses=losses)

    def _ended(self, after: Scene, decision: Decision) -> Tensor:
        return (decision.choice == STOP) | (after.state[:, 2] >= self.isp.steps)

    def _objective(
        self, before: Scene, after: Scene, decision: Decision, entropy_weight: float
    ) -> tuple[Tensor, dict[str, float]]:
        """(loss (B,), sums of what is told)."""
        penalty = step_penalty(
            decision.choice,
            before.state[:, 3:13],
            decision.entropy_gap,
            entropy_weight=entropy_weight,
            runtime_penalty=self.config.runtime_penalty,
        )
        reward = step_reward(before.losses, after.losses, penalty)
        keep = bootstrap(
            self.config.reinforce,
            means(after.pictures),
            before.brightness,
            self._ended(after, decision),
        )
        value, following = self._values(before, after)
        target = step_target(reward, self.config.discount, keep, following)
        critic = critic_loss(target, value)
        each = actor_loss(target, value, decision.log_probability) + critic
        told = facts(reward, decision.choice.unsqueeze(0))
        told["detector"] = float(after.losses.detach().sum())
        told[f"{FACT}value_loss"] = float(critic.detach().sum())
        return each, told

    def _values(self, before: Scene, after: Scene) -> tuple[Tensor, Tensor]:
        """(V of the pictures as they were, V of what was made of them), (B,) each.

        Both go through the network together, or BatchNorm's statistics of the later pictures alone
        would make them look like the earlier ones, and values would grow without end (Bhatt et al.,
        "CrossQ", ICLR 2024). Only the first trains the network: the policy is to raise what comes
        next, not the network's opinion of it.
        """
        count = len(before.records)
        seen = torch.cat([thumbnails(before.pictures), thumbnails(after.pictures)])
        state = torch.cat([before.state, after.state])
        self.value.train()
        value: Tensor = self.value(seen.detach(), state)[:count]
        held = {name: p.detach() for name, p in self.value.named_parameters()}
        following: Tensor = torch.func.functional_call(self.value, held, (seen, state))[count:]
        return value, following

    def _continued(self, after: Scene, decision: Decision) -> list[Record]:
        """The episodes that go on."""
        inside = inside_window(means(after.pictures), after.brightness)
        going = (~self._ended(after, decision) & inside).tolist()
        choices, losses = decision.choice.tolist(), after.losses.tolist()
        return [
            record.continued(choices[n], decision.raw[n], losses[n])
            for n, record in enumerate(after.records)
            if going[n]
        ]


def means(pictures: list[Tensor]) -> Tensor:
    """(B,) mean brightness over pixels and channels, without gradient."""
    return torch.stack([picture.detach().mean() for picture in pictures])


def _rows(decision: Decision, keep: Tensor) -> Decision:
    """The rows where `keep` is true. The parameters that made the pictures stay in their graph."""
    return Decision(
        decision.choice[keep],
        decision.raw[keep],
        decision.log_probability[keep],
        decision.entropy_gap[keep],
    )
