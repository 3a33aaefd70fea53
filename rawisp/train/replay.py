"""The pool of unfinished episodes that `greedy` and `td` continue, one step at a time.

It holds states to go on from, not transitions: pictures at different steps are mixed in a batch,
and every choice is the present policy's. What it stores is how a picture came about (which
photograph, which operators with which parameters) rather than the picture: a few kilobytes instead
of gigabytes, and a continued run makes the very same pictures again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rawisp.isp.adaptive.adaptive_isp import AdaptiveIsp
from rawisp.isp.adaptive.operators import PARAMETER_COUNTS

_RAW = sum(PARAMETER_COUNTS)


@dataclass(frozen=True)
class Record:
    """One episode. draw: number of the photograph in the stream of all that were ever drawn.

    choices: the operators so far. raws: each step's raw parameters, (27,), on the CPU. loss: of the
    detector on the picture as it is now; brightness: the mean it began with; None until known.
    """

    draw: int
    choices: tuple[int, ...] = ()
    raws: tuple[Tensor, ...] = field(default=(), compare=False)
    loss: float | None = None
    brightness: float | None = None

    def continued(self, choice: int, raw: Tensor, loss: float) -> Record:
        """One step later."""
        raws = (*self.raws, raw.detach().float().cpu())
        return replace(self, choices=(*self.choices, choice), raws=raws, loss=loss)


class Pool:
    """At most `capacity` records, the next batch in front; fresh ones are drawn to keep it full.

    steps: the most an episode has. reserved: size of a batch. What comes back goes to a random
    place behind the next batch, so that the next batch is known while this one is worked on, and
    can be loaded.
    """

    def __init__(self, capacity: int, steps: int, reserved: int, seed: int) -> None:
        self.capacity, self.steps, self.reserved, self.seed = capacity, steps, reserved, seed
        self.records: list[Record] = []
        self.drawn = 0
        self.turns = 0
        self._put(())

    def front(self, count: int) -> list[Record]:
        """The next `count` records, which stay."""
        return self.records[:count]

    def turn(self, count: int, continued: Sequence[Record]) -> None:
        """The first `count` leave; those that go on come back, fresh ones fill up."""
        if len(continued) > count:
            raise ValueError(f"{len(continued)} records come back, {count} were taken")
        del self.records[:count]
        self.turns += 1
        self._put(continued)

    def _put(self, continued: Sequence[Record]) -> None:
        rng = np.random.default_rng([self.seed, 0, 2, self.turns])
        fresh = self.capacity - len(self.records) - len(continued)
        new = [Record(self.drawn + n) for n in range(fresh)]
        self.drawn += fresh
        for record in (*continued, *new):
            first = min(self.reserved, len(self.records))
            self.records.insert(int(rng.integers(first, len(self.records) + 1)), record)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers, from which the pool is the same again."""
        count = len(self.records)
        choices = torch.full((count, self.steps), -1, dtype=torch.int64)
        raws = torch.zeros(count, self.steps, _RAW)
        for row, record in enumerate(self.records):
            for step, (choice, raw) in enumerate(zip(record.choices, record.raws, strict=True)):
                choices[row, step] = choice
                raws[row, step] = raw
        return {
            "drawn": self.drawn,
            "turns": self.turns,
            "draws": torch.tensor([r.draw for r in self.records]),
            "choices": choices,
            "raws": raws,
            "losses": _numbers([r.loss for r in self.records]),
            "brightness": _numbers([r.brightness for r in self.records]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.drawn, self.turns = state["drawn"], state["turns"]
        self.records = []
        for row, draw in enumerate(state["draws"].tolist()):
            choices = [c for c in state["choices"][row].tolist() if c >= 0]
            raws = tuple(state["raws"][row, : len(choices)].clone())
            loss, brightness = (float(state[key][row]) for key in ("losses", "brightness"))
            self.records.append(
                Record(draw, tuple(choices), raws, _known(loss), _known(brightness))
            )


def replayed(isp: AdaptiveIsp, start: Tensor, record: Record) -> tuple[Tensor, Tensor]:
    """(picture (3, H, W), state (13,)) of a record, from its start picture. Without gradients.

    One picture at a time, whatever batch it was made in: sums of other batch sizes differ in their
    last bits, and a continued run would too.
    """
    with torch.no_grad():
        y = start.unsqueeze(0)
        state = isp.start_state(y)
        for choice, raw in zip(record.choices, record.raws, strict=True):
            number = torch.tensor([choice], device=y.device)
            y = isp.step(y, number, raw.to(y.device).unsqueeze(0))
            state = isp.next_state(state, number)
    return y[0], state[0]


def _numbers(values: list[float | None]) -> Tensor:
    """float64, NaN for None."""
    known = [math.nan if value is None else value for value in values]
    return torch.tensor(known, dtype=torch.float64)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
