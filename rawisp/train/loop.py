"""The loop of a run: steps, epochs, validation, best, state. What a step is, a strategy says."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from rawisp.checkpoint.export import export_checkpoint
from rawisp.data.prepared import PreparedImage, hash_of
from rawisp.detect import Guide, freeze, thaw, weights_hash
from rawisp.detect.categories import CategoryMap
from rawisp.errors import CheckpointError, TrainingError, display_path
from rawisp.isp.adaptive.adaptive_isp import AdaptiveIsp
from rawisp.isp.base import Isp
from rawisp.train import state
from rawisp.train.config import TrainConfig
from rawisp.train.distributed import Team
from rawisp.train.events import OnTrainEvent, TrainEvent
from rawisp.train.gradient import StepLoss, gradients
from rawisp.train.judge import CHECKPOINT, Judge, jsonable
from rawisp.train.loader import Batch, Loader
from rawisp.train.logbook import Logbook
from rawisp.train.machine import keep_freed_memory, memory_gb, reproducible
from rawisp.train.pooled import PoolStrategy
from rawisp.train.schedule import lr_at
from rawisp.train.start import starting_isp
from rawisp.train.strategy import FACT, NotFiniteError, Strategy, SupervisedStrategy
from rawisp.train.terminal import TerminalStrategy

SCRIPTED = "isp.ts"


@dataclass(frozen=True)
class Ending:
    """What a run comes to. best, best_joint: (value, epoch), the latter None without a second
    phase. records: the lines of metrics.jsonl; none in processes that do not lead."""

    checkpoint: str
    best: tuple[float, int]
    epochs: int
    records: list[dict[str, Any]]
    best_joint: tuple[float, int] | None


class Trainer:
    """One run in one process; `run` does it all."""

    def __init__(
        self,
        config: TrainConfig,
        folder: str,
        training: Sequence[PreparedImage],
        held_out: Sequence[PreparedImage],
        categories: CategoryMap,
        guide: Guide,
        team: Team,
        on_event: OnTrainEvent,
        about: dict[str, Any],
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.folder, self.team, self.on_event = config, folder, team, on_event
        self.isp: Isp = starting_isp(config).to(team.device)
        self.guide = guide.to(team.device)
        freeze(self.guide)
        self.frozen_hash = weights_hash(self.guide)
        self.data_hash = hash_of([*training, *held_out])
        # Earlier runs left classes out that no box uses, and numbered the others anew.
        used = [name not in categories.unused for name in categories.categories]
        numbers = np.cumsum(used, dtype=np.int64) - 1
        self.earlier_data_hash = hash_of([*training, *held_out], numbers)
        self.loader = Loader(
            training,
            categories,
            config.augment,
            config.batch_size,
            config.seed,
            config.input_color,
            config.workers,
            team.rank,
            team.world,
            by_day=config.day_weight > 0.0 or config.day_response > 0.0,
        )
        self.judge = Judge(
            config,
            folder,
            self.isp,
            self.guide,
            self.loader,
            held_out,
            categories,
            team.device,
            on_event,
            about,
        )
        self.position = state.Position()
        self.phase = 1
        self.strategy = self._strategy()
        self.optimizer = self._optimizer()
        self._names: list[str] = []  # the photographs behind the gradients so far
        self._rate: tuple[float, int] = (time.monotonic(), 0)
        self._saved_at = time.monotonic()

    def restore(self, saved: dict[str, Any]) -> None:
        """Takes up where `saved` (of `state.read_state`) was written."""
        if saved["frozen_hash"] != self.frozen_hash:
            raise CheckpointError(
                f"{display_path(self.folder)}: the run was begun with another detector than "
                f"{self.config.detector} with these weights"
            )
        if saved["data_hash"] not in (self.data_hash, self.earlier_data_hash):
            raise CheckpointError(
                f"{display_path(self.folder)}: the run was begun with other photographs or boxes; "
                "give the same data, or start a new run"
            )
        self.position = position = saved["position"]
        if position.best is not None and position.best[1] > self.config.epochs:
            # Runs of earlier versions did not tell the best joint epoch apart.
            position.best_joint = position.best_joint or position.best
        if self.position.epoch >= self.config.epochs and self.config.phase2_epochs:
            self._enter_phase2()
        for name, module in self._modules().items():
            module.load_state_dict(saved["modules"][name])
        torch.set_rng_state(saved["random"])

    def run(self) -> Ending:
        """The whole run, or what is left of it."""
        keep_freed_memory()
        with reproducible(self.team.device), gradients(self.strategy.at_once) as self.gradients:
            return self._run()

    def _run(self) -> Ending:
        total = self.config.total_epochs
        book = None
        if self.team.leads:
            with state.files_of(self.folder):
                book = Logbook(self.folder, self.position.lines)
        images = {"training": len(self.loader.images), "held_out": len(self.judge.held_out)}
        self.on_event(TrainEvent("start", values={**images, "epochs": total}))
        if self.position.epoch == self.position.step == 0:
            self._before(book)
        while self.position.epoch < total:
            if self.position.epoch >= self.config.epochs and self.phase == 1:
                self._enter_phase2()
            seconds = self._epoch(total)
            self._end_of_epoch(book, seconds)
        if book is not None:
            book.close()
        if self.team.leads:
            self._export()
        self.team.wait()
        return Ending(
            os.path.join(self.folder, CHECKPOINT),
            self.position.best or (math.nan, -1),
            total,
            book.records if book is not None else [],
            self.position.best_joint,
        )

    def _before(self, book: Logbook | None) -> None:
        """Epoch 0. It is no state to continue from: a run that ends here begins again."""
        if book is not None:
            with state.files_of(self.folder):
                record = {**self.judge.before(), **self._photographs()}
                book.append(record)
            self.position.lines = len(book.records)
            self.on_event(TrainEvent("epoch", values=record))
        self.team.wait()

    def _photographs(self) -> dict[str, int]:
        """How many are used, and how many are left out: in each line of metrics.jsonl."""
        told = self.judge.about.get(
            "photographs", {"used": len(self.loader.images), "left_out": []}
        )
        return {
            "photographs": told["used"],
            "left_out": sum(group["count"] for group in told["left_out"]),
        }

    def _strategy(self) -> Strategy:
        common = (self.config, self.isp, self.guide, self.loader, self.team)
        if not self.config.reinforces:
            return SupervisedStrategy(*common)
        assert isinstance(self.isp, AdaptiveIsp)
        kind = TerminalStrategy if self.config.reinforce == "terminal" else PoolStrategy
        return kind(*common, self.on_event)

    def _optimizer(self) -> torch.optim.Optimizer:
        parameters = [
            {"params": [p for p in module.parameters() if p.requires_grad]}
            for module in self.strategy.trained
        ]
        if not parameters[0]["params"]:
            raise TrainingError(f"{self.config.isp} has no parameters to learn")
        lr, decay = self.config.lr, self.config.weight_decay
        if self.config.optimizer == "sgd":
            momentum, nesterov = self.config.momentum, self.config.nesterov
            return torch.optim.SGD(
                parameters, lr, momentum=momentum, nesterov=nesterov, weight_decay=decay
            )
        kind = torch.optim.AdamW if self.config.optimizer == "adamw" else torch.optim.Adam
        return kind(parameters, lr, weight_decay=decay)

    def _enter_phase2(self) -> None:
        """The detector learns along from here on."""
        thaw(self.guide)
        self.phase = 2
        self.optimizer.add_param_group(
            {"params": list(self.guide.parameters()), "lr": self.config.phase2_detector_lr}
        )
        self.strategy.rewrap()

    def _modules(self) -> dict[str, Any]:
        modules: dict[str, Any] = {"isp": self.isp, "optimizer": self.optimizer}
        modules |= self.strategy.modules()
        return modules | ({"detector": self.guide} if self.phase == 2 else {})

    def _epoch(self, total: int) -> float:
        """The steps of an epoch that are left. Returns the seconds they took."""
        start = time.monotonic()
        self._rate = (start, 0)
        self.isp.train()
        position = self.position
        self.optimizer.zero_grad(set_to_none=True)
        for batch in self.strategy.batches(position.epoch, position.step):
            self._forward_backward(batch)
            position.step += 1
            last = position.step == self.loader.steps
            if position.step % self.config.accumulate == 0 or last:
                self._update()
                if not last and time.monotonic() - self._saved_at > self.config.save_every_s:
                    self._save()
            self._report(total)
        return time.monotonic() - start

    def _forward_backward(self, batch: Batch) -> None:
        """This process's part of the gradient of the batch; the sums of the epoch grow."""
        sums = self.position.sums
        try:
            for found in self._gradients_of(batch):
                for name, value in (found.sums | {"images": float(found.images)}).items():
                    sums[name] = sums.get(name, 0.0) + value
        except NotFiniteError as error:
            raise self._not_finite("loss", self.position.step + 1, error.names) from None
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
                raise
            raise self._out_of_memory(batch) from None
        self.strategy.after_backward()
        self._names += batch.names

    def _gradients_of(self, batch: Batch) -> list[StepLoss]:
        epoch, step = self.position.epoch, self.position.step
        losses = [partial(self.strategy.loss, p, epoch, step) for p in self.strategy.pieces(batch)]
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        # Gradients are averaged over processes, each of which has a part of the batch.
        factor = self.team.world / self.config.accumulate
        return self.gradients.add(losses, parameters, factor)

    def _not_finite(self, what: str, step: int, names: list[str]) -> TrainingError:
        return TrainingError(
            f"the {what} is not finite in epoch {self.position.epoch + 1}, step {step}, for "
            f"{', '.join(display_path(n) for n in names)}; look at these files (rawisp validate), "
            "or lower --lr"
        )

    def _update(self) -> None:
        """One optimiser step, unless the gradient would spoil the weights."""
        lr = lr_at(self.config, self.position.epoch, self.position.step - 1, self.loader.steps)
        for group in self.optimizer.param_groups[: len(self.strategy.trained)]:
            group["lr"] = self.config.joint_lr if self.phase == 2 else lr
        for group in self.optimizer.param_groups:
            limit = self.config.clip_norm or math.inf
            norm = torch.nn.utils.clip_grad_norm_(group["params"], limit)
            if not bool(torch.isfinite(norm)):
                raise self._not_finite("gradient", self.position.step, self._names)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._names = []

    def _report(self, total: int) -> None:
        position = self.position
        started, done = self._rate
        done += self.loader.size_of(position.step - 1)
        self._rate = (started, done)
        rate = done / max(time.monotonic() - started, 1e-9)
        left = (self.loader.steps - position.step) * self.config.batch_size
        left += (total - position.epoch - 1) * len(self.loader.images)
        values = {
            "epoch": position.epoch + 1,
            "epochs": total,
            "phase": self.phase,
            "step": position.step,
            "steps": self.loader.steps,
            "losses": self._means(position.sums)[0],
            "images_per_s": rate,
            "left_s": left / rate,
            "memory_gb": memory_gb(self.team.device),
        }
        self.on_event(TrainEvent("step", values=values))

    @staticmethod
    def _means(sums: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
        """(loss terms, facts) per image."""
        count = max(1.0, sums.get("images", 0.0))
        means = {name: value / count for name, value in sums.items() if name != "images"}
        told = {name: means.pop(name) for name in list(means) if name.startswith(FACT)}
        return means, {name.removeprefix(FACT): value for name, value in told.items()}

    def _end_of_epoch(self, book: Logbook | None, seconds: float) -> None:
        position = self.position
        names = sorted(position.sums)
        sums = dict(zip(names, self.team.summed([position.sums[n] for n in names]), strict=True))
        losses, told = self._means(sums)
        record: dict[str, Any] = {
            "epoch": position.epoch + 1,
            "phase": self.phase,
            "learns": "isp" if self.phase == 1 else "isp+detector",
            "lr": self.optimizer.param_groups[0]["lr"],
            **({"detector_lr": self.config.phase2_detector_lr} if self.phase == 2 else {}),
            "loss": sum(losses.values()),
            "losses": losses,
            **({"agent": told} if told else {}),
            **self._photographs(),
            "seconds": round(seconds, 3),
        }
        position.epoch, position.step, position.sums = position.epoch + 1, 0, {}
        if book is not None:
            with state.files_of(self.folder):
                self.judge.after(record, position)
                book.append(record)
            position.lines = len(book.records)
            self.on_event(TrainEvent("epoch", values=record))
        self._save()
        self.team.wait()

    def _save(self) -> None:
        """State on disk; a frozen detector that has changed is a bug, and is never saved."""
        if self.phase == 1 and weights_hash(self.guide) != self.frozen_hash:
            raise AssertionError("the frozen detector has changed")
        if self.team.leads:
            config = jsonable(self.config.record())
            hashes = (self.frozen_hash, self.data_hash)
            with state.files_of(self.folder):
                state.save_state(self.folder, self.position, self._modules(), config, *hashes)
        self._saved_at = time.monotonic()

    def _export(self) -> None:
        source = os.path.join(self.folder, CHECKPOINT)
        try:
            with state.files_of(self.folder):
                export_checkpoint(source, os.path.join(self.folder, SCRIPTED))
        except (
            CheckpointError
        ) as error:  # a plug-in that cannot be scripted is trained all the same
            self.on_event(TrainEvent("note", f"no {SCRIPTED}: {error}"))

    def _out_of_memory(self, batch: Batch) -> TrainingError:
        height, width = max((tuple(i.shape[1:]) for i in batch.images), default=(0, 0))
        size, half = self.config.batch_size, max(1, self.config.batch_size // 2)
        return TrainingError(
            f"out of memory with batches of {size} images of up to {width}x{height}; try "
            f"--batch-size {half} --accumulate {self.config.accumulate * 2} "
            f"({self.strategy.halves}), --fit {width * 2 // 3}x{height * 2 // 3} (under half)"
            f"{self.strategy.memory_advice}"
        )
