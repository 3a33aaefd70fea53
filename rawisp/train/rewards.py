"""The arithmetic of reinforcement: penalties, rewards, targets. (B,) is a number per picture.

"AdaptiveISP", NeurIPS 2024, and its released code; docs/reinforcement.md says where they differ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rawisp.isp.adaptive.operators import COST_MS

# A detector loss that falls by 0.01 is worth 1, as much as one repetition costs (released code).
REWARD_SCALE = 100.0
REUSE_PENALTY = 1.0
# Mean brightness beyond which an episode is given up (released code).
DARKEST, BRIGHTEST = 0.01, 0.9


def costs_ms(device: torch.device) -> Tensor:
    """(11,) milliseconds of each operator by the paper's table, and 0 for stopping."""
    return torch.tensor([*COST_MS, 0.0], device=device)


def step_penalty(
    choice: Tensor,
    used: Tensor,
    entropy_gap: Tensor,
    *,
    entropy_weight: float,
    runtime_penalty: float,
) -> Tensor:
    """What is taken off one step's reward.

    choice: int64, 10 for stopping. used: (B, 10), 1 for operators used before. entropy_gap: the
    highest possible entropy of the choice minus its entropy, in nats. runtime_penalty: per
    millisecond of the paper's table.
    """
    again = torch.cat([used, torch.zeros_like(used[:, :1])], dim=1)
    repeated = again.gather(1, choice.unsqueeze(1)).squeeze(1)
    cost = costs_ms(choice.device)[choice]
    return REUSE_PENALTY * repeated + runtime_penalty * cost + entropy_weight * entropy_gap


def step_reward(before: Tensor, after: Tensor, penalty: Tensor) -> Tensor:
    """100 (loss before - loss after) - penalty."""
    return REWARD_SCALE * (before - after) - penalty


def inside_window(brightness: Tensor, at_start: Tensor) -> Tensor:
    """Whether a picture is neither lost in darkness nor washed out; bool.

    A photograph of the night may begin below DARKEST; it is lost when it falls to half of that.
    """
    darkest = torch.clamp(0.5 * at_start, max=DARKEST)
    return (brightness > darkest) & (brightness < BRIGHTEST)


def bootstrap(mode: str, brightness: Tensor, at_start: Tensor, ended: Tensor) -> Tensor:
    """1 where the value of what comes next belongs to a step's target, else 0.

    "td": where the episode goes on, in the paper's sense: it has not ended and the picture is
    inside the window. "greedy": as released, which has it the wrong way round, so that only
    pictures outside the published window have a future, and all others none.
    """
    if mode == "td":
        keep = inside_window(brightness, at_start)
    else:
        keep = (brightness < DARKEST) | (brightness > BRIGHTEST)
    return (keep & ~ended).to(brightness.dtype)


def step_target(reward: Tensor, discount: float, keep: Tensor, value_next: Tensor) -> Tensor:
    """reward + discount V(next) where `keep` is 1."""
    return reward + discount * keep * value_next


def returns_to_go(gain: Tensor, penalties: Tensor) -> Tensor:
    """(T, B): what each step of a rollout is judged by.

    gain: 100 (loss of the input - loss of the result), the same for all steps. penalties: (T, B); a
    step answers for its own and for later ones, which it may have caused.
    """
    return gain.unsqueeze(0) - penalties.flip(0).cumsum(0).flip(0)


def above_others(returns: Tensor, total: Tensor, count: int) -> Tensor:
    """(T, B): each picture's returns less the mean of the other pictures', where there are others.

    total: (T,), the sum over the `count` pictures of the whole batch, these among them. A baseline
    that the picture's own choices cannot move, so nothing is favoured by it; without it nearly all
    returns are positive, and whatever was chosen first is reinforced.
    """
    if count < 2:
        return returns
    return returns - (total.unsqueeze(1) - returns) / (count - 1)


def rollout_loss(
    gain: Tensor, penalties: Tensor, log_probability: Tensor, advantages: Tensor
) -> Tensor:
    """(B,), what `terminal` minimises, of whole rollouts.

    gain: 100 (loss of the input - loss of the result). penalties, log_probability, advantages:
    (T, B); the first two are zero where a picture had stopped. The choices are moved by REINFORCE,
    the operators' parameters by the gradient of `gain`.
    """
    return penalties.sum(dim=0) - gain - (log_probability * advantages.detach()).sum(dim=0)


def actor_loss(target: Tensor, value: Tensor, log_probability: Tensor) -> Tensor:
    """What `greedy` and `td` minimise for the policy: -target - log pi (target - V).

    The first term reaches the operator's parameters through the detector, the second the choice.
    """
    advantage = (target - value).detach()
    return -target - log_probability * advantage


def critic_loss(target: Tensor, value: Tensor) -> Tensor:
    """What they minimise for the value network: (target - V)^2."""
    return (target.detach() - value) ** 2
