"""`synth`: annotated photographs become night RAW files with boxes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from rawisp.batch import inputs, writer
from rawisp.batch.annotate import SINGLE_NAME
from rawisp.batch.events import FINISHED, Event, OnEvent, RunReport, ignore_event
from rawisp.batch.folder import Path, _found
from rawisp.batch.plan import Identity
from rawisp.batch.run import Job, Record, RunOptions, run
from rawisp.batch.supervisor import Crew, StepPlan
from rawisp.batch.worker import Payload, Step
from rawisp.data.annotations import read_annotations
from rawisp.data.annotations.labels import LabeledImage, LabelSet, name_of
from rawisp.data.matching import match_names
from rawisp.data.synth.bodies import BODIES, SMALLEST_SIDE, body_named, write_night
from rawisp.data.synth.boxes import (
    MAX_COPIES,
    PlacedNight,
    category_ids_of,
    check_size,
    nights_document,
)
from rawisp.data.synth.photograph import PHOTOGRAPH_SUFFIXES, read_photograph
from rawisp.data.synth.render import mosaic_size, night_generator, night_mosaic
from rawisp.data.synth.settings import NightSettings
from rawisp.errors import (
    AnnotationError,
    FrameMismatchError,
    InputError,
    OutputError,
    UsageError,
    display_path,
    printable,
)
from rawisp.raw import DEFAULT_MAX_MEGAPIXELS
from rawisp.version import __version__


@dataclass(frozen=True)
class SynthSettings:
    """The options of `rawisp synth`; see its help. UsageError for a value that is none.

    cameras: each photograph and each of its `copies` nights takes one of them, by its name.
    """

    cameras: tuple[str, ...] = ("DSC-RX100M7",)
    seed: int = 0
    copies: int = 1
    night: NightSettings = field(default_factory=NightSettings)
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS

    def __post_init__(self) -> None:
        if not self.cameras:
            raise UsageError("no camera was named")
        for name in self.cameras:
            body_named(name)
        if not 1 <= self.copies <= MAX_COPIES:
            raise UsageError(f"copies {self.copies} is not within 1 and {MAX_COPIES}")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is below 0")

    def record(self) -> Record:
        """What changes a file, for the manifest; `copies` only adds files."""
        own = {"verb": "synth", "cameras": list(self.cameras), "seed": self.seed}
        return {**own, **self.night.record()}

    def camera_of(self, name: str, number: int) -> str:
        """The camera of night `number` of the photograph `name`."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        return self.cameras[(int.from_bytes(digest[:8], "big") + number) % len(self.cameras)]


@dataclass(frozen=True)
class SynthToolbox:
    """`synth`: one photograph to one RAW file."""

    settings: SynthSettings

    def open(self) -> dict[str, Step]:
        return {"synth": self._synth}

    def _synth(self, payload: Payload) -> Payload:
        settings, name, number = self.settings, payload["name"], payload["number"]
        rgb = read_photograph(
            payload["source"],
            scale=settings.night.scale,
            max_megapixels=settings.max_megapixels,
        )
        shown = (rgb.shape[1], rgb.shape[0])
        check_size(payload["source"], payload["annotated_size"], shown)
        _check_side(payload["source"], mosaic_size(shown, settings.night.scale))
        body = body_named(payload["camera"])
        rng = night_generator(settings.seed, name, number)
        mosaic, night = night_mosaic(rgb, body, settings.night, rng)
        pattern, iso = settings.night.pattern, night.iso
        # The open file only reserves the name: the container is written by path, then renamed.
        writer.write_atomically(
            payload["output_path"],
            lambda file: write_night(file.name, mosaic, body, pattern=pattern, iso=iso),
        )
        return {
            "name": name,
            "number": number,
            "camera": payload["camera"],
            # Absolute, for training from another folder; `source` is as it was given.
            "photograph": os.path.abspath(payload["source"]),
            "photograph_size": list(shown),
            "mosaic_size": [mosaic.shape[1], mosaic.shape[0]],
            "night": night.record(),
        }


@dataclass(frozen=True)
class _File:
    """One RAW file to be made, and its photograph's labels if there are any."""

    source: inputs.Source
    output: str
    camera: str
    number: int
    label: LabeledImage | None

    def payload(self, folder: str) -> Payload:
        return {
            "source": self.source.path,
            "output": self.output,
            "output_path": os.path.join(folder, self.output),
            "name": self.source.relative,
            "number": self.number,
            "camera": self.camera,
            "annotated_size": self.label.size if self.label else None,
        }


def _check_side(path: str, size: tuple[int, int]) -> None:
    if min(size) < SMALLEST_SIDE:
        raise InputError(
            path,
            f"would become a mosaic of {size[0]}x{size[1]}; no side of a RAW file is below "
            f"{SMALLEST_SIDE}",
            "raise --scale",
        )


