"""`validate`: the data set, its RAW files read in worker processes, and pictures to look at."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rawisp.batch.folder import enhance_folder
from rawisp.batch.run import RunOptions
from rawisp.batch.supervisor import Crew, StepPlan, Supervisor
from rawisp.batch.tasks import EnhanceSettings, ReadSettings, warm_up_kernels
from rawisp.batch.worker import Payload, Step
from rawisp.data.annotations.labels import Problem
from rawisp.data.annotations.rows import short
from rawisp.data.folder import DataSet, Sample
from rawisp.data.frames import frame_of, to_visible
from rawisp.errors import InputError, OutputError, display_path
from rawisp.geometry import Affine, Frame, clip_boxes, resize_affine
from rawisp.raw import DEFAULT_MAX_MEGAPIXELS, open_raw, read_frames

if TYPE_CHECKING:
    from PIL.Image import Image

OVERLAY_SUFFIX = ".boxes.png"
# Pixels: fits on a screen, and small boxes are still seen. Pictures of less than half are enlarged.
_LONGEST = 1000

# Okabe and Ito's colours, which the colour-blind can tell apart, lighter ones for night.
_COLORS = ("#e69f00", "#56b4e9", "#f0e442", "#00c08b", "#ff7f50", "#cc79a7", "#ffffff")


@dataclass(frozen=True)
class FramesToolbox:
    """The frames of one RAW file, and what is suspect about its picture unless `headers_only`."""

    max_megapixels: float
    headers_only: bool

    def open(self) -> dict[str, Step]:
        if not self.headers_only:
            warm_up_kernels()

        def frames(payload: Payload) -> Payload:
            path = payload["source"]
            if self.headers_only:
                found = read_frames(path, max_megapixels=self.max_megapixels)
                return {"frames": found, "suspicions": ()}
            frame = open_raw(path, max_megapixels=self.max_megapixels)
            return {"frames": frame.frames, "suspicions": frame.suspicions}

        return {"frames": frames}


@dataclass
class FramesOfFiles:
    """The frames of many RAW files, read in workers when the first is asked for.

    A file that takes its decoder down fails alone. Call it with a path: frames, or its InputError.
    headers_only: the pictures are not decoded, which is fast, and damage goes unseen. on_progress:
    gets how many of how many have been read.
    """

    paths: Sequence[str]
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
    workers: int | None = None
    timeout_s: float = 120.0
    headers_only: bool = False
    on_progress: Callable[[int, int], None] | None = None
    _suspicions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _known: dict[str, dict[str, Frame] | InputError] = field(default_factory=dict)

    def __call__(self, path: str) -> dict[str, Frame]:
        if not self._known:
            self._read()
        answer = self._known[path]
        if isinstance(answer, InputError):
            raise answer
        return answer

    def suspicions_of(self, path: str) -> tuple[str, ...]:
        """Sentences on parts of the picture that no sensor writes; the file's frames come first."""
        return self._suspicions.get(path, ())

    def _read(self) -> None:
        count = RunOptions(workers=self.workers).worker_count()
        crew = Crew("cpu", count, FramesToolbox(self.max_megapixels, self.headers_only))
        payloads = [{"source": path} for path in self.paths]
        with Supervisor([crew], [StepPlan("frames", "cpu")], self.timeout_s) as supervisor:
            for done, outcome in enumerate(supervisor.run(payloads), 1):
                if self.on_progress is not None:
                    self.on_progress(done, len(self.paths))
                path = self.paths[outcome.index]
                if outcome.error is None:
                    self._known[path] = outcome.payload["frames"]
                    self._suspicions[path] = outcome.payload["suspicions"]
                elif isinstance(outcome.error, InputError):
                    self._known[path] = outcome.error
                else:
                    raise outcome.error


