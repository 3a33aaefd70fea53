"""AdaptiveISP: up to T operators, chosen one after another by a policy that looks at the result.

"AdaptiveISP: Learning an Adaptive Image Signal Processor for Object Detection", NeurIPS 2024.
Here it is deterministic: the most probable operator at each step. Training by reinforcement uses
`policy` and `value` and the same operators.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rawisp.isp.adaptive import operators
from rawisp.isp.adaptive.policy import OPERATORS, Policy, ValueNetwork
from rawisp.isp.base import Isp


@dataclass(frozen=True)
class AdaptiveConfig:
    """steps: at most so many operators. stop: whether the policy may stop before.

    parity: operators, parametrisations, unused weights and the missing stop as in the released
    code (`stop` is then ignored). exposure_ev: a fixed gain in stops before the first operator,
    for RAW that is darker than the operator's 3.5 stops can mend. dropout: of the policy's trunks,
    in training. repeat: whether an operator may be chosen again. letterbox: whether the image is
    put in the middle of a black square of its longer side, in which the policy and the operators
    see it, and cut out at the end. The released weights were trained so (512x512), and choose
    otherwise without the bars. None: as parity says.
    """

    steps: int = 5
    stop: bool = True
    parity: bool = False
    exposure_ev: float = 0.0
    dropout: float = 0.5
    repeat: bool = True
    letterbox: bool | None = None


class AdaptiveIsp(Isp):
    """An agent over ten operators: it looks, chooses one with its parameters, and looks again."""

    name = "adaptive-isp"
    Config = AdaptiveConfig
    branches = True

    def __init__(self, config: AdaptiveConfig | None = None) -> None:
        super().__init__()
        config = config or AdaptiveConfig()
        if not 1 <= config.steps <= 10:
            raise ValueError(f"steps {config.steps} is not between 1 and 10")
        self.config = config
        self.steps = config.steps
        self.fixed = not config.parity
        self.stop = config.stop and not config.parity
        self.repeat = config.repeat or config.parity
        self.letterbox = config.parity if config.letterbox is None else config.letterbox
        # Operators mix the bars, which they change too, into what lies beside them.
        self.streams = not self.letterbox
        self.gain = 2.0**config.exposure_ev
        self.stop_choice = OPERATORS
        self.counts = list(operators.PARAMETER_COUNTS)
        self.halo = config.steps * max(operators.HALOS)
        self.policy = Policy(self.stop, dead_mask=config.parity, dropout=config.dropout)
        if not config.parity:
            for one in self.policy.heads:  # raw zero is the identity, see parameters_from_raw
                nn.init.zeros_(one.fc_filter.weight)  # type: ignore[arg-type, union-attr]
                nn.init.zeros_(one.fc_filter.bias)  # type: ignore[arg-type, union-attr]

    def value_network(self) -> ValueNetwork:
        """A fresh value network of the size that training needs; not part of the ISP."""
        return ValueNetwork()

    def start_state(self, x: Tensor) -> Tensor:
        """(B, 13) of zeros."""
        return torch.zeros(x.shape[0], 13, device=x.device)

    def next_state(self, state: Tensor, choice: Tensor) -> Tensor:
        """One step later, with the chosen operators marked as used."""
        numbers = torch.arange(self.stop_choice, device=state.device).unsqueeze(0)
        chosen = (choice.unsqueeze(1) == numbers).to(state.dtype)
        used = torch.maximum(state[:, 3:13], chosen)
        return torch.cat([state[:, :2], state[:, 2:3] + 1.0, used], dim=1)

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """{"operators": (B, T) numbers into KEYS, 10 for none; "raw": (B, T, 27)}.

        Each step sees what the steps before have made, so the image is rendered along the way.
        """
        y = self._begun(x)
        state = self.start_state(x)
        stopped = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
        chosen, raws = [], []
        for _ in range(self.steps):
            logits, raw = self.policy(y, state)
            if not self.repeat:
                used = torch.zeros_like(logits)
                used[:, :10] = state[:, 3:13]
                logits = logits - 1e9 * used
            choice = logits.argmax(dim=1)
            choice = torch.where(stopped, torch.full_like(choice, self.stop_choice), choice)
            stopped = stopped | (choice == self.stop_choice)
            chosen.append(choice)
            raws.append(raw)
            y = self.step(y, choice, raw)
            state = self.next_state(state, choice)
        return {"operators": torch.stack(chosen, dim=1), "raw": torch.stack(raws, dim=1)}

    def step(self, y: Tensor, choice: Tensor, raw: Tensor) -> Tensor:
        """One operator for each image of the batch; only the chosen ones run."""
        first = 0
        out = y
        for index in range(10):
            count = self.counts[index]
            rows = torch.nonzero(choice == index).squeeze(1)
            if rows.shape[0] > 0:
                theta = operators.parameters_from_raw(
                    index, raw[rows, first : first + count], self.fixed
                )
                part = operators.run_operator(index, y[rows], theta, self.fixed)
                out = out.index_copy(0, rows, part.clamp(0.0, 1.0))
            first += count
        return out

    def apply(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """The chosen operators, one after another, each cut to [0, 1]."""
        y = self._begun(x)
        for t in range(self.steps):
            y = self.step(y, parameters["operators"][:, t], parameters["raw"][:, t])
        if self.letterbox:
            height, width = x.shape[2], x.shape[3]
            top, left = self._bar(height, width), self._bar(width, height)
            y = y[:, :, top : top + height, left : left + width]
        return y

    def _begun(self, x: Tensor) -> Tensor:
        """What the first step sees: with the gain, cut to [0, 1], between black bars."""
        y: Tensor = (x.float() * self.gain).clamp(0.0, 1.0)
        if not self.letterbox:
            return y
        height, width = x.shape[2], x.shape[3]
        top, left = self._bar(height, width), self._bar(width, height)
        side = max(height, width)
        return functional.pad(y, [left, side - width - left, top, side - height - top])

    def _bar(self, length: int, other: int) -> int:
        """Pixels in front of `length`; the bar behind it takes the odd one."""
        return max(other - length, 0) // 2