def synth_folder(
    sources: Sequence[Path] | Path,
    out: Path,
    settings: SynthSettings | None = None,
    *,
    annotations: LabelSet | Path | None = None,
    options: RunOptions | None = None,
    on_event: OnEvent = ignore_event,
) -> RunReport:
    """Makes night RAW files of photographs and folders of them in `out`, the tree mirrored.

    annotations: boxes drawn on the photographs as displayed; OUT/annotations.json (COCO) gets them
    in pixels of the RAW files' visible area. OUT/manifest.jsonl tells for each file its photograph,
    camera, settings and what was drawn. The same photographs, settings and seed give the same
    bytes, in whatever order. Otherwise as `pack_folder`.
    """
    settings, options = settings or SynthSettings(), options or RunOptions()
    folder = os.fspath(out)
    found = _found(sources, folder, PHOTOGRAPH_SUFFIXES, "JPEG or PNG", on_event).sources
    labels = _read(annotations)
    matched: dict[str, LabeledImage] = {}
    if labels is not None:
        _check_target(folder, labels, overwrite=options.overwrite)
        matched = _matched(labels, found)
        on_event(Event("note", text=_announcement(labels, matched, len(found))))
    files = _planned(found, settings, matched)
    _check_cameras(folder, files)
    by_output = {file.output: file for file in files}
    job = Job(
        folder=folder,
        identity=Identity(settings.record()),
        options=options,
        on_event=on_event,
        crews=[Crew("cpu", options.worker_count(), SynthToolbox(settings))],
        steps=[StepPlan("synth", "cpu")],
        payload=lambda source, output, _: by_output[output].payload(folder),
    )
    report = run(job, [file.source for file in files], [file.output for file in files])
    if labels is not None and not options.dry_run:
        placed = _placed(report, files, on_event)
        ids = category_ids_of(labels)
        document, report.annotations = nights_document(labels, placed, settings.copies, ids)
        ours = {"version": __version__, "made_from": os.path.basename(labels.path)}
        os.makedirs(folder, exist_ok=True)
        # Last, not first as in enhance's files: these boxes are in RAW pixels, and to be found.
        writer.write_json(os.path.join(folder, SINGLE_NAME), {**document, "rawisp": ours})
    return report


def _read(annotations: LabelSet | Path | None) -> LabelSet | None:
    if annotations is None or isinstance(annotations, LabelSet):
        return annotations
    return read_annotations(os.fspath(annotations))


def _matched(labels: LabelSet, found: list[inputs.Source]) -> dict[str, LabeledImage]:
    """The entry of each photograph that has one, by path. AnnotationError when none has."""
    images = labels.images
    shown = display_path(labels.path)
    entry_of = match_names(
        [image.name for image in images],
        [name_of(source.relative) for source in found],
        described=[f"{shown}: {printable(image.name)}" for image in images],
    )
    if images and not entry_of:
        raise AnnotationError(
            f"{shown}: none of its {len(images)} entries is called like any photograph "
            f"({images[0].name!r}, ... against {display_path(found[0].relative)!r}, ...)"
        )
    return {found[file].path: images[entry] for file, entry in entry_of.items()}


def _planned(
    found: list[inputs.Source], settings: SynthSettings, matched: dict[str, LabeledImage]
) -> list[_File]:
    """Every file of the run. Copies are numbered in their names, which keeps them apart."""
    files = []
    for source, stem in zip(found, inputs.plan_outputs(found, ""), strict=True):
        for number in range(settings.copies):
            camera = settings.camera_of(source.relative, number)
            mark = f"_night{number + 1}" if settings.copies > 1 else ""
            output = f"{stem}{mark}{body_named(camera).suffix}"
            files.append(_File(source, output, camera, number, matched.get(source.path)))
    return files


def _check_cameras(folder: str, files: list[_File]) -> None:
    """OutputError when OUT holds nights of the same photographs in another camera's files.

    `a.ARW` and `a.NEF` would be two photographs to training, and one to annotations.
    """
    suffixes = {body.suffix for body in BODIES.values()}
    for file in files:
        stem, own = os.path.splitext(os.path.join(folder, file.output))
        for suffix in sorted(suffixes - {own}):
            if os.path.lexists(stem + suffix):
                raise OutputError(
                    f"{display_path(stem + suffix)}: is there already, and {file.camera} would add "
                    f"{os.path.basename(file.output)} beside it; choose another -o"
                )


def _placed(report: RunReport, files: list[_File], on_event: OnEvent) -> list[PlacedNight]:
    """The files that exist and have labels."""
    placed = []
    for number, (record, file) in enumerate(zip(report.records, files, strict=True)):
        if file.label is None or record["status"] not in FINISHED:
            continue
        width, height = record["photograph_size"]
        try:  # of an earlier run, annotated only now
            check_size(file.source.path, file.label.size, (width, height))
        except FrameMismatchError as error:
            record |= {"status": "failed", "reason": error.reason}
            report.records[number] = record
            on_event(Event("result", record=record))
            continue
        placed.append(PlacedNight(file.label, file.number + 1, file.output, *record["mosaic_size"]))
    return placed


def _announcement(labels: LabelSet, matched: dict[str, LabeledImage], photographs: int) -> str:
    used = len({id(image) for image in matched.values()})
    left_out = sum(not problem.mended for problem in labels.problems)
    problems = f"; {left_out} rows could not be used" if left_out else ""
    return (
        f"{display_path(labels.path)}: {len(matched)} of {photographs} photographs have an entry, "
        f"{len(labels.images) - used} of {len(labels.images)} entries have no photograph{problems}"
    )


def _check_target(folder: str, labels: LabelSet, *, overwrite: bool) -> None:
    """OutputError when OUT/annotations.json holds what this run must not replace."""
    target = os.path.join(folder, SINGLE_NAME)
    if not os.path.lexists(target):
        return
    shown = display_path(target)
    if os.path.exists(labels.path) and os.path.samefile(target, labels.path):
        raise OutputError(f"{shown}: holds the annotations that are read; choose another -o")
    if overwrite:
        return
    try:
        before: Any = json.loads(FilePath(target).read_bytes())["rawisp"]["made_from"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        before = None
    if before != os.path.basename(labels.path):
        what = f"holds the boxes of {display_path(str(before))}" if before else "is not rawisp's"
        raise OutputError(f"{shown}: {what}; choose another -o, or --overwrite to replace")
