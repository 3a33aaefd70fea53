"""`enhance --annotations`: boxes of the sensor frame come out in output pixels."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rawisp.batch import writer
from rawisp.batch.events import Event, OnEvent, RunReport
from rawisp.batch.inputs import Source
from rawisp.batch.tasks import check_annotation_frame
from rawisp.data.annotations.coco import Placed, moved_document, read_coco
from rawisp.errors import AnnotationError, InputError, OutputError, display_path
from rawisp.geometry import Affine
from rawisp.version import __version__

FILE_NAME = "annotations.json"


# A top-level key of the files we write, by which they are known as ours; COCO readers ignore it.
_OURS = "rawisp"


class Labels:
    """One annotation file for one run over `sources`.

    Made before any work: AnnotationError for a file that cannot be read or whose entries do not
    belong to one input each, OutputError when another annotations.json would be overwritten.
    """

    def __init__(
        self, path: str, frame: str, folder: str, sources: list[Source], *, overwrite: bool
    ) -> None:
        self._coco = read_coco(path)
        self._frame = frame
        self._target = os.path.join(folder, FILE_NAME)
        self._check_target(path, overwrite)
        self._image_of = {s.path: self._coco.image_for(s.relative) for s in sources}
        owners: dict[Any, str] = {}
        for source in sources:
            image = self._image_of[source.path]
            if image is None:
                continue
            other = owners.setdefault(image["id"], source.path)
            if other != source.path:
                raise AnnotationError(
                    f"{display_path(path)}: both {display_path(other)} and "
                    f"{display_path(source.path)} fit the image {image['file_name']!r}; write "
                    "folders into file_name"
                )

    def _check_target(self, path: str, overwrite: bool) -> None:
        if not os.path.lexists(self._target):
            return
        if os.path.exists(self._target) and os.path.samefile(path, self._target):
            raise OutputError(
                f"{display_path(path)}: would be overwritten by the run's own {FILE_NAME}; "
                "choose another -o"
            )
        if not overwrite and not _is_ours(self._target):
            raise OutputError(
                f"{display_path(self._target)}: exists but was not written by rawisp; choose "
                "another -o, or --overwrite to replace"
            )

    def entry(self, source: Source) -> dict[str, Any] | None:
        """What a worker needs to check this input's frame, None when it is not annotated."""
        image = self._image_of[source.path]
        if image is None:
            return None
        return {"width": image["width"], "height": image["height"], "frame": self._frame}

    def write(self, report: RunReport, sources: list[Source], on_event: OnEvent) -> dict[str, int]:
        """Writes OUT/annotations.json for all outputs that exist; returns what was counted."""
        placed: list[Placed] = []
        unmatched = 0
        for record, source in zip(report.records, sources, strict=True):
            image = self._image_of[source.path]
            if record["status"] not in ("done", "skipped"):
                continue
            if image is None:
                unmatched += 1
                continue
            try:
                placed.append(self._placed(record, source, image))
            except InputError as error:  # an earlier run's output, annotated only now
                record |= {"status": "failed", "reason": error.reason}
                on_event(Event("result", record=record))
        document, counts = moved_document(self._coco, placed)
        writer.write_json(self._target, {_OURS: {"version": __version__}, **document})
        counts["inputs_without_entry"] = unmatched
        counts["entries_without_input"] = len(self._coco.document["images"]) - len(placed)
        return counts

    def _placed(self, record: dict[str, Any], source: Source, image: dict[str, Any]) -> Placed:
        entry = {"width": image["width"], "height": image["height"], "frame": self._frame}
        frame = check_annotation_frame({"source": source.path, "annotation": entry}, record)
        assert frame is not None
        to_output = frame.to_visible.then(Affine.from_rows(record["affine"]))
        width, height = record["output_size"]
        return Placed(image, record["output"], width, height, to_output)


def _is_ours(path: str) -> bool:
    try:
        return _OURS in json.loads(Path(path).read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return False
