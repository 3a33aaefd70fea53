"""`eval`: the same photographs and the same detector for every rendering; numbers side by side."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from rawisp.batch.inputs import Search
from rawisp.batch.prepare import cache_folder, check_cache, prepare
from rawisp.checkpoint.load import choose_device
from rawisp.checkpoint.metadata import DEFAULT_FIT
from rawisp.color import InputColor
from rawisp.data.folder import DataSet, find_dataset
from rawisp.data.left_out import LeftOut, left_out_of
from rawisp.data.prepared import PreparedImage
from rawisp.detect import Guide, freeze, weights_hash
from rawisp.detect.categories import category_map
from rawisp.detect.settings import GuideSettings
from rawisp.errors import InputError, NothingUsableError, UsageError, display_path
from rawisp.evaluation.attributes import Masks, by_attribute, masks_of_attributes
from rawisp.evaluation.average_precision import AveragePrecision
from rawisp.evaluation.events import EvaluationEvent, OnEvaluationEvent, Voice, ignore_evaluation
from rawisp.evaluation.intervals import ap50_interval
from rawisp.evaluation.matches import matched, pairs_of, scored
from rawisp.evaluation.renderings import Rendering, Wanted, load_renderings
from rawisp.evaluation.run import Evaluation, evaluate_rendering
from rawisp.evaluation.scope import Scope, scope_of
from rawisp.extras import install_advice
from rawisp.geometry import Fit, check_fit
from rawisp.version import __version__

NAN = float("nan")
Path = str | os.PathLike[str]
Split = Literal["test", "val", "train", "all"]


@dataclass(frozen=True)
class Row:
    """One rendering's numbers, each 0 to 1, NaN where there are no boxes.

    precision: COCO's. interval: of AP50, 95 %, over images. by_class, by_attribute: {name: {"ap",
    "ap50", "ap75", "ar", "boxes"}}. render_s, detect_s: mean seconds per image. error: why there
    are no numbers, "" where there are.
    """

    name: str
    isp: str
    input_color: str
    sha256: str | None
    precision: AveragePrecision
    interval: tuple[float, float]
    by_class: dict[str, dict[str, float]] = field(default_factory=dict)
    by_attribute: dict[str, dict[str, float]] = field(default_factory=dict)
    render_s: float = NAN
    detect_s: float = NAN
    error: str = ""


@dataclass(frozen=True)
class Comparison:
    """Renderings of the same photographs under the same detector.

    split: "test", "val", "train" or "all". fit: limits of the (long, short) side at which all were
    evaluated, None for full size. boxes: to be found; ignored: crowds and difficult ones. failed:
    photographs that could not be used, by any rendering. categories: evaluated, those of one label
    as one. left_out: {class that the detector does not know: its boxes}. provenance: data,
    detector and its hash, versions. photographs: how many are used, and which are not, by reason.
    """

    rows: list[Row]
    split: str
    fit: Fit | None
    images: int
    boxes: int
    ignored: int
    failed: int
    categories: tuple[str, ...]
    left_out: dict[str, int]
    provenance: dict[str, Any]
    notes: tuple[str, ...] = ()
    photographs: LeftOut = field(default_factory=LeftOut)


def evaluate(
    data: Path,
    renderings: Sequence[Wanted] | Wanted,
    detector: str | GuideSettings | Guide,
    *,
    annotations: Sequence[Path] | Path = (),
    annotation_frame: str = "auto",
    split: Split | None = None,
    val: float | None = None,
    seed: int = 0,
    fit: Fit | Literal["checkpoint"] | None = "checkpoint",
    cache: Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    input_color: InputColor | None = None,
    safe: bool = False,
    search: Search | None = None,
    on_event: OnEvaluationEvent = ignore_evaluation,
) -> Comparison:
    """COCO's average precision of each rendering under one detector.

    Parameters
    ----------
    data, annotations, annotation_frame : as `find_dataset` and `rawisp train` take them.
    renderings : names of ISPs without parameters and checkpoints, in the order of the table.
    detector : a name or "module:factory", settings, or a guide that is ready.
    split : the photographs; by default "test" if the data have it, else "val", else "all".
    val, seed : hold photographs out as `rawisp train` did with the same numbers.
    fit : the size for all renderings; by default the first checkpoint's, else 1333x800.
    cache : where packed images are kept, by default below the user's cache folder.
    input_color : of checkpoints that do not say. safe : accept only those that are safe to open.
    search : what of the folder is passed over, and whether links are followed.

    A rendering that fails has a row that says so. Raises UsageError and its kind before any work,
    NothingUsableError when no photograph can be used,
    KeyboardInterrupt when interrupted: what was packed stays in the cache.
    """
    _counting_required()
    voice = Voice(on_event)
    where = choose_device(device)
    folder = os.fspath(cache) if cache is not None else cache_folder(data)
    check_cache(folder)
    found = find_dataset(data, annotations, val=val, seed=seed, search=search)
    shown = load_renderings(
        renderings, where, input_color=input_color, safe=safe, on_note=voice.note
    )
    guide, about = _guide(detector, where)  # which may download its weights
    for text in guide.notes:
        voice.note(text, keep=True)
    size = _common_fit(shown, fit, voice)
    _note_partners(shown, about["detector_sha256"], voice)
    voice.notes_on(found)
    chosen, name = chosen_split(found, split, voice)
    _note_overlap(shown, data, name, (val or 0.0, seed), voice)
    categories = category_map(chosen.categories, guide, chosen.unused)
    colors = list(dict.fromkeys(one.input_color for one in shown))
    images, left_out = _prepared(chosen, folder, colors, size, annotation_frame, workers, voice)
    scope = scope_of(images, categories, voice)
    bench = _Bench(guide, scope, masks_of_attributes(scope.images[colors[0]]), where, voice)
    return Comparison(
        rows=[bench.row(one, number, len(shown)) for number, one in enumerate(shown)],
        split=name,
        fit=size,
        images=scope.count,
        boxes=scope.boxes,
        ignored=scope.ignored,
        failed=len(chosen.samples) - scope.count,
        categories=scope.categories.categories,
        left_out=scope.left_out,
        provenance={
            "data": os.path.basename(os.path.realpath(data)),
            **about,
            **versions(),
            "device": _device_name(where),
        },
        notes=tuple(voice.notes),
        photographs=left_out,
    )


def _note_overlap(
    renderings: Sequence[Rendering],
    data: Path,
    split: str,
    held_out: tuple[float, int],
    voice: Voice,
) -> None:
    """Says which checkpoints were trained on photographs that they are measured on here.

    Data sets are told apart by the names of their folders alone, which is all that checkpoints say.
    """
    here = os.path.basename(os.path.realpath(data))
    for one in renderings:
        if one.trained is None or one.trained["data"] != here:
            continue
        val, seed = one.trained["val"], one.trained["seed"]
        if split == "test" or (split == "val" and (not val or (val, seed) == held_out)):
            continue
        advice = f"; its held-out part is --val {val:g} --seed {seed}" if val else ""
        text = f"{one.name} was trained on photographs of {here} that are measured on here{advice}"
        voice.note(text, keep=True)


def _note_partners(renderings: Sequence[Rendering], detector_sha256: str, voice: Voice) -> None:
    """Says which checkpoints are measured without the detector that learned along with them."""
    for one in renderings:
        partner = one.partner
        if partner is None or partner["sha256"] == detector_sha256:
            continue
        text = (
            f"{one.name} was trained together with its detector and is measured under another "
            f"one, which does not show what both learned; for that add --detector "
            f"{partner['detector']} --detector-weights {display_path(partner['file'])}"
        )
        if partner.get("size"):
            text += f" --detector-size {partner['size'][0]}x{partner['size'][1]}"
        voice.note(text, keep=True)


def chosen_split(dataset: DataSet, split: Split | None, voice: Voice) -> tuple[DataSet, str]:
    """(the data set reduced to the split, its name). UsageError when it has no photographs."""
    present = [one for one in ("test", "val", "train") if dataset.split(one)]
    name: str = split or next((one for one in present if one != "train"), "all")
    samples = dataset.samples if name == "all" else dataset.split(name)
    if not samples:
        listed = ", ".join(present) or "no split"
        raise UsageError(
            f"{display_path(dataset.root)}: has no annotated photographs in {name}; it has {listed}"
        )
    why = {"val": "there is no test split", "all": "there is neither a test nor a val split"}
    if split is None and name in why:
        voice.note(f"split {name}, because {why[name]}", keep=True)
    return replace(dataset, samples=tuple(samples)), name


def _prepared(
    dataset: DataSet,
    folder: str,
    colors: Sequence[InputColor],
    fit: Fit | None,
    annotation_frame: str,
    workers: int | None,
    voice: Voice,
) -> tuple[dict[str, list[PreparedImage]], LeftOut]:
    """The photographs in each input colour, and what is not among them.

    Only those are used that could be packed in all colours.
    """
    by_color = {}
    failures: dict[str, str] = {}
    suspects: dict[str, str] = {}
    for color in colors:
        prepared = prepare(
            dataset,
            folder,
            color=color,
            fit=fit,
            annotation_frame=annotation_frame,
            workers=workers,
            on_event=voice.packing(color),
        )
        failures |= prepared.failures
        suspects |= prepared.suspects
        by_color[color] = {one.source: one for part in prepared.images.values() for one in part}
    usable = [s.path for s in dataset.samples if all(s.path in by for by in by_color.values())]
    if not usable:
        raise NothingUsableError(
            f"{display_path(dataset.root)}: none of its {len(dataset.samples)} photographs can be "
            "used; see rawisp validate"
        )
    left_out = left_out_of(
        len(usable), dataset.left_out, dataset.named(failures), dataset.named(suspects)
    )
    say = voice.failure if left_out.must_be_said else voice.note
    say(str(left_out), keep=bool(left_out.groups or left_out.suspects))
    return {color: [by[path] for path in usable] for color, by in by_color.items()}, left_out


@dataclass(frozen=True)
class _Bench:
    """What all renderings meet alike."""

    guide: Guide
    scope: Scope
    masks: dict[str, Masks]
    device: torch.device
    voice: Voice

    def row(self, rendering: Rendering, number: int, count: int) -> Row:
        """Everything about one rendering; it is `number` of `count`, for the progress."""
        error = ""
        try:
            result = self._result(rendering, number, count)
        except InputError as failure:
            error = failure.reason
        except (torch.OutOfMemoryError, MemoryError):
            error = "the detector ran out of memory; scale down with --fit"
        row = _failed(rendering, error) if error else self._counted(rendering, result)
        if error:
            self.voice.note(f"{rendering.name}: {error}", keep=True)
        self.voice.say(EvaluationEvent("row", rendering.name, done=number + 1, total=count))
        return row

    def _result(self, rendering: Rendering, number: int, count: int) -> Evaluation:
        images = self.scope.images[rendering.input_color]
        total = count * len(images)

        def progress(done: int) -> None:
            at = number * len(images) + done
            self.voice.say(EvaluationEvent("progress", rendering.name, "evaluating", at, total))

        categories, device = self.scope.categories, self.device
        # The first image of all takes longer, and is not timed.
        evaluate_rendering(rendering, self.guide, images[:1], categories, device)
        return evaluate_rendering(rendering, self.guide, images, categories, device, progress)

    def _counted(self, rendering: Rendering, result: Evaluation) -> Row:
        names = self.scope.categories.categories
        pairs = pairs_of(result.truths, result.found, len(names))
        matches = [matched(one, self.scope.count) for one in pairs]
        by_class = {name: scored([one]) for name, one in zip(names, matches, strict=True)}
        return Row(
            rendering.name,
            rendering.isp,
            rendering.input_color,
            rendering.sha256,
            result.precision,
            ap50_interval(matches),
            {name: row for name, row in by_class.items() if row["boxes"]},
            by_attribute(result.truths, pairs, self.masks),
            result.render_s,
            result.detect_s,
        )


def _failed(rendering: Rendering, error: str) -> Row:
    nothing = AveragePrecision(NAN, NAN, NAN, NAN)
    about = rendering.name, rendering.isp, rendering.input_color, rendering.sha256
    return Row(*about, nothing, (NAN, NAN), error=error)


def _guide(
    detector: str | GuideSettings | Guide, device: torch.device
) -> tuple[Guide, dict[str, Any]]:
    """The detector on its device, frozen, and what to remember of it."""
    settings = GuideSettings(detector) if isinstance(detector, str) else detector
    guide = settings if isinstance(settings, Guide) else settings.create()
    freeze(guide)
    about: dict[str, Any] = {"detector": type(guide).__name__}
    if isinstance(settings, GuideSettings):
        about["detector"] = settings.name
        about["detector_size"] = settings.size
    about["detector_sha256"] = weights_hash(guide)
    return guide.to(device), about


def _common_fit(
    renderings: Sequence[Rendering], fit: Fit | Literal["checkpoint"] | None, voice: Voice
) -> Fit | None:
    """The size for all: boxes and detector then meet the same conditions in every row."""
    meant = [(one.name, one.fit) for one in renderings if one.fit != "any"]
    trained = [(one.name, one.trained_at) for one in renderings if one.trained_at != "any"]
    whose = ""
    if fit == "checkpoint":
        fit = meant[0][1] if meant else DEFAULT_FIT
        whose = f", as {meant[0][0]} is meant to be used" if meant else ""
    elif fit is not None:
        check_fit(fit)
    size = None if fit is None else (max(fit), min(fit))
    voice.note(f"all renderings at {fit_text(size)}{whose}")
    for name, own in trained:
        if own != size:
            text = f"{name} was trained at {fit_text(own)}, not at {fit_text(size)}"
            voice.note(text, keep=True)
    return size


def fit_text(fit: Fit | None) -> str:
    """ "1333x800" or "full size"."""
    return "full size" if fit is None else f"{fit[0]}x{fit[1]}"


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"rawisp": __version__}
    for name in ("torch", "torchvision", "faster-coco-eval"):
        with contextlib.suppress(PackageNotFoundError):  # torchvision, with a guide of one's own
            found[name] = version(name)
    return found


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _counting_required() -> None:
    try:
        import faster_coco_eval  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"average precision needs faster-coco-eval ({error}); {install_advice('train')}"
        ) from None
