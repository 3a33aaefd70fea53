"""`train`: an annotated folder, an ISP and a frozen detector in; a checkpoint out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from rawisp.batch.events import Event
from rawisp.batch.inputs import Search
from rawisp.batch.manifest import FILE_NAME, iterate_manifest
from rawisp.batch.prepare import Prepared, cache_folder, prepare
from rawisp.checkpoint.load import choose_device
from rawisp.data.annotations.labels import said_of
from rawisp.data.folder import DataSet, find_dataset
from rawisp.data.left_out import LeftOut
from rawisp.data.prepared import PreparedImage
from rawisp.detect import Guide
from rawisp.detect.categories import CategoryMap, category_map
from rawisp.detect.registry import TINY
from rawisp.detect.settings import GuideSettings
from rawisp.errors import (
    NothingToDoError,
    NothingUsableError,
    OutputError,
    TrainingError,
    UsageError,
    display_path,
)
from rawisp.train import state
from rawisp.train.config import TrainConfig
from rawisp.train.distributed import team
from rawisp.train.events import OnTrainEvent, TrainEvent, ignore_train_event
from rawisp.train.judge import PARTNER
from rawisp.train.loop import Ending, Trainer
from rawisp.train.plan import TrainPlan, phases_of
from rawisp.train.preflight import check_paths
from rawisp.train.start import starting_isp

CONFIG_FILE = "config.json"
Path = str | os.PathLike[str]


@dataclass(frozen=True)
class TrainResult:
    """checkpoint: RUN/isp.safetensors, of the best epoch. best: its validation AP50; where
    nothing was held out the negative training loss, or the epoch's number with fresh nights, whose
    losses cannot be compared. epochs: how many were run in all. joint: whether the detector learned
    along in the best epoch. partner: RUN/detector.safetensors, the detector of the best joint
    epoch, None without a second phase. before, after: what was validated before learning and in the
    best epoch, "ap", "ap50" and so on, empty where nothing was held out. left_out: which
    photographs were not used."""

    checkpoint: str
    best: float
    best_epoch: int
    epochs: int
    joint: bool = False
    partner: str | None = None
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)


def train(
    data: Path,
    out: Path,
    config: TrainConfig | None = None,
    *,
    annotations: Sequence[Path] = (),
    cache: Path | None = None,
    resume: bool = False,
    search: Search | None = None,
    on_event: OnTrainEvent = ignore_train_event,
) -> TrainResult:
    """Learns an ISP on an annotated folder of RAW files under the guidance of a detector.

    Parameters
    ----------
    data : a folder as `rawisp validate` takes it. annotations: its files, found if not given.
    out : the run's folder: config.json, metrics.jsonl, metrics.csv, previews/, state.pt and, of
        the best epoch, isp.safetensors and isp.ts; of the best epoch of a second phase
        isp_joint.safetensors and detector.safetensors, the detector that learned along.
    config : settings; with `resume` those of the run unless given, when they must be the same but
        for more epochs.
    cache : where packed images are kept, by default below the user's cache folder.
    resume : continue the run in `out`; on the CPU the result is bit-identical to an uninterrupted
        run.
    search : what of the folder is passed over, and whether links are followed.

    A photograph that cannot be used is left out: TrainResult.left_out, config.json and each line of
    metrics.jsonl say how many and why.

    The first event is the plan, after all that can be checked without decoding or downloading.
    Raises UsageError and its kind before any work, NothingToDoError when there is no photograph to
    train on, NothingUsableError when all of them fail, TrainingError when the loss is no longer
    finite or memory ends, OutputError and OutputFullError when the run's folder cannot be written
    any more, KeyboardInterrupt when interrupted (continue with `resume`).
    """
    begun = _begin(data, out, config, annotations, cache, resume, search)
    config, folder = begun.config, begun.plan.folder
    with team(choose_device(config.device)) as crew:
        if not crew.leads:
            on_event = ignore_train_event
        on_event(TrainEvent("plan", values=begun.plan.record()))
        for text in begun.dataset.notes:
            on_event(TrainEvent("note", text))
        for text in said_of(begun.dataset.problems):
            on_event(TrainEvent("note", text))
        if _fetches_weights(config):
            text = f"{config.detector}: its weights are loaded, and downloaded the first time"
            on_event(TrainEvent("note", text))
        guide = _guide(config)
        for text in guide.notes:
            on_event(TrainEvent("note", text))
        categories = category_map(begun.dataset.categories, guide, begun.dataset.unused)
        prepared = None
        for rank in range(crew.world):  # one after the other: the first packs, the others find
            if rank == crew.rank:
                prepared = prepare(
                    begun.dataset,
                    begun.plan.cache,
                    color=config.input_color,  # type: ignore[arg-type]
                    fit=config.fit,
                    annotation_frame=config.annotation_frame,
                    fresh_nights=config.fresh_nights,
                    workers=config.workers,
                    on_event=lambda event: _forward(event, on_event),
                )
            crew.wait()
        assert prepared is not None
        left_out = prepared.left_out
        on_event(TrainEvent("failure" if left_out.must_be_said else "note", str(left_out)))
        training, held_out = _splits(prepared, data)
        _note_categories(categories, on_event)
        _check_nights(config, training, data)
        if crew.leads:
            _write_config(folder, config, left_out)
        trainer = Trainer(
            config,
            folder,
            training,
            held_out,
            categories,
            guide,
            crew,
            on_event,
            {**_about(data, guide), "photographs": left_out.record()},
        )
        if begun.saved is not None:
            trainer.restore(begun.saved)
        return _result(trainer.run(), config, left_out)


def plan_training(
    data: Path,
    out: Path,
    config: TrainConfig | None = None,
    *,
    annotations: Sequence[Path] = (),
    cache: Path | None = None,
    resume: bool = False,
    search: Search | None = None,
) -> TrainPlan:
    """What `train` would do with the same arguments. Nothing is decoded, downloaded or written.

    Raises what `train` raises before any work.
    """
    return _begin(data, out, config, annotations, cache, resume, search).plan


@dataclass(frozen=True)
class _Begun:
    """A run that has passed every check that needs no decoding. saved: of a continued one."""

    config: TrainConfig
    plan: TrainPlan
    dataset: DataSet
    saved: dict[str, Any] | None


def _begin(
    data: Path,
    out: Path,
    config: TrainConfig | None,
    annotations: Sequence[Path],
    cache: Path | None,
    resume: bool,
    search: Search | None,
) -> _Begun:
    folder = os.fspath(out)
    saved = state.read_state(folder) if resume else None
    config = _settled(config, folder, saved)
    check_paths(data, out, config, cache)
    device = choose_device(config.device)
    _guide_settings(config).check()
    found = find_dataset(data, annotations, val=config.val or None, seed=config.seed, search=search)
    used = tuple(s for s in found.samples if s.split in (None, "train", "val"))
    training = sum(sample.split != "val" for sample in used)
    if not training:
        raise NothingToDoError(
            f"{display_path(data)}: has no annotated photographs to train on; see rawisp validate"
        )
    if config.day_weight or config.day_response:
        entries = iterate_manifest(os.path.join(found.root, FILE_NAME))
        if not config.fresh_nights or not any("night" in one for one in entries):
            raise _no_nights(config, data)
    isp = starting_isp(config)
    parameters = sum(p.numel() for p in isp.parameters() if p.requires_grad)
    if not parameters:
        raise TrainingError(f"{config.isp} has no parameters to learn")
    done = saved["position"].epoch if saved is not None else 0
    plan = TrainPlan(
        recipe=config.recipe,
        isp=config.isp,
        parameters=parameters,
        input_color=config.input_color,
        detector=config.detector,
        detector_weights=config.detector_weights,
        phases=phases_of(config, training, done),
        epochs=config.total_epochs,
        done=done,
        optimizer=config.optimizer,
        batch=config.batch_size * config.accumulate,
        batch_size=config.batch_size,
        training=training,
        held_out=len(used) - training,
        fit=config.fit,
        device=str(device),
        folder=folder,
        cache=os.fspath(cache) if cache is not None else cache_folder(data),
    )
    return _Begun(config, plan, replace(found, samples=used), saved)


def _settled(
    config: TrainConfig | None, folder: str, saved: Mapping[str, Any] | None
) -> TrainConfig:
    """The run's configuration. UsageError when a continued run is asked for something else."""
    path = os.path.join(folder, CONFIG_FILE)
    if saved is None:
        if os.path.exists(os.path.join(folder, state.FILE_NAME)):
            raise OutputError(
                f"{display_path(folder)}: holds a run already; continue it with --resume, or "
                "choose another -o"
            )
        return config or TrainConfig()
    before = TrainConfig.from_record(saved["config"])
    if config is None:
        return before
    then, now = before.record(), config.record()
    changed = [name for name, value in now.items() if then[name] != value and name not in _FREE]
    if before.phase2_epochs and config.epochs != before.epochs:
        changed.append("epochs")
    if not before.phase2_epochs and config.phase2_epochs:
        changed.append("phase2_epochs")
    if changed:
        raise UsageError(
            f"{display_path(path)}: the run was begun with another {', '.join(changed)}; leave "
            "these settings away with --resume, or start a new run"
        )
    return replace(before.until(config.total_epochs), **{n: getattr(config, n) for n in _KEPT})