def draw_overlays(
    dataset: DataSet,
    out: str | os.PathLike[str],
    count: int = 12,
    seed: int = 0,
    *,
    annotation_frame: str = "auto",
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
) -> tuple[list[str], list[Problem]]:
    """Writes PNGs of `count` photographs, chosen by `seed`, with their boxes and class names.

    Rendered by the very `enhance` with `classic`; OUT mirrors the tree of the data set, with the
    suffix ".boxes.png", and earlier files of that name are replaced. Returns the paths that were
    written, and a problem for each photograph that could not be drawn.
    """
    labeled = [sample for sample in dataset.samples if sample.labels is not None]
    chosen = random.Random(seed).sample(labeled, min(count, len(labeled)))
    chosen.sort(key=lambda sample: sample.path)
    folder = os.fspath(out)
    written: list[str] = []
    problems: list[Problem] = []
    with tempfile.TemporaryDirectory(prefix="rawisp-") as scratch:
        for sample, record in _rendered(chosen, scratch, max_megapixels):
            try:
                if record["status"] == "failed":
                    raise InputError(sample.path, record["reason"])
                picture = _overlay(sample, record, scratch, dataset.categories, annotation_frame)
            except InputError as error:
                problems.append(Problem(sample.path, "", error.reason))
                continue
            relative = os.path.splitext(os.path.relpath(sample.path, dataset.root))[0]
            written.append(os.path.join(folder, relative + OVERLAY_SUFFIX))
            _save(picture, written[-1])
    return written, problems


def _rendered(
    samples: list[Sample], scratch: str, max_megapixels: float
) -> list[tuple[Sample, dict[str, Any]]]:
    """Each with its record of `enhance`. A folder of links, since names may occur twice."""
    if not samples:
        return []
    links = os.path.join(scratch, "raw")
    os.mkdir(links)
    for number, sample in enumerate(samples):
        suffix = os.path.splitext(sample.path)[1]
        os.symlink(os.path.abspath(sample.path), os.path.join(links, f"{number:06d}{suffix}"))
    settings = EnhanceSettings(
        device="cpu", fit=(_LONGEST, _LONGEST), read=ReadSettings(max_megapixels=max_megapixels)
    )
    report = enhance_folder(links, os.path.join(scratch, "rendered"), settings)
    if report.interrupted:
        raise KeyboardInterrupt
    return list(zip(samples, report.records, strict=True))


def _overlay(
    sample: Sample,
    record: dict[str, Any],
    scratch: str,
    categories: tuple[str, ...],
    annotation_frame: str,
) -> Image:
    from PIL import Image

    labels = sample.labels
    assert labels is not None
    frames = {
        name: Frame(name, f["width"], f["height"], Affine.from_rows(f["to_visible"]))
        for name, f in record["frames"].items()
    }
    frame = frame_of(sample.path, labels, frames, annotation_frame)
    to_output = to_visible(labels, frame).then(Affine.from_rows(record["affine"]))
    with Image.open(os.path.join(scratch, "rendered", record["output"])) as rendered:
        times = max(1, _LONGEST // max(rendered.size))
        size = (rendered.width * times, rendered.height * times)
        picture = rendered.convert("RGB").resize(size, Image.Resampling.NEAREST)
        to_output = to_output.then(resize_affine(rendered.size, size))
    boxes = clip_boxes(to_output.boxes(labels.boxes), *picture.size)
    _draw(picture, boxes.tolist(), [categories[n] for n in labels.classes], labels.classes.tolist())
    return picture


def _draw(picture: Image, boxes: list[list[float]], names: list[str], classes: list[int]) -> None:
    """Rectangles with the class above them, or inside where the picture ends."""
    from PIL import ImageDraw, ImageFont

    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=13)
    for (x, y, width, height), name, number in zip(boxes, names, classes, strict=True):
        color = _COLORS[number % len(_COLORS)]
        pen.rectangle((x, y, x + width, y + height), outline=color, width=2)
        text = short(name, 40)
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        x0 = max(0.0, min(x, picture.width - (right - left) - 4))
        y0 = y - (bottom - top) - 5 if y >= bottom - top + 5 else y
        pen.rectangle((x0, y0, x0 + right - left + 4, y0 + bottom - top + 4), fill=color)
        pen.text((x0 + 2 - left, y0 + 2 - top), text, fill="black", font=font)


def _save(picture: Image, path: str) -> None:
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        picture.save(path)
    except OSError as error:
        raise OutputError(f"{display_path(path)}: cannot be written ({error.strerror})") from None
