"""From an annotated folder to packed images of final size with their boxes; decoded once.

The cache of training and evaluation is what `pack` writes, in float16 and scaled to fit.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rawisp import geometry
from rawisp.batch import inputs, writer
from rawisp.batch.events import FINISHED, Event, OnEvent, RunReport, ignore_event
from rawisp.batch.inputs import Source
from rawisp.batch.manifest import FILE_NAME, read_manifest
from rawisp.batch.plan import Identity
from rawisp.batch.run import Job, RunOptions, run
from rawisp.batch.supervisor import Crew, StepPlan
from rawisp.batch.tasks import PackSettings, PackToolbox
from rawisp.color import InputColor
from rawisp.data.folder import DataSet, Sample
from rawisp.data.frames import frame_of, to_visible
from rawisp.data.fresh import fresh_night
from rawisp.data.left_out import LeftOut, left_out_of
from rawisp.data.prepared import PreparedImage, moved_boxes
from rawisp.errors import InputError, OutputError, OutputFullError, display_path
from rawisp.folders import unwritable

# Attributes by which a box is neither to be found nor wrong when found.
_IGNORE = ("iscrowd", "difficult")


@dataclass(frozen=True)
class Prepared:
    """categories of the data; images by split ("train", "val", "test", "" where there is none).

    failures: why, by path, of files that cannot be used; suspects: of those that are used although
    they look damaged. left_out: these and what `find_dataset` left out, by reason.
    """

    categories: tuple[str, ...]
    images: dict[str, list[PreparedImage]]
    failures: dict[str, str]
    suspects: dict[str, str]
    left_out: LeftOut

    @property
    def failed(self) -> int:
        """How many files cannot be used."""
        return len(self.failures)


def cache_folder(data: str | os.PathLike[str]) -> str:
    """Where packed images of a data set are kept unless the user says otherwise.

    $XDG_CACHE_HOME/rawisp/data/NAME-HASH, the hash of the absolute path.
    """
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    absolute = os.path.realpath(data)
    digest = hashlib.sha256(os.fsencode(absolute)).hexdigest()[:12]
    return os.path.join(root, "rawisp", "data", f"{os.path.basename(absolute)}-{digest}")


def check_cache(folder: str) -> None:
    """OutputError naming the cache when nothing can be written there."""
    reason = unwritable(folder)
    if reason is not None:
        raise OutputError(
            f"{display_path(folder)}: the cache of packed images cannot be written ({reason}); "
            "name another folder with --cache"
        )


def prepare(
    dataset: DataSet,
    folder: str,
    *,
    color: InputColor,
    fit: geometry.Fit | None,
    annotation_frame: str = "auto",
    fresh_nights: bool = False,
    workers: int | None = None,
    on_event: OnEvent = ignore_event,
) -> Prepared:
    """Packs the data set's files into `folder` and moves their boxes there.

    What is packed already with the same settings from unchanged files is not decoded again; a run
    that was killed continues. fresh_nights: photographs that `synth` darkened can be darkened anew
    (`PreparedImage.load_night`), where the originals are still there. A file that fails is left out
    and reported as an event of kind "result"; its reason is in `Prepared.failures`. Each data set
    with each setting (colour, fit) has a folder of its own below `folder`, so that data sets whose
    files have equal names can share one.

    Raises OutputFullError when the cache's disk is full (what is packed by then stays), OutputError
    when the cache cannot be written, KeyboardInterrupt.
    """
    check_cache(folder)
    settings = PackSettings(
        dtype="float16", color=color, orient="upright", fit=fit, highlights="neutral"
    )
    target = os.path.join(folder, _key(dataset.root, settings))
    paths = [sample.path for sample in dataset.samples]
    on_event(Event("note", text=_announcement(paths, fit, target)))
    report = pack_files(
        paths, dataset.root, target, settings, RunOptions(workers=workers), on_event
    )
    if report.interrupted:
        raise KeyboardInterrupt
    if report.stopped:
        raise _full_disk(report, target)
    images: dict[str, list[PreparedImage]] = {}
    failures: dict[str, str] = {}
    suspects: dict[str, str] = {}
    nights = _synthesized(dataset.root) if fresh_nights else {}
    for sample, record in zip(dataset.samples, report.records, strict=True):
        if record["status"] not in FINISHED:
            failures[sample.path] = record["reason"]
            continue
        try:
            image = placed(sample, record, target, annotation_frame)
        except InputError as error:
            failures[sample.path] = error.reason
            told = {**record, "status": "failed", "reason": error.reason}
            on_event(Event("result", record=told))
            continue
        if record.get("suspicions"):
            suspects[sample.path] = "; ".join(record["suspicions"])
        entry = nights.get(os.path.realpath(sample.path))
        if entry is not None:
            image = replace(image, darken=fresh_night(entry, color, image.size))
        images.setdefault(sample.split or "", []).append(image)
    if nights:
        _note_nights(images, on_event)
    used = sum(map(len, images.values()))
    left_out = left_out_of(used, dataset.left_out, dataset.named(failures), dataset.named(suspects))
    return Prepared(dataset.categories, images, failures, suspects, left_out)


def _full_disk(report: RunReport, folder: str) -> OutputFullError:
    """What ends a run of which a part only could be packed; it names how much is missing."""
    missing = report.count("failed") + report.count("not attempted")
    return OutputFullError(
        f"{display_path(folder)}: the cache's disk is full, {missing} of {len(report.records)} "
        "photographs are not packed; free some space or choose another --cache, and run the same "
        "command again, it continues where it stopped"
    )


def _key(root: str, settings: PackSettings) -> str:
    """Of a data set, by its real path, packed in one way."""
    parts = {**settings.record(), "data": os.path.realpath(root)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def pack_files(
    paths: Sequence[str],
    root: str,
    folder: str,
    settings: PackSettings,
    options: RunOptions,
    on_event: OnEvent,
) -> RunReport:
    """Packs each of `paths`, which lie below `root`, into `folder`; one record each, in order.

    As `pack_folder`: what is done already is skipped, a killed run continues.
    """
    sources = [Source(path, os.path.relpath(path, root)) for path in paths]
    outputs = inputs.plan_outputs(sources, writer.PACKED_SUFFIX[settings.format])
    job = Job(
        folder=folder,
        identity=Identity(settings.record()),
        options=options,
        on_event=on_event,
        crews=[Crew("cpu", options.worker_count(), PackToolbox(settings))],
        steps=[StepPlan("pack", "cpu")],
        payload=lambda source, output, _: {
            "source": source.path,
            "output": output,
            "output_path": os.path.join(folder, output),
        },
    )
    os.makedirs(folder, exist_ok=True)
    return run(job, sources, outputs)


def _note_nights(images: dict[str, list[PreparedImage]], on_event: OnEvent) -> None:
    every = [image for part in images.values() for image in part]
    fresh = sum(image.darken is not None for image in every)
    text = f"{fresh} of {len(every)} are synthesized nights, darkened anew in each epoch"
    if fresh < len(every):
        text += "; the others are no such nights, or their photographs are not where they were"
    on_event(Event("note", text=text))


def _synthesized(root: str) -> dict[str, dict[str, Any]]:
    """What `synth` recorded of the files below `root`, by their real paths."""
    entries = read_manifest(os.path.join(root, FILE_NAME))
    return {
        os.path.realpath(os.path.join(root, output)): entry
        for output, entry in entries.items()
        if entry.get("settings", {}).get("verb") == "synth" and "night" in entry
    }


def placed(
    sample: Sample, record: dict[str, Any], folder: str, annotation_frame: str = "auto"
) -> PreparedImage:
    """One packed file with its boxes. FrameMismatchError when they were drawn on another frame."""
    width, height = record["output_size"]
    affine = geometry.Affine.from_rows(record["affine"])
    labels = sample.labels
    boxes, classes = np.zeros((0, 4)), np.zeros(0, np.int64)
    if labels is not None and len(labels.boxes):
        frames = {name: _frame(name, values) for name, values in record["frames"].items()}
        frame = frame_of(sample.path, labels, frames, annotation_frame)
        affine = to_visible(labels, frame).then(affine)
        boxes, classes = labels.boxes, labels.classes
    corners, kept = moved_boxes(boxes, affine, (width, height))
    attributes = labels.attributes if labels is not None else ()
    ignore = np.zeros(len(kept), bool)
    for n, one in enumerate(attributes):
        ignore[n] = any(one.get(key) for key in _IGNORE)
    return PreparedImage(
        name=labels.name if labels is not None else Path(sample.path).stem,
        source=sample.path,
        array=os.path.join(folder, record["output"]),
        size=(width, height),
        boxes=corners[kept],
        classes=classes[kept],
        ignore=ignore[kept],
        attributes=tuple(a for a, keep in zip(attributes, kept, strict=False) if keep),
    )


def _frame(name: str, values: dict[str, Any]) -> geometry.Frame:
    to_visible_ = geometry.Affine.from_rows(values["to_visible"])
    return geometry.Frame(name, values["width"], values["height"], to_visible_)


def _announcement(paths: Sequence[str], fit: geometry.Fit | None, target: str) -> str:
    """How large the cache will be; without a limit half of each side is a guess from file sizes."""
    if fit is not None:
        gigabytes = len(paths) * fit[0] * fit[1] * 3 * 2 / 1e9
        return f"cache: {len(paths)} packed images, at most {gigabytes:.2g} GB, in {target}"
    total = sum(os.path.getsize(path) for path in paths if os.path.exists(path))
    return f"cache: {len(paths)} packed images, about {total * 0.75 / 1e9:.2g} GB, in {target}"