def saved_config(out: Path) -> TrainConfig:
    """The configuration of the run in `out`. CheckpointError when there is none."""
    return TrainConfig.from_record(state.read_state(os.fspath(out))["config"])


def _result(ending: Ending, config: TrainConfig, left_out: LeftOut) -> TrainResult:
    value, epoch = ending.best
    by_epoch = {record["epoch"]: record.get("validation", {}) for record in ending.records}
    partner = os.path.join(os.path.dirname(ending.checkpoint), PARTNER)
    return TrainResult(
        ending.checkpoint,
        value,
        epoch,
        ending.epochs,
        joint=epoch > config.epochs,
        partner=partner if ending.best_joint is not None else None,
        before=by_epoch.get(0, {}),
        after=by_epoch.get(epoch, {}),
        left_out=left_out,
    )


# Settings that do not change the result, and may differ when a run is continued.
_KEPT = ("workers", "device", "save_every_s", "previews", "extended_lr")
# Epochs can become more.
_FREE = {*_KEPT, "epochs", "phase2_epochs", "extended"}


def _guide_settings(config: TrainConfig) -> GuideSettings:
    size = config.detector_size
    return GuideSettings(config.detector, config.detector_weights, config.detector_classes, size)


def _fetches_weights(config: TrainConfig) -> bool:
    """Whether the detector's weights may have to be downloaded."""
    return (
        config.detector_weights is None and config.detector != TINY and ":" not in config.detector
    )


