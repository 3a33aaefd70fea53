"""Boxes of photographs and the pictures that they were drawn on."""

from __future__ import annotations

from rawisp.errors import FrameMismatchError

# Ids of several nights of one photograph: 1000 times the photograph's and the night's number.
MAX_COPIES = 999


def check_size(path: str, annotated: tuple[int, int] | None, shown: tuple[int, int]) -> None:
    """FrameMismatchError unless boxes were drawn on the picture as displayed, (width, height)."""
    if annotated is None or annotated == shown:
        return
    problem = f"the annotations say {annotated[0]}x{annotated[1]}, it shows {shown[0]}x{shown[1]}"
    if annotated == shown[::-1]:
        problem += " (its EXIF orientation turns it)"
    raise FrameMismatchError(path, problem, "annotate the picture as viewers display it")
