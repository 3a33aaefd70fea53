"""`pack` and `enhance` over files and folders: plan, run, record; safe to kill at any moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rawisp.batch import annotate, inputs, packed_files, writer
from rawisp.batch.events import Event, OnEvent, RunReport, ignore_event
from rawisp.batch.lock import output_folder_lock
from rawisp.batch.manifest import FILE_NAME, Manifest, read_manifest
from rawisp.batch.plan import Identity, Plan, file_stamp, make_plan
from rawisp.batch.spool import spool_folder
from rawisp.batch.supervisor import Crew, Outcome, StepPlan, Supervisor
from rawisp.batch.tasks import (
    EnhanceSettings,
    EnhanceToolbox,
    ModelToolbox,
    PackSettings,
    PackToolbox,
)
from rawisp.batch.worker import Payload
from rawisp.errors import InputError, OutputError, OutputFullError, UsageError, display_path
from rawisp.raw import RAW_SUFFIXES
from rawisp.version import __version__

Record = dict[str, Any]
Path = str | os.PathLike[str]


@dataclass(frozen=True)
class RunOptions:
    """What all folder runs share.

    workers: decode processes, None for one per core. overwrite: make everything again. dry_run:
    only say what would be done. max_errors: stop after so many failures, None for never.
    timeout_s: limit for one file in one step.
    """

    workers: int | None = None
    overwrite: bool = False
    dry_run: bool = False
    max_errors: int | None = None
    timeout_s: float = 120.0

    def worker_count(self) -> int:
        """workers, or the number of cores this process may use."""
        if self.workers is not None:
            return max(1, self.workers)
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1


@dataclass
class _Job:
    """One folder run, whatever is done to each file."""

    folder: str
    identity: Identity
    options: RunOptions
    on_event: OnEvent
    crews: Sequence[Crew]
    steps: Sequence[StepPlan]
    payload: Callable[[inputs.Source, str, int], Payload]
    records: dict[str, Record] = field(default_factory=dict)
    ours: set[str] = field(default_factory=set)  # outputs that earlier runs left
    stopped: str = ""
    interrupted: bool = False


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
    found = _found(sources, folder, RAW_SUFFIXES, "camera RAW", on_event)
    outputs = inputs.plan_outputs(found.sources, writer.PACKED_SUFFIX[settings.format])
    job = _Job(
        folder=folder,
        identity=Identity(settings.record()),
        options=options,
        on_event=on_event,
        crews=[Crew("cpu", options.worker_count(), PackToolbox(settings))],
        steps=[StepPlan("pack", "cpu")],
        payload=lambda source, output, _: _payload(source, folder, output),
    )
    return _run(job, found.sources, outputs)


def enhance_folder(
    sources: Sequence[Path] | Path,
    out: Path,
    settings: EnhanceSettings | None = None,
    *,
    annotations: Sequence[Path] | Path = (),
    only_annotated: bool = False,
    options: RunOptions | None = None,
    on_event: OnEvent = ignore_event,
) -> RunReport:
    """Renders RAW or packed files with a learned ISP into `out`, one 8-bit RGB image each.

    annotations: COCO JSON drawn on one of each file's frames; OUT/annotations.json gets the same
    objects in output pixels (several files: OUT/annotations/NAME each). only_annotated: leave out
    inputs without an entry. Otherwise as `pack_folder`; CheckpointError and AnnotationError come
    before any work.
    """
    from rawisp.checkpoint.load import describe_checkpoint

    settings, options = settings or EnhanceSettings(), options or RunOptions()
    folder = os.fspath(out)
    archive, metadata = describe_checkpoint(
        settings.checkpoint,
        input_color=settings.input_color,
        safe=settings.safe,
        expect_sha256=settings.expect_sha256,
    )
    fit = metadata.fit if settings.fit == "checkpoint" else settings.fit
    suffixes = RAW_SUFFIXES | packed_files.PACKED_SUFFIXES
    found = _found(sources, folder, suffixes, "camera RAW or packed", on_event)
    found.sources = [s for s in found.sources if s.named or _readable_kind(s.path)]
    if not found.sources:
        raise inputs.nothing_found(_listed(sources), found, "camera RAW or packed")
    manifests = packed_files.PackedRecords()
    _note_twins(found.sources, manifests, on_event)
    labels = annotate.read_labels(
        _listed(annotations),
        folder,
        settings.annotation_frame,
        found.sources,
        overwrite=options.overwrite,
    )
    for one in labels:
        on_event(Event("note", text=one.announcement()))
    if only_annotated:
        wanted = set().union(*(one.matched() for one in labels))
        found.sources = [source for source in found.sources if source.path in wanted]
    outputs = inputs.plan_outputs(found.sources, writer.IMAGE_SUFFIX[settings.format])
    color: Any = metadata.input_color

    def payload(source: inputs.Source, output: str, index: int) -> Payload:
        values = _payload(source, folder, output)
        entries = [one.entry(source) for one in labels]
        values["annotations"] = [entry for entry in entries if entry is not None]
        values["spool_linear"] = os.path.join(spool, f"{index}.linear.npy")
        values["spool_image"] = os.path.join(spool, f"{index}.image.npy")
        if inputs.suffix_of(source.path) == ".npy":
            values["packed_record"] = manifests.lookup(source.path)
        return values

    with spool_folder() as spool:
        job = _Job(
            folder=folder,
            identity=Identity(
                _enhance_record(settings, color, fit),
                {"name": metadata.name, "sha256": archive.sha256},
            ),
            options=options,
            on_event=on_event,
            crews=[
                Crew("model", 1, ModelToolbox(archive, settings.device, settings.input_color)),
                Crew("cpu", options.worker_count(), EnhanceToolbox(settings, color, fit)),
            ],
            steps=[
                StepPlan("decode", "cpu"),
                StepPlan("render", "model"),
                StepPlan("write", "cpu"),
            ],
            payload=payload,
        )
        report = _run(job, found.sources, outputs)
    if not options.dry_run:
        for one in labels:
            counts = one.write(report, found.sources, on_event)
            for key, count in counts.items():
                report.annotations[key] = report.annotations.get(key, 0) + count
    return report


def _note_twins(
    sources: list[inputs.Source], manifests: packed_files.PackedRecords, on_event: OnEvent
) -> None:
    """A RAW file and what `pack` made of it are one photograph; rendering both is rarely meant."""
    paths = {os.path.realpath(source.path) for source in sources}
    twins = [
        source.path
        for source in sources
        if inputs.suffix_of(source.path) == ".npy"
        and os.path.realpath((manifests.lookup(source.path) or {}).get("source", "")) in paths
    ]
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
) -> inputs.Found:
    names = _listed(sources)
    if not names or "" in names:
        raise UsageError("no input was named")
    if not folder:
        raise UsageError("no output folder was named; use -o . for the current one")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise OutputError(f"{display_path(folder)}: is a file; -o needs a folder")
    found = inputs.find_sources(names, suffixes, outside=folder)
    if not found.sources:
        raise inputs.nothing_found(names, found, wanted)
    if found.links:
        on_event(Event("note", text=inputs.links_passed_over(found)))
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


def _run(job: _Job, sources: list[inputs.Source], outputs: list[str]) -> RunReport:
    start = time.perf_counter()
    known = read_manifest(os.path.join(job.folder, FILE_NAME))
    plan = make_plan(
        sources, outputs, job.folder, known, job.identity, overwrite=job.options.overwrite
    )
    job.ours = {output for output, entry in known.items() if entry["status"] != "failed"}
    job.on_event(Event("plan", total=len(sources)))
    for output, entry in plan.skipped.items():
        _settle(job, {**entry, "status": "skipped", "reason": "done by an earlier run"}, output)
    if job.options.dry_run:
        for source, output in plan.todo:
            _settle(job, _record(job, source.path, output, "planned"), output)
    elif plan.todo:
        _work(job, plan)
    else:
        _sweep(job.folder)
    return RunReport(
        records=[job.records[output] for output in outputs],
        interrupted=job.interrupted,
        stopped=job.stopped,
        seconds=time.perf_counter() - start,
        outputs_folder=job.folder,
    )


def _work(job: _Job, plan: Plan) -> None:
    _make_folders(job.folder, plan)
    with output_folder_lock(job.folder):
        writer.sweep_temporaries(job.folder)
        manifest = Manifest(job.folder)
        manifest.append(
            [_record(job, source.path, output, "pending") for source, output in plan.todo]
        )
        payloads = [job.payload(s, output, i) for i, (s, output) in enumerate(plan.todo)]
        try:
            with Supervisor(job.crews, job.steps, job.options.timeout_s) as supervisor:
                for outcome in supervisor.run(payloads, lambda: bool(job.stopped)):
                    record = _finished(job, payloads[outcome.index], outcome)
                    manifest.append([_without_detail(record)])
                    _settle(job, record, record["output"])
        except KeyboardInterrupt:
            job.interrupted = True
        finally:
            manifest.compact()
    for source, output in plan.todo:
        if output not in job.records:
            job.records[output] = _record(
                job, source.path, output, "not attempted", job.stopped or "interrupted"
            )


def _sweep(folder: str) -> None:
    """What a run left that was killed after its last picture; not while another run is there."""
    with suppress(OutputError), output_folder_lock(folder):
        writer.sweep_temporaries(folder)


def _make_folders(folder: str, plan: Plan) -> None:
    for path in sorted({os.path.dirname(os.path.join(folder, o)) for _, o in plan.todo}):
        try:
            os.makedirs(path or ".", exist_ok=True)
        except OSError as error:
            raise OutputError(f"{display_path(path)}: cannot be made ({error.strerror})") from None


def _record(job: _Job, source: str, output: str, status: str, reason: str = "") -> Record:
    return {
        "source": source,
        "output": output,
        "status": status,
        "reason": reason,
        **file_stamp(source),
        "settings": job.identity.settings,
        "checkpoint": job.identity.checkpoint,
        "version": __version__,
    }


def _finished(job: _Job, payload: Payload, outcome: Outcome) -> Record:
    """The record of an outcome; also decides whether the run goes on."""
    source, output = payload["source"], payload["output"]
    seconds = {"seconds": round(outcome.seconds, 4)}
    if outcome.error is None:
        return {**outcome.payload, **_record(job, source, output, "done"), **seconds}
    error = outcome.error
    if output in job.ours:  # made from what the source was before; it would pass for up to date
        with suppress(OSError):
            os.unlink(payload["output_path"])
    reason = error.reason if isinstance(error, InputError) else str(error)
    for key in ("spool_linear", "spool_image"):
        with suppress(OSError, KeyError):
            os.unlink(payload[key])
    record = {**_record(job, source, output, "failed", reason), **seconds}
    record["detail"] = outcome.detail
    failures = 1 + sum(r["status"] == "failed" for r in job.records.values())
    if isinstance(error, OutputFullError):
        job.stopped = "the output folder is full"
    elif job.options.max_errors is not None and failures >= job.options.max_errors:
        job.stopped = f"stopped after {failures} failures (--max-errors)"
    return record


def _without_detail(record: Record) -> Record:
    return {key: value for key, value in record.items() if key != "detail"}


def _settle(job: _Job, record: Record, output: str) -> None:
    job.records[output] = record
    job.on_event(Event("result", record=record))
