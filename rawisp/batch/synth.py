"""`synth`: annotated photographs become night RAW files with boxes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from rawisp.batch import annotate, inputs, writer
from rawisp.batch.events import Event, OnEvent, RunReport, ignore_event
from rawisp.batch.folder import Path, _found
from rawisp.batch.label_plan import Planned, Words
from rawisp.batch.plan import Identity
from rawisp.batch.run import Job, Record, RunOptions, run
from rawisp.batch.supervisor import Crew, StepPlan
from rawisp.batch.worker import Payload, Step
from rawisp.data.annotations.entries import Annotations, entries_of, read_entries
from rawisp.data.annotations.labels import LabelSet
from rawisp.data.synth.bodies import BODIES, SMALLEST_SIDE, body_named, write_night
from rawisp.data.synth.boxes import MAX_COPIES, check_size
from rawisp.data.synth.photograph import PHOTOGRAPH_SUFFIXES, read_photograph
from rawisp.data.synth.render import mosaic_size, night_generator, night_mosaic
from rawisp.data.synth.settings import NightSettings
from rawisp.errors import (
    InputError,
    OutputError,
    UsageError,
    display_path,
)
from rawisp.raw import DEFAULT_MAX_MEGAPIXELS


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
    """One RAW file to be made; size: of the picture that its boxes were drawn on, where known."""

    source: inputs.Source
    output: str
    camera: str
    number: int
    size: tuple[int, int] | None

    def payload(self, folder: str) -> Payload:
        return {
            "source": self.source.path,
            "output": self.output,
            "output_path": os.path.join(folder, self.output),
            "name": self.source.relative,
            "number": self.number,
            "camera": self.camera,
            "annotated_size": self.size,
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
    wanted = "JPEG or PNG"
    found = _found(sources, folder, PHOTOGRAPH_SUFFIXES, wanted, on_event, options.search).sources
    labels = annotate.RunLabels(
        folder,
        [] if annotations is None else [_read(annotations)],
        found,
        written_as=None if annotations is None else "coco",
        overwrite=options.overwrite,
        # The boxes are in RAW pixels, and to be found as theirs.
        words=Words(inputs="photographs", mark_first=False),
    )
    for text in labels.announcements():
        on_event(Event("note", text=text))
    files = _planned(found, settings, labels)
    _check_cameras(folder, files)
    by_output = {file.output: file for file in files}
    labels.plan([Planned(f.source, f.output, f.number + 1, settings.copies) for f in files])

    def payload(_: inputs.Source, output: str, __: int) -> Payload:
        labels.keep()  # in OUT's lock, when it is clear that the run may write there
        return by_output[output].payload(folder)

    job = Job(
        folder=folder,
        identity=Identity(settings.record()),
        options=options,
        on_event=on_event,
        crews=[Crew("cpu", options.worker_count(), SynthToolbox(settings))],
        steps=[StepPlan("synth", "cpu")],
        payload=payload,
    )
    report = run(job, [file.source for file in files], [file.output for file in files])
    if not options.dry_run:
        report.annotations = labels.finish(report, on_event)
    return report


def _read(annotations: LabelSet | Path) -> Annotations:
    if isinstance(annotations, LabelSet):
        return entries_of(annotations)
    return read_entries(os.fspath(annotations))


def _planned(
    found: list[inputs.Source], settings: SynthSettings, labels: annotate.RunLabels
) -> list[_File]:
    """Every file of the run. Copies are numbered in their names, which keeps them apart."""
    files = []
    for source, stem in zip(found, inputs.plan_outputs(found, ""), strict=True):
        entry = labels.entry_of(source)
        for number in range(settings.copies):
            camera = settings.camera_of(source.relative, number)
            mark = f"_night{number + 1}" if settings.copies > 1 else ""
            output = f"{stem}{mark}{body_named(camera).suffix}"
            files.append(_File(source, output, camera, number, entry.size if entry else None))
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
