"""Acting: which operator the policy chooses for each picture, and what it makes of them.

Pictures are float32 (3, H, W) in [0, 1], of different sizes; policy and value network see them
through 64x64 thumbnails, all of a batch together. What the policy sees has no gradient: parameters
are moved by what they do to the picture, not by what they make later steps choose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rawisp.isp.adaptive.adaptive_isp import AdaptiveIsp
from rawisp.isp.adaptive.operators import KEYS
from rawisp.isp.thumbnail import cell_averages

STOP = len(KEYS)
_DENOISE = KEYS.index("NLM")
# The largest float32 below 1.
_BELOW_ONE = 1.0 - 2.0**-24


@dataclass(frozen=True)
class Decision:
    """One step's choices, a row for each picture.

    choice: int64 (B,), 10 for stopping. raw: (B, 27), parameters of all operators.
    log_probability: (B,), of the choice. entropy_gap: (B,), highest possible entropy minus entropy.
    """

    choice: Tensor
    raw: Tensor
    log_probability: Tensor
    entropy_gap: Tensor


def start_picture(isp: AdaptiveIsp, image: Tensor) -> Tensor:
    """What the first step sees: (3, H, W) with the configured gain, cut to [0, 1]."""
    picture: Tensor = (image.float() * isp.gain).clamp(0.0, 1.0)
    return picture


def thumbnails(pictures: Sequence[Tensor]) -> Tensor:
    """(B, 3, 64, 64)."""
    return torch.cat([cell_averages(picture.unsqueeze(0), 64) for picture in pictures])


def finite_rows(pictures: Sequence[Tensor]) -> Tensor:
    """bool (B,): which pictures hold neither NaN nor infinity."""
    return torch.stack([torch.isfinite(picture).all() for picture in pictures])


def choice_probabilities(logits: Tensor, barred: Tensor, explore: float) -> Tensor:
    """(B, N) from (B, N): softmax over what is not barred, mixed with a share of chance.

    barred: bool. explore: that share, 0.05 in the released code; it also keeps logarithms finite.
    """
    logits = logits.masked_fill(barred, -1e9)  # not -inf, whose gradient is NaN
    open_ = (~barred).to(logits.dtype)
    chance = open_ / open_.sum(dim=1, keepdim=True)
    mixed = (1.0 - explore) * torch.softmax(logits, dim=1) + explore * chance
    return mixed / mixed.sum(dim=1, keepdim=True)


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """(B,) int64: the choice where the cumulated probability passes `uniform` in [0, 1].

    Never one of probability 0, also for 0 and 1 (the released code draws number -1 for 0, and with
    it a black picture).
    """
    cumulated = probabilities.detach().cumsum(dim=1)
    # The last possible choice ends at exactly 1, whatever rounding left.
    cumulated = cumulated / cumulated[:, -1:]
    u = uniform.to(cumulated.dtype).clamp(0.0, _BELOW_ONE).unsqueeze(1)
    return (cumulated <= u).sum(dim=1)


def entropy_gap(probabilities: Tensor, barred: Tensor) -> Tensor:
    """(B,): ln(number of open choices) - entropy, in nats."""
    entropy = -(probabilities * probabilities.clamp(min=1e-12).log()).sum(dim=1)
    return (~barred).sum(dim=1).to(probabilities.dtype).log() - entropy


def barred_choices(isp: AdaptiveIsp, state: Tensor) -> Tensor:
    """bool (B, 10 or 11): used operators, for an ISP that may not repeat one. Stopping is open."""
    barred = torch.zeros(
        state.shape[0], STOP + int(isp.stop), dtype=torch.bool, device=state.device
    )
    if not isp.repeat:
        barred[:, :STOP] = state[:, 3:13] > 0.5
    return barred


def decide(
    isp: AdaptiveIsp,
    seen: Tensor,
    state: Tensor,
    uniform: Tensor,
    explore: float,
    on_bad_gradient: Callable[[Tensor], None] | None = None,
) -> Decision:
    """A sampled choice for each row of `seen` (B, 3, 64, 64), `state` (B, 13), `uniform` (B,).

    on_bad_gradient: gets bool (B,) when a picture's gradient is not finite; it is taken as zero, so
    that one picture cannot spoil the batch.
    """
    logits, raw = isp.policy(seen.detach(), state)
    barred = barred_choices(isp, state)
    probabilities = choice_probabilities(logits, barred, explore)
    choice = draw(probabilities, uniform)
    chosen = probabilities.gather(1, choice.unsqueeze(1)).squeeze(1)
    if raw.requires_grad:
        raw.register_hook(_guarded(on_bad_gradient or (lambda _: None)))
    return Decision(choice, raw, chosen.log(), entropy_gap(probabilities, barred))


def _guarded(report: Callable[[Tensor], None]) -> Callable[[Tensor], Tensor]:
    def guard(gradient: Tensor) -> Tensor:
        bad = ~torch.isfinite(gradient).all(dim=1)
        if bool(bad.any()):
            report(bad)
        return gradient.masked_fill(bad.unsqueeze(1), 0.0)

    return guard


def apply_choices(
    isp: AdaptiveIsp, pictures: Sequence[Tensor], choice: Tensor, raw: Tensor
) -> list[Tensor]:
    """Each picture through its chosen operator, those of one size together.

    Denoising is recomputed for the gradient, picture by picture: it would keep hundreds of copies.
    """
    made = list(pictures)
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, number in enumerate(choice.tolist()):
        if number == _DENOISE:
            one = pictures[row].unsqueeze(0), choice[row : row + 1], raw[row : row + 1]
            (made[row],) = checkpoint(isp.step, *one, use_reentrant=False, preserve_rng_state=False)
        elif number != STOP:
            groups.setdefault(tuple(pictures[row].shape), []).append(row)
    for rows in groups.values():
        at = torch.tensor(rows, device=choice.device)
        y = isp.step(torch.stack([pictures[row] for row in rows]), choice[at], raw[at])
        for row, picture in zip(rows, y, strict=True):
            made[row] = picture
    return made


def batch_norms(policy: nn.Module) -> list[nn.BatchNorm2d]:
    """All of them, in order."""
    return [module for module in policy.modules() if isinstance(module, nn.BatchNorm2d)]


def rollout_mode(policy: nn.Module) -> None:
    """Dropout as in training, BatchNorm with its running statistics.

    The steps of rollouts go in lockstep: statistics of one step alone would cancel the step number
    that the policy is told, and differ from what validation uses.
    """
    policy.train()
    for norm in batch_norms(policy):
        norm.eval()


def untracked(policy: nn.Module) -> bool:
    """Whether the running statistics are still those of no batch."""
    counts = [norm.num_batches_tracked for norm in batch_norms(policy)]
    return any(count is not None and int(count) == 0 for count in counts)


def refresh_statistics(policy: nn.Module, seen: Tensor, state: Tensor) -> None:
    """Moves the running statistics towards those of observations of all steps; the first time to.

    seen: (n, 3, 64, 64), state: (n, 13). Leaves the policy in `rollout_mode`.
    """
    first = untracked(policy)
    norms = batch_norms(policy)
    momenta = [norm.momentum for norm in norms]
    policy.eval()  # no dropout
    for norm in norms:
        norm.train()
        norm.momentum = 1.0 if first else norm.momentum
    with torch.no_grad():
        policy(seen, state)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    rollout_mode(policy)
