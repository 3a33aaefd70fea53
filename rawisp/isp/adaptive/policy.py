"""The agent's networks: which operator next, and with which parameters; and the value network.

Layer sizes and order are those of the released checkpoints, so that their weights can be mapped.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rawisp.isp.adaptive.operators import KEYS, PARAMETER_COUNTS, luma
from rawisp.isp.thumbnail import cell_averages

OPERATORS = len(KEYS)
STATE = 3 + OPERATORS  # has_reward, stopped, step, and how often each operator was used (0 or 1)
_FEATURES = 4096
_HIDDEN = 128
_DEAD_MASK_OUTPUTS = 6


def trunk(channels: int, dropout: float) -> nn.Sequential:
    """Four times [4x4 convolution of stride 2, BatchNorm, LeakyReLU 0.2], 64x64 to 4096 numbers."""
    layers: list[nn.Module] = []
    for out in (32, 64, 128, 256):
        layers += [nn.Conv2d(channels, out, 4, 2, 1), nn.BatchNorm2d(out), nn.LeakyReLU(0.2)]
        channels = out
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout))


def head(outputs: int) -> nn.Sequential:
    """4096 to 128 to `outputs`."""
    return nn.Sequential(
        nn.Linear(_FEATURES, _HIDDEN), nn.LeakyReLU(0.2), nn.Linear(_HIDDEN, outputs)
    )


class OperatorHead(nn.Module):
    """The raw parameters of one operator. Parity also holds six outputs that nothing reads."""

    def __init__(self, outputs: int, dead_mask: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(_FEATURES, _HIDDEN)
        self.fc_filter = nn.Linear(_HIDDEN, outputs)
        if dead_mask:
            self.fc_mask = nn.Linear(_HIDDEN, _DEAD_MASK_OUTPUTS)

    def forward(self, features: Tensor) -> Tensor:
        """(B, outputs) from (B, 4096)."""
        raw: Tensor = self.fc_filter(functional.leaky_relu(self.fc1(features), 0.2))
        return raw


class Policy(nn.Module):
    """From an image and the state to a choice among the operators, and each one's parameters.

    stop: whether "stop here" is one choice more, the last.
    """

    def __init__(self, stop: bool, dead_mask: bool, dropout: float) -> None:
        super().__init__()
        self.parameter_trunk = trunk(3 + STATE, dropout)
        self.choice_trunk = trunk(3 + STATE, dropout)
        self.heads = nn.ModuleList(OperatorHead(n, dead_mask) for n in PARAMETER_COUNTS)
        self.choice = head(OPERATORS + int(stop))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(choice logits (B, 10 or 11), raw parameters (B, 27), operator after operator)."""
        seen = with_state(x, state)
        features = self.parameter_trunk(seen)
        raw: list[Tensor] = []
        for one in self.heads:
            raw.append(one(features))
        return self.choice(self.choice_trunk(seen)), torch.cat(raw, dim=1)


class ValueNetwork(nn.Module):
    """How much reward is still to come, from an image and the state; for training only."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunk(3 + STATE + 3, 0.0)
        self.head = head(1)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """(B,). Everything is seen through the 64x64 thumbnail."""
        x = cell_averages(x, 64)
        cut = x.clamp(0.0, 1.0)
        level = luma(x) + 1e-5
        high, low = cut.amax(dim=1), cut.amin(dim=1)
        both = high + low
        saturation = (high - low) / (torch.minimum(both, 2.0 - both) + 0.01)
        statistics = torch.stack(
            [
                level.mean(dim=(1, 2, 3)),
                level.flatten(1).var(dim=1),
                saturation.mean(dim=(1, 2)),
            ],
            dim=1,
        )
        seen = with_state(x, torch.cat([state, statistics], dim=1))
        value: Tensor = self.head(self.trunk(seen))
        return value.squeeze(1)


def with_state(x: Tensor, state: Tensor) -> Tensor:
    """The 64x64 thumbnail (area average) with each state number as a constant plane behind it."""
    small = cell_averages(x, 64)
    planes = state.to(small.dtype).view(state.shape[0], -1, 1, 1)
    return torch.cat([small, planes.expand(-1, -1, 64, 64)], dim=1)
