"""Where what was drawn on a photograph lies in the file made of it, by that file's record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rawisp.batch.label_store import Label, Placement
from rawisp.batch.tasks import annotation_frame_of
from rawisp.data.synth.boxes import check_size
from rawisp.errors import FrameMismatchError
from rawisp.geometry import Affine

Record = dict[str, Any]

# Frames of labels that are known by their output alone, when an older version wrote them.
MOSAIC = "mosaic"


def placement(record: Record, label: Label) -> Placement:
    """Where the label lies in the output that the record (of the manifest) tells of.

    FrameMismatchError when it was drawn on no frame of the source, or the record does not say.
    """
    place: Callable[[Record, Label], Placement]
    place = _on_night if record["settings"].get("verb") == "synth" else _on_picture
    try:
        return place(record, label)
    except (KeyError, TypeError, ValueError):
        raise FrameMismatchError(
            record["source"],
            "the manifest does not say how its output was made",
            "make it again with --overwrite",
        ) from None


def _on_picture(record: Record, label: Label) -> Placement:
    if label.to_visible is not None:
        to_visible = Affine.from_rows(label.to_visible)
    else:
        size = label.entry.size
        asked = {"size": size, "frame": label.frame}
        frame = annotation_frame_of(record["source"], asked, record)
        to_visible = frame.to_visible
        if size is None:
            to_visible = Affine.scaling(frame.width, frame.height).then(to_visible)
    to_output = to_visible.then(Affine.from_rows(record["affine"]))
    width, height = record["output_size"]
    return Placement(to_output.rows(), (width, height), record["settings"])


def _on_night(record: Record, label: Label) -> Placement:
    """On continuous edges a scale and no more."""
    width, height = record["mosaic_size"]
    if label.frame != MOSAIC:
        shown_width, shown_height = record["photograph_size"]
        check_size(record["source"], label.entry.size, (shown_width, shown_height))
    drawn = label.entry.size or (1, 1)
    to_output = Affine.scaling(width / drawn[0], height / drawn[1])
    return Placement(to_output.rows(), (width, height), record["settings"])
