"""What is made of an epoch: validation, previews, and the checkpoints of the best ones."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from typing import Any

import torch

from rawisp.checkpoint.metadata import CheckpointMetadata
from rawisp.checkpoint.native import save_native
from rawisp.data.prepared import PreparedImage
from rawisp.detect import Guide, save_guide, weights_hash
from rawisp.detect.categories import CategoryMap
from rawisp.evaluation.events import Voice, ignore_evaluation
from rawisp.evaluation.run import evaluate_rendering
from rawisp.evaluation.scope import scope_of
from rawisp.isp.base import Isp
from rawisp.train.config import TrainConfig
from rawisp.train.events import OnTrainEvent, TrainEvent
from rawisp.train.loader import Loader
from rawisp.train.previews import draw_previews
from rawisp.train.state import Position
from rawisp.train.step import Step
from rawisp.train.strategy import on_device

CHECKPOINT = "isp.safetensors"
# Of the best joint epoch: the detector that learned along, and the ISP that it belongs to.
PARTNER, JOINT_CHECKPOINT = "detector.safetensors", "isp_joint.safetensors"
# Parameters are written down one by one when there are at most so many.
_FEW_PARAMETERS = 64
# Photographs whose loss before learning is taken where nothing is held out.
_MOST_BEFORE = 256


class Judge:
    """Judges one run's ISP in the process that writes its files."""

    def __init__(
        self,
        config: TrainConfig,
        folder: str,
        isp: Isp,
        guide: Guide,
        loader: Loader,
        held_out: Sequence[PreparedImage],
        categories: CategoryMap,
        device: torch.device,
        on_event: OnTrainEvent,
        about: dict[str, Any],
    ) -> None:
        self.config, self.folder, self.isp, self.guide = config, folder, isp, guide
        self.loader, self.device, self.on_event, self.about = loader, device, on_event, about
        # As `eval` counts: classes that the detector does not know are left out, not scored zero.
        scope = scope_of({"": list(held_out)}, categories, Voice(ignore_evaluation))
        self.held_out, self.judged = scope.images[""], scope.categories

    def before(self) -> dict[str, Any]:
        """The record of epoch 0: how good the ISP is before it learns.

        Where photographs are held out their average precision, else the loss of the first ones of
        the first epoch, of as many as there are up to _MOST_BEFORE. Random numbers are left alone.
        """
        start = time.monotonic()
        record: dict[str, Any] = {"epoch": 0, "phase": 0, "learns": "nothing", "lr": 0.0}
        record["losses"] = {}
        random = torch.get_rng_state()
        self.isp.eval()
        if not self.held_out:
            losses = self._losses_before()
            if all(math.isfinite(value) for value in losses.values()):  # else learning says whose
                record |= {"loss": sum(losses.values()), "losses": losses}
        self._look(record)
        self.isp.train()
        torch.set_rng_state(random)
        record["seconds"] = round(time.monotonic() - start, 3)
        return record

    def after(self, record: dict[str, Any], position: Position) -> None:
        """Validation, previews, learned parameters, and the checkpoint if this is the best."""
        self.isp.eval()
        # Losses of fresh nights cannot be compared: one epoch's may be darker than another's.
        fresh = any(image.darken is not None for image in self.loader.images)
        value = float(record["epoch"]) if fresh else -float(record["loss"])
        self._look(record)
        if "validation" in record:
            value = record["validation"]["ap50"]
        here = (value, record["epoch"])
        partner = None
        if record["phase"] == 2 and _better(value, position.best_joint):
            position.best_joint = here
            partner = self._save_partner()
            self._save(JOINT_CHECKPOINT, record, partner)
        if _better(value, position.best):
            position.best = here
            # A joint epoch that is the best of all is the best of the joint ones.
            self._save(CHECKPOINT, record, partner)
        self.isp.train()

    def _look(self, record: dict[str, Any]) -> None:
        if self.held_out:
            evaluation = evaluate_rendering(
                self.isp, self.guide, self.held_out, self.judged, self.device, self._progress
            )
            record["validation"] = evaluation.precision.record()
        record["parameters"] = self._learned()
        shown = (self.held_out or self.loader.images)[: self.config.previews]
        draw_previews(self.isp, shown, self.folder, record["epoch"], self.device)

    def _progress(self, done: int) -> None:
        values = {"done": done, "of": len(self.held_out)}
        self.on_event(TrainEvent("validating", values=values))

    def _losses_before(self) -> dict[str, float]:
        config = self.config
        step = Step(
            self.isp,
            self.guide,
            config.color_weight,
            config.amp,
            config.day_weight,
            config.day_response,
        )
        sums: dict[str, float] = {}
        count = 0
        with torch.no_grad():
            for batch in self.loader.epoch(0):
                images, targets = on_device(batch, self.device)
                if images:
                    by_day = [None if p is None else p.to(self.device) for p in batch.by_day]
                    for name, values in step(images, targets, by_day).items():
                        sums[name] = sums.get(name, 0.0) + float(values.sum())
                count += len(images)
                if count >= _MOST_BEFORE:
                    break
        if config.reinforces:  # as its epochs tell it
            sums = {"detector": sum(sums.values())}
        return {name: value / max(1, count) for name, value in sums.items()}

    def _learned(self) -> dict[str, Any]:
        """All parameters when they are few, else the norm of each part of the ISP."""
        named = [(name, p.detach()) for name, p in self.isp.named_parameters()]
        if sum(p.numel() for _, p in named) <= _FEW_PARAMETERS:
            return {name: p.flatten().tolist() for name, p in named}
        parts: dict[str, list[torch.Tensor]] = {}
        for name, p in named:
            parts.setdefault(name.partition(".")[0], []).append(p.flatten())
        return {name: float(torch.cat(ps).norm()) for name, ps in parts.items()}

    def _save(self, name: str, record: dict[str, Any], partner: dict[str, Any] | None) -> None:
        kept = ("epoch", "phase", "loss", "validation")
        metrics = {key: record[key] for key in kept if key in record}
        config = self.config
        provenance = {**self.about, "detector": config.detector, "metrics": metrics}
        along = ", which learned along" if partner else ""
        provenance["what"] = f"{self.isp.name} trained with {config.detector}{along}"
        if partner:
            provenance["partner"] = partner
        metadata = CheckpointMetadata(
            name=os.path.basename(os.path.realpath(self.folder)),
            isp=self.isp.name,
            input_color=config.input_color,  # type: ignore[arg-type]
            fit=config.fit,
            provenance={**provenance, "training": jsonable(config.record())},
        )
        save_native(self.isp, os.path.join(self.folder, name), metadata)

    def _save_partner(self) -> dict[str, Any]:
        """Writes the detector as it is now; what a checkpoint says of it."""
        config = self.config
        save_guide(
            self.guide,
            config.detector,
            os.path.join(self.folder, PARTNER),
            begun_with=config.detector_weights,
            classes=config.detector_classes,
        )
        partner: dict[str, Any] = {"file": PARTNER, "detector": config.detector}
        partner["sha256"] = weights_hash(self.guide)
        if config.detector_size is not None:
            partner["size"] = list(config.detector_size)
        return partner


def _better(value: float, best: tuple[float, int] | None) -> bool:
    return best is None or not value <= best[0]


def jsonable(record: dict[str, Any]) -> dict[str, Any]:
    """Tuples as lists, as JSON has them."""
    values: dict[str, Any] = json.loads(json.dumps(record))
    return values
