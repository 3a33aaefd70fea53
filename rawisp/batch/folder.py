"""`pack` and `enhance` over files and folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rawisp.batch import inputs, packed_files, writer
from rawisp.batch.events import Event, OnEvent, RunReport, ignore_event
from rawisp.batch.label_plan import Planned
from rawisp.batch.plan import Identity
from rawisp.batch.run import Job, Record, RunOptions, run
from rawisp.batch.spool import spool_folder
from rawisp.batch.supervisor import Crew, StepPlan
from rawisp.batch.tasks import (
    EnhanceSettings,
    EnhanceToolbox,
    ModelToolbox,
    PackSettings,
    PackToolbox,
)
from rawisp.batch.worker import Payload
from rawisp.errors import OutputError, UsageError, display_path
from rawisp.local import refuse_url
from rawisp.raw import RAW_SUFFIXES
from rawisp.raw.files import Search

if TYPE_CHECKING:
    from rawisp.checkpoint.archive import Archive
    from rawisp.checkpoint.metadata import CheckpointMetadata

Path = str | os.PathLike[str]


def pack_folder(
    sources: Sequence[Path] | Path,
    out: Path,
    settings: PackSettings | None = None,
    *,
    options: RunOptions | None = None,
    on_event: OnEvent = ignore_event,
) -> RunReport:
    """Packs RAW files and folders of them into `out`, one file each, the tree mirrored.

    Outputs are half-resolution linear images (H/2, W/2, 3); OUT/manifest.jsonl has a line for each
    input with the camera's facts and the affine map from visible sensor pixels to output pixels.
    Files that are done already are skipped; a killed run continues. Raises NothingToDoError,
    OutputError and other UsageErrors before any work; a file that fails does not raise but is a
    record of the report.
    """
    settings, options = settings or PackSettings(), options or RunOptions()
    folder = os.fspath(out)
    found = _found(sources, folder, RAW_SUFFIXES, "camera RAW", on_event, options.search)
    outputs = inputs.plan_outputs(found.sources, writer.PACKED_SUFFIX[settings.format])
    job = Job(
        folder=folder,
        identity=Identity(settings.record()),
        options=options,
        on_event=on_event,
        crews=[Crew("cpu", options.worker_count(), PackToolbox(settings))],
        steps=[StepPlan("pack", "cpu")],
        payload=lambda source, output, _: _payload(source, folder, output),
        strict=settings.read.strict,
    )
    return run(job, found.sources, outputs)


def enhance_folder(
    sources: Sequence[Path] | Path,
    out: Path,
    settings: EnhanceSettings | None = None,
    *,
    annotations: Sequence[Path] | Path = (),
    annotations_format: str | None = None,
    only_annotated: bool = False,
    options: RunOptions | None = None,
    on_event: OnEvent = ignore_event,
) -> RunReport:
    """Renders RAW or packed files with a learned ISP into `out`, one 8-bit RGB image each.

    annotations: COCO, VOC or YOLO, drawn on one of each file's frames; OUT gets the same objects in
    output pixels, those of earlier runs beside them: annotations.json (several files:
    annotations/NAME each), Annotations/ or data.yaml and labels/, in the format that was read or
    `annotations_format` ("coco", "voc", "yolo"). only_annotated: leave out inputs without an entry.
    Otherwise as `pack_folder`; CheckpointError and AnnotationError come before any work.
    """
    from rawisp.batch import annotate  # readers of three formats, which pack has no use for
    from rawisp.checkpoint.load import describe_checkpoint

    settings, options = settings or EnhanceSettings(), options or RunOptions()
    folder = os.fspath(out)
    archive, metadata = describe_checkpoint(
        settings.checkpoint,
        input_color=settings.input_color,
        safe=settings.safe,
        expect_sha256=settings.expect_sha256,
    )
    notice = archive.trust_notice()
    if notice is not None:
        on_event(Event("note", text=notice))
    found = _found_for_enhance(sources, folder, on_event, options.search)
    manifests = packed_files.PackedRecords()
    _note_twins(found, manifests, on_event)
    labels = annotate.read_labels(
        _listed(annotations),
        folder,
        settings.annotation_frame,
        found,
        overwrite=options.overwrite,
        written_as=annotations_format,
    )
    for text in labels.announcements():
        on_event(Event("note", text=text))
    if only_annotated:
        if not labels.files:
            raise UsageError("--only-annotated needs --annotations")
        wanted = labels.matched()
        found = [source for source in found if source.path in wanted]
    outputs = inputs.plan_outputs(found, writer.IMAGE_SUFFIX[settings.format])
    labels.plan([Planned(*pair) for pair in zip(found, outputs, strict=True)])
    with spool_folder() as spool:
        job = _enhance_job(folder, settings, options, on_event, archive, metadata)

        def payload(source: inputs.Source, output: str, index: int) -> Payload:
            labels.keep()  # in OUT's lock, when it is clear that the run may write there
            return {
                **_payload(source, folder, output),
                "annotations": labels.asked(source),
                "spool_linear": os.path.join(spool, f"{index}.linear.npy"),
                "spool_image": os.path.join(spool, f"{index}.image.npy"),
                "packed_record": _packed_record(source, manifests),
            }

        job.payload = payload
        report = run(job, found, outputs)
    if not options.dry_run:
        report.annotations = labels.finish(report, on_event)
    return report


def _enhance_job(
    folder: str,
    settings: EnhanceSettings,
    options: RunOptions,
    on_event: OnEvent,
    archive: Archive,
    metadata: CheckpointMetadata,
) -> Job:
    """Decode and write on the cores, render in the one process that has torch."""
    fit = metadata.fit if settings.fit == "checkpoint" else settings.fit
    color = metadata.input_color
    identity = Identity(
        _enhance_record(settings, color, fit), {"name": metadata.name, "sha256": archive.sha256}
    )
    return Job(
        folder=folder,
        identity=identity,
        options=options,
        on_event=on_event,
        crews=[
            Crew("model", 1, ModelToolbox(archive, settings.device, settings.input_color)),
            Crew("cpu", options.worker_count(), EnhanceToolbox(settings, color, fit)),
        ],
        steps=[StepPlan("decode", "cpu"), StepPlan("render", "model"), StepPlan("write", "cpu")],
        payload=lambda source, output, _: _payload(source, folder, output),
        strict=settings.read.strict,
    )


def _found_for_enhance(
    sources: Sequence[Path] | Path, folder: str, on_event: OnEvent, search: Search
) -> list[inputs.Source]:
    """RAW files and what `pack` wrote; a TIFF that was not named counts only if `pack` wrote it."""
    wanted = "camera RAW or packed"
    suffixes = RAW_SUFFIXES | packed_files.PACKED_SUFFIXES
    found = _found(sources, folder, suffixes, wanted, on_event, search)
    kept = [s for s in found.sources if s.named or _readable_kind(s.path)]
    if not kept:
        raise inputs.nothing_found(_listed(sources), found, wanted)
    return kept


def _packed_record(source: inputs.Source, manifests: packed_files.PackedRecords) -> Record | None:
    return manifests.lookup(source.path) if inputs.suffix_of(source.path) == ".npy" else None


def _note_twins(
    sources: list[inputs.Source], manifests: packed_files.PackedRecords, on_event: OnEvent
) -> None:
    """A RAW file and what `pack` made of it are one photograph; rendering both is rarely meant."""
    packed_from = {
        source.path: manifests.packed_from(source.path)
        for source in sources
        if inputs.suffix_of(source.path) == ".npy"
    }
    if not packed_from or len(packed_from) == len(sources):
        return  # before links are resolved, which takes its time
    paths = {os.path.realpath(source.path) for source in sources}
    twins = [path for path, raw in packed_from.items() if raw and os.path.realpath(raw) in paths]
    if twins:
        text = f"{display_path(twins[0])} was packed from a RAW file that is among the inputs too"
        more = f" (as were {len(twins) - 1} more)" if len(twins) > 1 else ""
        on_event(Event("note", text=f"{text}{more}; both are rendered"))


def _enhance_record(settings: EnhanceSettings, color: str, fit: Any) -> Record:
    return {
        "verb": "enhance",
        "format": settings.format,
        "color": color,
        "fit": list(fit) if fit else None,
        "orient": settings.orient,
        "highlights": settings.highlights,
        **settings.read.record(),
    }


def _listed(sources: Sequence[Path] | Path) -> list[str]:
    if isinstance(sources, str | os.PathLike):
        return [os.fspath(sources)]
    return [os.fspath(source) for source in sources]


def _found(
    sources: Sequence[Path] | Path,
    folder: str,
    suffixes: frozenset[str],
    wanted: str,
    on_event: OnEvent,
    search: Search,
) -> inputs.Found:
    names = _listed(sources)
    if not names or "" in names:
        raise UsageError("no input was named")
    if not folder:
        raise UsageError("no output folder was named; use -o . for the current one")
    for name in (*names, folder):
        refuse_url(name)
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise OutputError(f"{display_path(folder)}: is a file; -o needs a folder")
    found = inputs.find_sources(names, suffixes, outside=folder, search=search)
    if not found.sources:
        raise inputs.nothing_found(names, found, wanted)
    for text in found.notes():
        on_event(Event("note", text=text))
    return found


def _readable_kind(path: str) -> bool:
    """A TIFF in a folder counts only if `pack` wrote it."""
    return inputs.suffix_of(path) not in (".tif", ".tiff") or packed_files.is_packed(path)


def _payload(source: inputs.Source, folder: str, output: str) -> Payload:
    return {
        "source": source.path,
        "output": output,
        "output_path": os.path.join(folder, output),
    }
