"""`enhance --annotations`: boxes of the sensor frame come out in output pixels."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rawisp.batch import writer
from rawisp.batch.events import FINISHED, Event, OnEvent, RunReport
from rawisp.batch.inputs import Source
from rawisp.batch.tasks import annotation_frame_of
from rawisp.data.annotations.coco import Placed, moved_document, read_coco
from rawisp.errors import AnnotationError, InputError, OutputError, display_path
from rawisp.geometry import Affine
from rawisp.version import __version__

SINGLE_NAME = "annotations.json"
SEVERAL_FOLDER = "annotations"
# A top-level key of the files we write, by which they are known as ours; COCO readers ignore it.
_OURS = "rawisp"


class Labels:
    """One annotation file for one run over `sources`, to be written to `target`.

    Made before any work: AnnotationError for a file that cannot be read, of which no entry fits
    any input, or of which one entry fits two; OutputError when `target` would be lost.
    """

    def __init__(
        self, path: str, target: str, frame: str, sources: list[Source], *, overwrite: bool
    ) -> None:
        self._path = path
        self._target = target
        self._frame = frame
        self._coco = read_coco(path)
        self._check_target(overwrite)
        self._image_of = {s.path: self._coco.image_for(s.relative) for s in sources}
        self._check_matches(sources)

    def _check_target(self, overwrite: bool) -> None:
        if not os.path.lexists(self._target):
            return
        shown = display_path(self._target)
        if os.path.exists(self._target) and os.path.samefile(self._path, self._target):
            raise OutputError(
                f"{shown}: would be overwritten by the run's own annotations; choose another -o"
            )
        before = _made_from(self._target)
        if overwrite or before == os.path.basename(self._path):
            return
        if before is None:
            raise OutputError(
                f"{shown}: exists but was not written by rawisp; choose another -o, or "
                "--overwrite to replace"
            )
        raise OutputError(
            f"{shown}: holds the boxes of {display_path(before)}; give all annotation files in "
            "one command (--annotations A --annotations B), choose another -o, or --overwrite"
        )

    def _check_matches(self, sources: list[Source]) -> None:
        shown = display_path(self._path)
        owners: dict[Any, str] = {}
        for source in sources:
            image = self._image_of[source.path]
            if image is None:
                continue
            other = owners.setdefault(image["id"], source.path)
            if other != source.path:
                same_place = os.path.dirname(other) == os.path.dirname(source.path)
                advice = "give only one of them" if same_place else "write folders into file_name"
                raise AnnotationError(
                    f"{shown}: both {display_path(other)} and {display_path(source.path)} fit the "
                    f"image {image['file_name']!r}; {advice}"
                )
        if not owners and sources and self._coco.document["images"]:
            raise AnnotationError(
                f"{shown}: none of its {len(self._coco.document['images'])} images is called like "
                f"any input ({self._coco.document['images'][0]['file_name']!r}, ... against "
                f"{display_path(sources[0].relative)!r}, ...)"
            )

    def matched(self) -> set[str]:
        """The paths of the inputs that have an entry."""
        return {path for path, image in self._image_of.items() if image is not None}

    def announcement(self) -> str:
        """How inputs and entries fit, in one line."""
        matched, images = len(self.matched()), len(self._coco.document["images"])
        return (
            f"{display_path(self._path)}: {matched} of {len(self._image_of)} inputs have an entry, "
            f"{images - matched} of {images} entries have no input"
        )

    def entry(self, source: Source) -> dict[str, Any] | None:
        """What a worker needs to check this input's frame, None when it is not annotated."""
        image = self._image_of[source.path]
        if image is None:
            return None
        return {"width": image["width"], "height": image["height"], "frame": self._frame}

    def write(self, report: RunReport, sources: list[Source], on_event: OnEvent) -> dict[str, int]:
        """Writes the target for all outputs that exist; returns what was counted."""
        placed: list[Placed] = []
        for number, (record, source) in enumerate(zip(report.records, sources, strict=True)):
            image = self._image_of[source.path]
            if image is None or record["status"] not in FINISHED:
                continue
            try:
                placed.append(self._placed(record, source, image))
            except InputError as error:  # an earlier run's output, annotated only now
                record |= {"status": "failed", "reason": error.reason}
                report.records[number] = record
                on_event(Event("result", record=record))
        document, counts = moved_document(self._coco, placed)
        ours = {"version": __version__, "made_from": os.path.basename(self._path)}
        os.makedirs(os.path.dirname(self._target) or ".", exist_ok=True)
        # A file that rawisp wrote has a mark too, which is not ours.
        others = {key: value for key, value in document.items() if key != _OURS}
        writer.write_json(self._target, {_OURS: ours, **others})
        return counts

    def _placed(self, record: dict[str, Any], source: Source, image: dict[str, Any]) -> Placed:
        entry = self.entry(source)
        assert entry is not None
        frame = annotation_frame_of(source.path, entry, record)
        to_output = frame.to_visible.then(Affine.from_rows(record["affine"]))
        width, height = record["output_size"]
        return Placed(image, record["output"], width, height, to_output)


def read_labels(
    paths: Sequence[str], folder: str, frame: str, sources: list[Source], *, overwrite: bool
) -> list[Labels]:
    """One file becomes OUT/annotations.json; several keep their names, in OUT/annotations/."""
    names = [os.path.basename(path) for path in paths]
    if len(set(names)) < len(names):
        raise AnnotationError(
            f"{', '.join(map(display_path, paths))}: annotation files of one run need different "
            "names, since they keep them"
        )
    targets = [SINGLE_NAME] if len(paths) == 1 else [f"{SEVERAL_FOLDER}/{name}" for name in names]
    return [
        Labels(path, os.path.join(folder, target), frame, sources, overwrite=overwrite)
        for path, target in zip(paths, targets, strict=True)
    ]


def _made_from(path: str) -> str | None:
    """The annotation file that an annotations.json of ours was made from; None if not ours."""
    try:
        made_from = json.loads(Path(path).read_bytes())[_OURS]["made_from"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return str(made_from)
