"""One folder run, whatever is done to each file: plan, work, record; safe to kill at any moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rawisp.batch import inputs, writer
from rawisp.batch.events import Event, OnEvent, RunReport
from rawisp.batch.lock import output_folder_lock
from rawisp.batch.manifest import Manifest
from rawisp.batch.plan import Identity, Plan, file_stamp, make_plan
from rawisp.batch.records import RunRecords, skipped_record
from rawisp.batch.supervisor import Crew, Outcome, StepPlan, Supervisor
from rawisp.batch.worker import Payload
from rawisp.errors import InputError, OutputError, OutputFullError, display_path
from rawisp.raw.files import Search
from rawisp.version import __version__

Record = dict[str, Any]


@dataclass(frozen=True)
class RunOptions:
    """What all folder runs share.

    workers: decode processes, None for one per core. overwrite: make everything again. dry_run:
    only say what would be done. max_errors: stop after so many failures, None for never.
    timeout_s: limit for one file in one step. search: how folders are searched for inputs.
    """

    workers: int | None = None
    overwrite: bool = False
    dry_run: bool = False
    max_errors: int | None = None
    timeout_s: float = 120.0
    search: Search = field(default_factory=Search)

    def worker_count(self) -> int:
        """workers, or the number of cores this process may use."""
        if self.workers is not None:
            return max(1, self.workers)
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1


@dataclass
class Job:
    """One folder run, whatever is done to each file."""

    folder: str
    identity: Identity
    options: RunOptions
    on_event: OnEvent
    crews: Sequence[Crew]
    steps: Sequence[StepPlan]
    payload: Callable[[inputs.Source, str, int], Payload]
    strict: bool = False  # a suspect file is a failed one
    held: dict[str, Record] = field(default_factory=dict)  # what the manifest has not in full
    ended: set[str] = field(default_factory=set)  # outputs of which this run's end is recorded
    ours: set[str] = field(default_factory=set)  # outputs to be made that earlier runs left
    failures: int = 0
    stopped: str = ""
    interrupted: bool = False


class _Payloads(Sequence[Payload]):
    """Those of a plan, made when their turn comes."""

    def __init__(self, job: Job, plan: Plan) -> None:
        self._job = job
        self._plan = plan

    def __len__(self) -> int:
        return len(self._plan.todo)

    def __getitem__(self, index: Any) -> Any:
        source, output = self._plan.todo[index]
        return self._job.payload(source, output, index)


def run(job: Job, sources: list[inputs.Source], outputs: list[str]) -> RunReport:
    """Makes each output of which the manifest does not say that it is done; see `make_plan`."""
    start = time.perf_counter()
    manifest = Manifest(job.folder)
    known = manifest.entries
    plan = make_plan(
        sources,
        outputs,
        job.folder,
        known,
        job.identity,
        overwrite=job.options.overwrite,
        strict=job.strict,
    )
    job.ours = {o for _, o in plan.todo if o in known and known[o].status != "failed"}
    job.on_event(Event("plan", total=len(sources)))
    for output in outputs:
        if output in plan.skipped:
            record = partial(skipped_record, manifest, output)
            job.on_event(Event("result", record=record, status="skipped"))
    if job.options.dry_run:
        for source, output in plan.todo:
            job.held[output] = _record(job, source.path, output, "planned")
            job.on_event(Event("result", record=job.held[output]))
    elif plan.todo:
        _work(job, plan, manifest)
    else:
        _sweep(job.folder)
    return RunReport(
        records=RunRecords(outputs, manifest, skipped=plan.skipped, held=job.held),
        interrupted=job.interrupted,
        stopped=job.stopped,
        seconds=time.perf_counter() - start,
        outputs_folder=job.folder,
    )


def _work(job: Job, plan: Plan, manifest: Manifest) -> None:
    _make_folders(job.folder, plan)
    with output_folder_lock(job.folder):
        writer.sweep_temporaries(job.folder)
        manifest.refresh()
        manifest.append(_record(job, source.path, o, "pending") for source, o in plan.todo)
        payloads = _Payloads(job, plan)
        try:
            with Supervisor(job.crews, job.steps, job.options.timeout_s) as supervisor:
                for outcome in supervisor.run(payloads, lambda: bool(job.stopped)):
                    record = _finished(job, payloads[outcome.index], outcome)
                    _settle(job, manifest, record)
        except KeyboardInterrupt:
            job.interrupted = True
        finally:
            manifest.compact()
    for source, output in plan.todo:
        if output not in job.ended:
            job.held[output] = _record(
                job, source.path, output, "not attempted", job.stopped or "interrupted"
            )


def _settle(job: Job, manifest: Manifest, record: Record) -> None:
    """Writes down how an input has ended, and tells the caller."""
    output = record["output"]
    manifest.append([_without_detail(record)])
    job.ended.add(output)
    if record.get("detail"):
        job.held[output] = record
    job.on_event(Event("result", record=record))


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


def _record(job: Job, source: str, output: str, status: str, reason: str = "") -> Record:
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


def _finished(job: Job, payload: Payload, outcome: Outcome) -> Record:
    """The record of an outcome; also decides whether the run goes on."""
    source, output = payload["source"], payload["output"]
    seconds = {"seconds": round(outcome.seconds, 4)}
    if outcome.error is None:
        reason = "; ".join(outcome.payload.get("suspicions", ()))
        status = "suspect" if reason else "done"
        return {**outcome.payload, **_record(job, source, output, status, reason), **seconds}
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
    job.failures += 1
    if isinstance(error, OutputFullError):
        job.stopped = "the output folder is full"
    elif job.options.max_errors is not None and job.failures >= job.options.max_errors:
        job.stopped = f"stopped after {job.failures} failures (--max-errors)"
    return record


def _without_detail(record: Record) -> Record:
    return {key: value for key, value in record.items() if key != "detail"}
