"""`train`: an annotated folder, an ISP and a frozen detector in; a checkpoint out."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from rawisp.batch.events import Event
from rawisp.batch.prepare import Prepared, cache_folder, prepare
from rawisp.checkpoint.load import choose_device
from rawisp.data.annotations.labels import unusable
from rawisp.data.folder import find_dataset
from rawisp.data.prepared import PreparedImage
from rawisp.detect import Guide
from rawisp.detect.categories import CategoryMap, category_map
from rawisp.detect.settings import GuideSettings
from rawisp.errors import OutputError, UsageError, display_path
from rawisp.train import state
from rawisp.train.config import TrainConfig
from rawisp.train.distributed import team
from rawisp.train.events import OnTrainEvent, TrainEvent, ignore_train_event
from rawisp.train.loop import Trainer
from rawisp.train.start import starting_isp

CONFIG_FILE = "config.json"
Path = str | os.PathLike[str]


@dataclass(frozen=True)
class TrainResult:
    """checkpoint: RUN/isp.safetensors, of the best epoch. best: its validation AP50; where
    nothing was held out the negative training loss, or the epoch's number with fresh nights, whose
    losses cannot be compared. epochs: how many were run in all."""

    checkpoint: str
    best: float
    best_epoch: int
    epochs: int


def train(
    data: Path,
    out: Path,
    config: TrainConfig | None = None,
    *,
    annotations: Sequence[Path] = (),
    cache: Path | None = None,
    resume: bool = False,
    on_event: OnTrainEvent = ignore_train_event,
) -> TrainResult:
    """Learns an ISP on an annotated folder of RAW files under the guidance of a detector.

    Parameters
    ----------
    data : a folder as `rawisp validate` takes it. annotations: its files, found if not given.
    out : the run's folder: config.json, metrics.jsonl, metrics.csv, previews/, state.pt and, of
        the best epoch, isp.safetensors and isp.ts.
    config : settings; with `resume` those of the run unless given, when they must be the same.
    cache : where packed images are kept, by default below the user's cache folder.
    resume : continue the run in `out`; on the CPU the result is bit-identical to an uninterrupted
        run.

    Raises UsageError and its kind before any work, TrainingError when the loss is no longer finite
    or memory ends, KeyboardInterrupt when interrupted (continue with `resume`).
    """
    folder = os.fspath(out)
    config = _settled(config, folder, resume)
    with team(choose_device(config.device)) as crew:
        if not crew.leads:
            on_event = ignore_train_event
        starting_isp(config)  # mistakes show before hours of packing
        guide = _guide(config)
        found = find_dataset(data, annotations, val=config.val or None, seed=config.seed)
        for text in found.notes:
            on_event(TrainEvent("note", text))
        used = tuple(s for s in found.samples if s.split in (None, "train", "val"))
        found = replace(found, samples=used)
        if text := unusable(found.problems):
            on_event(TrainEvent("note", text))
        where = os.fspath(cache) if cache is not None else cache_folder(data)
        prepared = None
        for rank in range(crew.world):  # one after the other: the first packs, the others find
            if rank == crew.rank:
                prepared = prepare(
                    found,
                    where,
                    color=config.input_color,  # type: ignore[arg-type]
                    fit=config.fit,
                    annotation_frame=config.annotation_frame,
                    fresh_nights=config.fresh_nights,
                    workers=config.workers,
                    on_event=lambda event: _forward(event, on_event),
                )
            crew.wait()
        assert prepared is not None
        categories = category_map(prepared.categories, guide)
        training, held_out = _splits(prepared, data)
        _note_categories(categories, on_event)
        _check_nights(config, training, data)
        if crew.leads:
            _write_config(folder, config)
        trainer = Trainer(
            config,
            folder,
            training,
            held_out,
            categories,
            guide,
            crew,
            on_event,
            _about(data, guide),
        )
        if resume:
            trainer.restore(state.read_state(folder))
        return TrainResult(*trainer.run())


def _settled(config: TrainConfig | None, folder: str, resume: bool) -> TrainConfig:
    """The run's configuration. UsageError when a continued run is asked for something else."""
    path = os.path.join(folder, CONFIG_FILE)
    if not resume:
        if os.path.exists(os.path.join(folder, state.FILE_NAME)):
            raise OutputError(
                f"{display_path(folder)}: holds a run already; continue it with --resume, or "
                "choose another -o"
            )
        return config or TrainConfig()
    before = saved_config(folder)
    if config is None:
        return before
    changed = [k for k, v in config.record().items() if before.record()[k] != v and k not in _FREE]
    if changed:
        raise UsageError(
            f"{display_path(path)}: the run was begun with another {', '.join(changed)}; leave "
            "these settings away with --resume, or start a new run"
        )
    return config


