"""`rawisp validate`."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rawisp.cli import options
from rawisp.errors import display_path, printable

if TYPE_CHECKING:
    from rawisp.data import DataSet, Problem

_PROGRESS_INTERVAL_S = 10.0


def validate(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder of RAW files.")],
    annotations: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="COCO .json, VOC .xml, YOLO data.yaml, or a folder of .xml or .txt; may be given "
            "several times. [default: those that lie in DATA]",
        ),
    ] = None,
    lists: Annotated[
        list[str] | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="A text with a photograph's name in each line, called like its split: val.txt.",
        ),
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Set this share of the training photographs aside, by a hash of their names.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="For --val and --overlays.")] = 0,
    annotation_frame: options.AnnotationFrame = None,
    exclude: options.Exclude = None,
    follow_links: options.FollowLinks = False,
    overlays: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Write pictures with the boxes drawn, to look at."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="How many pictures.")] = 12,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail for what was mended, too.")
    ] = False,
    headers_only: Annotated[
        bool,
        typer.Option(
            "--headers-only",
            help="Read no pictures, only headers: many times faster, and damage goes unseen.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    workers: options.Workers = None,
    timeout: options.Timeout = 120.0,
    max_megapixels: options.MaxMegapixels = 200.0,
) -> None:
    """List what is wrong with annotated RAW files: file, line, what; and draw boxes to look at.

    Every RAW file is decoded, as training would, so that damage is found now and not then.

    Exit code 0 when nothing is wrong, 1 otherwise. What loading mends by itself (boxes without
    area, cut at the frame, classes that nothing uses, entries without a file) is listed as mended
    and counts with --strict only.

    Example: `rawisp validate night_photos/ --annotations instances.json --overlays look/`
    """
    from rawisp.batch.validate import FramesOfFiles, draw_overlays
    from rawisp.data import find_dataset
    from rawisp.data.validate import counts
    from rawisp.data.validate import validate as problems_of

    dataset = find_dataset(
        data,
        annotations or (),
        lists=lists or (),
        val=val,
        seed=seed,
        search=options.search(exclude, follow_links),
    )
    for note in dataset.notes:
        _say(note)
    paths = [sample.path for sample in dataset.samples]
    frames_of = FramesOfFiles(paths, max_megapixels, workers, timeout, headers_only, _Progress())
    frame = annotation_frame or "auto"
    problems = problems_of(
        dataset,
        frames_of=frames_of,
        suspicions_of=frames_of.suspicions_of,
        annotation_frame=frame,
    )
    written: list[str] = []
    if overlays is not None:
        written, undrawn = draw_overlays(
            dataset,
            overlays,
            count,
            seed,
            annotation_frame=frame,
            max_megapixels=max_megapixels,
        )
        problems += [problem for problem in undrawn if problem not in problems]
    found = counts(dataset, problems)
    if as_json:
        sys.stdout.write(json.dumps(_record(dataset, problems, written, found)) + "\n")
    else:
        _table(problems)
        _summary(dataset, written, found)
    if found["problems"] or (strict and found["mended"]):
        raise typer.Exit(1)


class _Progress:
    """A line on stderr now and then while many files are decoded."""

    def __init__(self) -> None:
        self._begun = self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._said > _PROGRESS_INTERVAL_S:
            self._said = now
            left_s = int((now - self._begun) / done * (total - done))
            _say(
                f"validate: {done} of {total} RAW files decoded, {left_s // 60} min "
                f"{left_s % 60} s left (--headers-only is faster)"
            )


def _table(problems: list[Problem]) -> None:
    """Columns that `grep` and `cut` can work on; nothing is wrapped."""
    rows = [(display_path(p.file), p.place, "mended: " * p.mended + p.what) for p in problems]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for file, place, what in rows:
        sys.stdout.write(f"{file:<{widths[0]}}  {place:<{widths[1]}}  {what}\n")


def _summary(dataset: DataSet, written: list[str], found: dict[str, Any]) -> None:
    splits = ", ".join(f"{n} {name}" for name, n in found["splits"].items() if name != "none")
    classes = ", ".join(f"{n} {printable(name)}" for name, n in found["classes"].items() if n)
    _say(
        f"{display_path(dataset.root)}: {_many(found['photographs'], 'annotated photograph')}"
        + (f" ({splits})" if splits else "")
        + f", {found['negatives']} of them without boxes"
    )
    _say(
        f"{_many(found['files_without_entry'], 'RAW file')} without an entry, "
        f"{_many(found['entries_without_file'], 'entry', 'entries')} without a RAW file"
    )
    _say(_many(found["boxes"], "box", "boxes") + (f": {classes}" if classes else ""))
    if written:
        first = display_path(written[0])
        _say(f"{_many(len(written), 'picture')} written, the first: {first}")
    _say(f"{_many(found['problems'], 'problem')}, {found['mended']} mended")


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _record(
    dataset: DataSet, problems: list[Problem], written: list[str], found: dict[str, Any]
) -> dict[str, Any]:
    return {
        "data": dataset.root,
        "annotations": [{"path": path, "format": name} for path, name in dataset.annotations],
        "notes": list(dataset.notes),
        "counts": found,
        "problems": [problem._asdict() for problem in problems],
        "overlays": written,
    }
