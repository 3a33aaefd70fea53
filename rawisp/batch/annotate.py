"""`enhance --annotations`: boxes of the sensor frame come out in output pixels."""

from __future__ import annotations

import os
from typing import Any

from rawisp.batch import writer
from rawisp.batch.events import Event, OnEvent, RunReport
from rawisp.batch.inputs import Source
from rawisp.batch.tasks import check_annotation_frame
from rawisp.data.annotations.coco import Placed, moved_document, read_coco
from rawisp.errors import InputError, OutputError, display_path
from rawisp.geometry import Affine

FILE_NAME = "annotations.json"


class Labels:
    """One annotation file for one run."""

    def __init__(self, path: str, frame: str, folder: str) -> None:
        self._coco = read_coco(path)
        self._frame = frame
        self._target = os.path.join(folder, FILE_NAME)
        if os.path.exists(self._target) and os.path.samefile(path, self._target):
            raise OutputError(
                f"{display_path(path)}: would be overwritten by the run's own {FILE_NAME}; "
                "choose another -o"
            )

    def entry(self, relative: str) -> dict[str, Any] | None:
        """What a worker needs to check this input's frame, None when it is not annotated."""
        image = self._coco.image_for(relative)
        if image is None:
            return None
        return {"width": image["width"], "height": image["height"], "frame": self._frame}

    def write(self, report: RunReport, sources: list[Source], on_event: OnEvent) -> dict[str, int]:
        """Writes OUT/annotations.json for all outputs that exist; returns what was counted."""
        placed: list[Placed] = []
        unmatched = 0
        for record, source in zip(report.records, sources, strict=True):
            if record["status"] not in ("done", "skipped"):
                continue
            image = self._coco.image_for(source.relative)
            if image is None:
                unmatched += 1
                continue
            try:
                placed.append(self._placed(record, source, image))
            except InputError as error:  # an earlier run's output, annotated only now
                record |= {"status": "failed", "reason": error.reason}
                on_event(Event("result", record=record))
        document, counts = moved_document(self._coco, placed)
        writer.write_json(self._target, document)
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