def saved_config(out: Path) -> TrainConfig:
    """The configuration of the run in `out`. CheckpointError when there is none."""
    return TrainConfig.from_record(state.read_state(os.fspath(out))["config"])


# Settings that do not change the result, and may differ when a run is continued.
_FREE = {"workers", "device", "save_every_s", "previews"}


def _guide(config: TrainConfig) -> Guide:
    size = config.detector_size
    settings = GuideSettings(
        config.detector, config.detector_weights, config.detector_classes, size
    )
    guide = settings.create()
    if config.box_loss == "smooth_l1":
        from rawisp.detect.torchvision_models import use_smooth_l1

        use_smooth_l1(guide, config.box_loss_beta)
    return guide


def _splits(prepared: Prepared, data: Path) -> tuple[list[PreparedImage], list[PreparedImage]]:
    training = prepared.images.get("train", []) + prepared.images.get("", [])
    if not training:
        raise UsageError(
            f"{display_path(data)}: has no annotated photographs to train on "
            f"({prepared.failed} could not be used); see rawisp validate"
        )
    return training, prepared.images.get("val", [])


def _check_nights(config: TrainConfig, training: Sequence[PreparedImage], data: Path) -> None:
    """UsageError when the day is to teach, and no photograph has one."""
    if not config.day_weight and not config.day_response:
        return
    if not any(image.darken is not None for image in training):
        why = "" if config.fresh_nights else ", and fresh_nights"
        raise UsageError(
            f"{display_path(data)}: --day-weight and --day-response need nights that rawisp synth "
            f"made, their manifest.jsonl, and their photographs where they were{why}"
        )


def _write_config(folder: str, config: TrainConfig) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, CONFIG_FILE)
        with open(f"{path}.rawisp-tmp", "w", encoding="utf-8") as file:
            json.dump(config.record(), file, indent=1)
        os.replace(f"{path}.rawisp-tmp", path)
    except OSError as error:
        raise OutputError(f"{display_path(folder)}: cannot be written ({error.strerror})") from None


def _about(data: Path, guide: Guide) -> dict[str, Any]:
    """Provenance: names and hashes, no paths of this machine."""
    from rawisp.detect import weights_hash
    from rawisp.version import __version__

    return {
        "data": os.path.basename(os.path.realpath(data)),
        "detector_sha256": weights_hash(guide),
        "rawisp": __version__,
        "torch": torch.__version__,
    }


def _note_categories(categories: CategoryMap, on_event: OnTrainEvent) -> None:
    if categories.unknown:
        unknown = categories.unknown
        names = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" * (len(unknown) > 5))
        text = f"the detector does not know {names}; their boxes are not trained on"
        on_event(TrainEvent("note", text))


def _forward(event: Event, on_event: OnTrainEvent) -> None:
    """What packing reports, as notes; only notes and failures."""
    if event.kind == "note":
        on_event(TrainEvent("note", event.text))
    elif event.kind == "result" and event.record["status"] == "failed":
        source = display_path(event.record["source"])
        on_event(TrainEvent("note", f"{source}: {event.record['reason']}"))
