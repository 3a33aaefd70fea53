"""Everything that is wrong with a data set, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rawisp.data.annotations.labels import LabeledImage, Problem
from rawisp.data.annotations.rows import short
from rawisp.data.folder import DataSet, Sample
from rawisp.data.frames import frame_of
from rawisp.errors import FrameMismatchError, InputError, display_path
from rawisp.geometry import Frame
from rawisp.raw import read_frames

DUPLICATE_IOU = 0.95
# Of two boxes that overlap so much, the second begins within this share of the first one's width.
_REACH = 1 - DUPLICATE_IOU


def validate(
    dataset: DataSet,
    *,
    frames_of: Callable[[str], dict[str, Frame]] = read_frames,
    suspicions_of: Callable[[str], Sequence[str]] = lambda _: (),
    annotation_frame: str = "auto",
) -> list[Problem]:
    """What was found while reading, RAW files that cannot be opened or lack the frame, duplicates.

    frames_of: the frames of a RAW file, or its InputError (default: from the file's header).
    suspicions_of: sentences on its damage, asked for after its frames (default: none, since a
    header does not show it). annotation_frame: as `rawisp.data.frames.frame_of`.
    """
    problems = list(dataset.problems)
    for sample in dataset.samples:
        problems += _of_file(sample, frames_of, annotation_frame)
        damage = suspicions_of(sample.path)
        problems += [Problem(sample.path, "", f"looks damaged: {text}") for text in damage]
        if sample.labels is not None:
            problems += _duplicates(sample.labels, dataset.categories)
    return problems


def counts(dataset: DataSet, problems: list[Problem]) -> dict[str, Any]:
    """What the data set holds, as plain JSON values."""
    labels = [sample.labels for sample in dataset.samples if sample.labels is not None]
    boxes = Counter(int(number) for one in labels for number in one.classes)
    return {
        "photographs": len(dataset.samples),
        "splits": dict(Counter(sample.split or "none" for sample in dataset.samples)),
        "negatives": sum(not len(one.boxes) for one in labels),
        "boxes": sum(boxes.values()),
        "classes": {name: boxes[number] for number, name in enumerate(dataset.categories)},
        "files_without_entry": dataset.files_without_entry,
        "entries_without_file": dataset.entries_without_file,
        "problems": sum(not problem.mended for problem in problems),
        "mended": sum(problem.mended for problem in problems),
    }


def _of_file(
    sample: Sample, frames_of: Callable[[str], dict[str, Frame]], annotation_frame: str
) -> Iterator[Problem]:
    try:
        frames = frames_of(sample.path)
        if sample.labels is not None:
            frame_of(sample.path, sample.labels, frames, annotation_frame)
    except FrameMismatchError as error:
        assert sample.labels is not None
        what = f"{display_path(sample.path)}: {error.reason}"
        yield Problem(sample.labels.file, sample.labels.place, what)
    except InputError as error:
        yield Problem(sample.path, "", error.reason)


def _duplicates(labels: LabeledImage, categories: tuple[str, ...]) -> Iterator[Problem]:
    """Pairs of one class whose intersection over union is above DUPLICATE_IOU."""
    order = np.argsort(labels.boxes[:, 0], kind="stable")
    boxes, classes = labels.boxes[order], labels.classes[order]
    ends = np.searchsorted(boxes[:, 0], boxes[:, 0] + _REACH * boxes[:, 2], side="right")
    for first, end in enumerate(ends):
        others = np.arange(first + 1, end)
        others = others[classes[others] == classes[first]]
        overlaps = _iou(boxes[first], boxes[others])
        for second, overlap in zip(others, overlaps, strict=True):
            if overlap > DUPLICATE_IOU:
                earlier, later = sorted((int(order[first]), int(order[second])))
                yield Problem(
                    labels.file,
                    labels.where[later],
                    f"a {short(categories[classes[first]])} much like the one at "
                    f"{labels.where[earlier]} (IoU {overlap:.3f})",
                )


def _iou(box: Any, others: Any) -> Any:
    """Intersection over union of one x, y, width, height with many."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    common = np.prod(np.clip(high - low, 0.0, None), axis=1)
    return common / (np.prod(box[2:]) + np.prod(others[:, 2:], axis=1) - common)
