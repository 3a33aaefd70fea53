"""`terminal`: whole rollouts, judged by what the detector makes of their last picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rawisp.detect import Guide
from rawisp.detect.base import Target
from rawisp.isp.adaptive.adaptive_isp import AdaptiveIsp
from rawisp.train.config import TrainConfig
from rawisp.train.distributed import Team
from rawisp.train.gradient import StepLoss
from rawisp.train.loader import Batch
from rawisp.train.reinforce import ReinforceStrategy, detector_losses, facts, losses_after
from rawisp.train.rewards import (
    above_others,
    returns_to_go,
    rollout_loss,
    step_penalty,
    step_reward,
)
from rawisp.train.rollout import (
    STOP,
    Decision,
    apply_choices,
    decide,
    finite_rows,
    refresh_statistics,
    rollout_mode,
    start_picture,
    thumbnails,
    untracked,
)
from rawisp.train.strategy import NotFiniteError, no_loss, on_device

NoteBad = Callable[[Sequence[str], Tensor, str], None]


@dataclass(frozen=True)
class Trail:
    """What a batch of rollouts left behind.

    pictures: the last of each. good: bool (B,), whether it is finite. log_probability, penalties:
    (T, B), 0 where a picture had stopped. choices: int64 (T, B), -1 there.
    """

    pictures: list[Tensor]
    good: Tensor
    log_probability: Tensor
    penalties: Tensor
    choices: Tensor


class Rollout(nn.Module):
    """ISP, detector and objective as one module, so that data-parallel training can wrap it.

    `seen` keeps the observations (thumbnails (n, 3, 64, 64), states (n, 13)) of the last rollouts.
    """

    def __init__(
        self, config: TrainConfig, isp: AdaptiveIsp, guide: Guide, team: Team, note: NoteBad
    ) -> None:
        super().__init__()
        self.isp, self.guide, self.team, self.note = isp, guide, team, note
        self.explore, self.runtime_penalty = config.explore, config.runtime_penalty
        self.seen: tuple[Tensor, Tensor] | None = None

    def forward(
        self,
        images: list[Tensor],
        targets: list[Target],
        names: list[str],
        uniforms: Tensor,
        entropy_weight: float,
    ) -> dict[str, Tensor]:
        """Of the n photographs that are finite throughout: "each" (n,), what is minimised; "after"
        and "reward" (n,); "choices" (T, n). NotFiniteError when there are none."""
        start = [start_picture(self.isp, image) for image in images]
        trail = self.play(start, names, uniforms, entropy_weight)
        rows = torch.nonzero(trail.good).squeeze(1)
        last = [trail.pictures[n] for n in rows.tolist()]
        aims = [targets[n] for n in rows.tolist()]
        with torch.no_grad():
            before = detector_losses(self.guide, [start[n] for n in rows.tolist()], aims)
        changed = ((trail.choices >= 0) & (trail.choices != STOP)).any(dim=0)[rows]
        after = losses_after(self.guide, last, aims, changed, before)
        fine = torch.isfinite(before) & torch.isfinite(after)
        self.note([names[n] for n in rows.tolist()], ~fine, "loss")
        if not bool(fine.any()):
            raise NotFiniteError(names)
        rows, before, after = rows[fine], before[fine], after[fine]
        penalties = trail.penalties[:, rows]
        gain = step_reward(before, after, torch.zeros_like(before))
        returns = returns_to_go(gain, penalties).detach()
        advantages = above_others(returns, *self._whole(returns))
        each = rollout_loss(gain, penalties, trail.log_probability[:, rows], advantages)
        reward = gain - penalties.sum(dim=0)
        choices = trail.choices[:, rows]
        return {"each": each, "after": after, "reward": reward.detach(), "choices": choices}

    def play(
        self, start: list[Tensor], names: list[str], uniforms: Tensor, entropy_weight: float
    ) -> Trail:
        """Sampled rollouts from start pictures, with a graph for what is learned.

        uniforms: (B, T). Only those that have not stopped act, and only they are seen.
        """
        isp, pictures, count = self.isp, list(start), len(start)
        state = isp.start_state(uniforms)
        good = finite_rows(pictures)
        running = good.clone()
        columns: list[tuple[Tensor, Tensor, Tensor]] = []
        seen: list[tuple[Tensor, Tensor]] = []
        for t in range(isp.steps):
            rows = torch.nonzero(running).squeeze(1)
            if rows.numel() == 0:
                break
            here, who = ([some[n] for n in rows.tolist()] for some in (pictures, names))
            seen.append((thumbnails(here).detach(), state[rows]))
            decision = decide(isp, *seen[-1], uniforms[rows, t], self.explore, self._noter(who))
            made = apply_choices(isp, here, decision.choice, decision.raw)
            fine = finite_rows(made)
            for n, picture, yes in zip(rows.tolist(), made, fine.tolist(), strict=True):
                pictures[n] = picture if yes else pictures[n]
            penalty = self._penalty(decision, state[rows], entropy_weight)
            log_probability = _placed(0.0, rows, decision.log_probability, count)
            choice = _placed(-1, rows, decision.choice, count)
            columns.append((log_probability, _placed(0.0, rows, penalty, count), choice))
            state = state.index_copy(0, rows, isp.next_state(state[rows], decision.choice))
            good = good.index_copy(0, rows, fine)
            running = running.index_copy(0, rows, fine & (decision.choice != STOP))
        self.note(names, ~good, "picture")
        if not columns:
            raise NotFiniteError(names)
        self.seen = torch.cat([s[0] for s in seen]), torch.cat([s[1] for s in seen])
        return Trail(pictures, good, *(torch.stack(c) for c in zip(*columns, strict=True)))

    def join_empty(self) -> None:
        """What a process without images does instead of `forward`: the others wait for it."""
        self._whole(torch.zeros(self.isp.steps, 0))

    def _whole(self, returns: Tensor) -> tuple[Tensor, int]:
        """(sum (T,), count) of the returns over all processes' pictures."""
        rows, count = returns.shape
        sums = returns.sum(dim=1)
        if self.team.world == 1:
            return sums, count
        padding = [0.0] * (self.isp.steps - rows)
        *totals, whole = self.team.summed([*sums.tolist(), *padding, float(count)])
        return returns.new_tensor(totals[:rows]), int(whole)

    def _penalty(self, decision: Decision, state: Tensor, entropy_weight: float) -> Tensor:
        return step_penalty(
            decision.choice,
            state[:, 3:13],
            decision.entropy_gap,
            entropy_weight=entropy_weight,
            runtime_penalty=self.runtime_penalty,
        )

    def _noter(self, names: list[str]) -> Callable[[Tensor], None]:
        return lambda bad: self.note(names, bad, "gradient")


