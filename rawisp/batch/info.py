"""`info`: facts of RAW files, read in a worker process so that no file can take the caller down."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from typing import Any

from rawisp.batch import inputs
from rawisp.batch.supervisor import Crew, StepPlan, Supervisor
from rawisp.batch.tasks import InfoToolbox, ReadSettings
from rawisp.errors import InputError
from rawisp.raw import RAW_SUFFIXES
from rawisp.raw.files import Search


def info_files(
    sources: Sequence[str | os.PathLike[str]],
    read: ReadSettings | None = None,
    *,
    workers: int = 1,
    timeout_s: float = 120.0,
    search: Search | None = None,
    on_note: Callable[[str], object] = lambda _: None,
) -> Generator[dict[str, Any], None, None]:
    """Yields one record per file, in order: {"source", "status", "reason", ...facts, "samples"}.

    Folders are searched for RAW files, as `search` says. status is "done", "suspect" or "failed".
    on_note: gets sentences on what was passed over. Raises NothingToDoError.
    """
    names = [os.fspath(source) for source in sources]
    found = inputs.find_sources(names, RAW_SUFFIXES, search=search)
    if not found.sources:
        raise inputs.nothing_found(names, found, "camera RAW")
    for text in found.notes():
        on_note(text)
    payloads = [{"source": source.path} for source in found.sources]
    crew = Crew("cpu", max(1, workers), InfoToolbox(read or ReadSettings()))
    ended: dict[int, dict[str, Any]] = {}
    following = 0
    with Supervisor([crew], [StepPlan("info", "cpu")], timeout_s) as supervisor:
        for outcome in supervisor.run(payloads):
            source = payloads[outcome.index]["source"]
            if outcome.error is None:
                reason = "; ".join(outcome.payload["suspicions"])
                status = "suspect" if reason else "done"
                record = {"source": source, "status": status, "reason": reason, **outcome.payload}
            else:
                error = outcome.error
                reason = error.reason if isinstance(error, InputError) else str(error)
                record = {"source": source, "status": "failed", "reason": reason}
            ended[outcome.index] = record
            while following in ended:
                yield ended.pop(following)
                following += 1