def _guide(config: TrainConfig) -> Guide:
    guide = _guide_settings(config).create()
    if config.box_loss == "smooth_l1":
        from rawisp.detect.torchvision_models import use_smooth_l1

        use_smooth_l1(guide, config.box_loss_beta)
    return guide


def _splits(prepared: Prepared, data: Path) -> tuple[list[PreparedImage], list[PreparedImage]]:
    training = prepared.images.get("train", []) + prepared.images.get("", [])
    if not training:
        raise NothingUsableError(
            f"{display_path(data)}: none of its photographs can be trained on "
            f"({prepared.failed} failed); see rawisp validate"
        )
    return training, prepared.images.get("val", [])


def _check_nights(config: TrainConfig, training: Sequence[PreparedImage], data: Path) -> None:
    """UsageError when the day is to teach, and no photograph has one."""
    if not config.day_weight and not config.day_response:
        return
    if not any(image.darken is not None for image in training):
        raise _no_nights(config, data)


def _no_nights(config: TrainConfig, data: Path) -> UsageError:
    why = "" if config.fresh_nights else ", and fresh_nights"
    return UsageError(
        f"{display_path(data)}: --day-weight and --day-response need nights that rawisp synth "
        f"made, their manifest.jsonl, and their photographs where they were{why}"
    )


def _write_config(folder: str, config: TrainConfig, left_out: LeftOut) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, CONFIG_FILE)
        with open(f"{path}.rawisp-tmp", "w", encoding="utf-8") as file:
            json.dump({**config.record(), "photographs": left_out.record()}, file, indent=1)
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
    """What packing reports; only notes and failures."""
    if event.kind == "note":
        on_event(TrainEvent("note", event.text))
    elif event.kind == "result" and event.status == "failed":
        source = display_path(event.record["source"])
        on_event(TrainEvent("failure", f"{source}: {event.record['reason']}"))
