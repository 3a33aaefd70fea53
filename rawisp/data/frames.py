"""From a photograph's labels to the pixels of its RAW file."""

from __future__ import annotations

from rawisp.data.annotations.labels import LabeledImage
from rawisp.errors import FrameMismatchError
from rawisp.geometry import Affine, Frame, chosen_frame

CHOICES = ("auto", "visible", "crop", "upright", "upright-crop", "raw", "center")


def frame_of(path: str, labels: LabeledImage, frames: dict[str, Frame], choice: str) -> Frame:
    """The frame of the RAW file `path` that the labels were drawn on; see `frame_of_size`."""
    return frame_of_size(path, labels.size, frames, choice)


def frame_of_size(
    path: str, size: tuple[int, int] | None, frames: dict[str, Frame], choice: str
) -> Frame:
    """The frame of the RAW file `path` that labels of this (width, height) were drawn on.

    choice: one of CHOICES; "auto" goes by size. Labels without a size (YOLO) fit every frame, so
    "auto" takes them only where all frames but "raw" are the same. FrameMismatchError otherwise.
    """
    if size is not None:
        return chosen_frame(path, frames, choice, *size)
    if choice in frames:
        return frames[choice]
    usual = {name: frame for name, frame in frames.items() if name != "raw"}
    maps = {(frame.width, frame.height, frame.to_visible) for frame in usual.values()}
    if choice == "auto" and len(maps) == 1:
        return next(iter(usual.values()))
    listed = ", ".join(f"{f.name} {f.width}x{f.height}" for f in usual.values())
    if choice in ("auto", "center"):
        problem = f"its boxes are relative and say no size; they fit every frame ({listed})"
    else:
        problem = f"has no {choice} frame ({listed})"
    raise FrameMismatchError(path, problem, "say which frame with --annotation-frame")


def to_visible(labels: LabeledImage, frame: Frame) -> Affine:
    """The map from the labels' coordinates to visible sensor pixels."""
    if labels.size is None:
        return Affine.scaling(frame.width, frame.height).then(frame.to_visible)
    return frame.to_visible