class TerminalStrategy(ReinforceStrategy):
    """REINFORCE on whole rollouts with the detector's loss of the input as baseline.

    BatchNorm uses its running statistics in rollouts as in validation; they follow the
    observations of all steps together (`refresh_statistics`).
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.rollout = Rollout(self.config, self.isp, self.guide, self.team, self.note_bad)
        self.wrapped = self.team.wrap(self.rollout)

    def batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        """Every photograph once."""
        return self.loader.epoch(epoch, first_step)

    def modules(self) -> dict[str, Any]:
        """Nothing: every step begins anew."""
        return {}

    def loss(self, batch: Batch, epoch: int, step: int) -> StepLoss:
        """The mean of `rollout_loss`; a photograph that was left out counts as zero."""
        uniforms = self.uniforms(epoch, step, self.isp.steps)
        images, targets = on_device(batch, self.team.device)
        rollout_mode(self.isp.policy)
        self.rollout.seen = None
        if untracked(self.isp.policy):
            self._first_statistics(images, batch.names, uniforms)
            self.rollout.seen = None
        if not images:
            self.rollout.join_empty()
            return StepLoss(no_loss(self.isp), {}, 0)
        weight = self.entropy_weight(epoch, step)
        found = self.wrapped(images, targets, batch.names, uniforms, weight)
        sums = {"detector": float(found["after"].detach().sum())}
        sums |= facts(found["reward"], found["choices"])
        total = found["each"].sum() / self.loader.size_of(step)
        return StepLoss(total, sums, len(found["each"]))

    def after_backward(self) -> None:
        """The running statistics follow; not earlier, the gradient needs those of the rollout.

        They are of all processes' observations, so that all keep the same.
        """
        parts = [p for p in self.team.gathered(list(self.rollout.seen or ())) if p]
        if parts:
            seen, state = (
                torch.cat(some).to(self.team.device) for some in zip(*parts, strict=True)
            )
            refresh_statistics(self.isp.policy, seen, state)

    def _first_statistics(self, images: list[Tensor], names: list[str], uniforms: Tensor) -> None:
        if images:
            with torch.no_grad():
                start = [start_picture(self.isp, image) for image in images]
                self.rollout.play(start, names, uniforms, 0.0)
        self.after_backward()


def _placed(empty: float, rows: Tensor, values: Tensor, count: int) -> Tensor:
    """(count,): `values` at `rows`, `empty` elsewhere."""
    return torch.full((count,), empty, dtype=values.dtype, device=values.device).index_copy(
        0, rows, values
    )
