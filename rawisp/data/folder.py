"""A folder of RAW files and its annotations, as they are -> photographs to train or test on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rawisp.data.annotations.coco_labels import read_coco_labels
from rawisp.data.annotations.formats import Kinds, reader_of
from rawisp.data.annotations.labels import (
    LabeledImage,
    LabelSet,
    Problem,
    folded,
    located,
    name_of,
    name_of_label,
    stems_of,
)
from rawisp.data.annotations.rows import Classes, short
from rawisp.data.annotations.voc import read_voc
from rawisp.data.annotations.yolo import read_yolo
from rawisp.data.left_out import Group
from rawisp.data.matching import match_names, renamed_by_export
from rawisp.data.splits import SPLITS, chosen_for_validation, split_of_file, splits_by_lists
from rawisp.errors import AnnotationError, UsageError, display_path
from rawisp.raw import RAW_SUFFIXES
from rawisp.raw.files import Search, find_sources, nothing_found, suffix_of

Path = str | os.PathLike[str]

_UNLISTED = "is a folder that cannot be listed"


@dataclass(frozen=True)
class Sample:
    """One photograph: the RAW file, its boxes (None: no annotation file speaks of it), its split.

    labels.classes index `DataSet.categories`. split: "train", "val", "test", or None where nothing
    says.
    """

    path: str
    labels: LabeledImage | None
    split: str | None = None


@dataclass(frozen=True)
class DataSet:
    """What `find_dataset` found.

    categories: class names by index, in the order of the annotation files, merged over them by
    name, so that the numbers are the files' own. unused: those of them that no box uses.
    annotations: the files or folders that were read, with their format. notes: sentences on what
    was chosen and passed over. problems: see `Problem`. files_without_entry: RAW files that no
    annotation file speaks of; entries_without_file: the reverse. left_out: both, and folders that
    cannot be listed, by reason.
    """

    root: str
    categories: tuple[str, ...]
    samples: tuple[Sample, ...]
    annotations: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    files_without_entry: int = 0
    entries_without_file: int = 0
    left_out: tuple[Group, ...] = ()

    def named(self, said: Mapping[str, str]) -> dict[str, str]:
        """What is said of files by path, by the names that they have below the root."""
        return {os.path.relpath(path, self.root): text for path, text in said.items()}

    def split(self, name: str) -> tuple[Sample, ...]:
        """The photographs of one split."""
        return tuple(sample for sample in self.samples if sample.split == name)


def find_dataset(
    data: Path,
    annotations: Sequence[Path] | Path = (),
    *,
    lists: Sequence[Path] | Path = (),
    val: float | None = None,
    seed: int = 0,
    negatives: bool = True,
    unannotated: bool = False,
    keep_unused: bool = True,
    search: Search | None = None,
) -> DataSet:
    """The annotated photographs below the folder `data`.

    Parameters
    ----------
    annotations : COCO .json, VOC .xml or folders of them, YOLO data.yaml or folders of .txt.
        Without any, those in the folder are found: COCO if there is any, else VOC, else YOLO.
    lists : text files with a name in each line, whose own names say train, val or test. They go
        before what annotation files say of splits.
    val : the share of the training photographs that becomes "val", chosen by each name's hash with
        `seed`, so that it stays when photographs are added.
    negatives : keep photographs that are annotated as showing nothing.
    unannotated : keep RAW files without an entry, with labels None.
    keep_unused : keep categories that no box uses; without them the others' numbers change.
    search : what is passed over, and whether links to folders are followed; also in the search for
        annotation files.

    Raises
    ------
    NothingToDoError, UsageError, AnnotationError
        No RAW file; options that contradict each other; annotations that are missing, cannot be
        read, or fit two photographs equally well.
    """
    root = os.fspath(data)
    if not os.path.isdir(root):
        raise UsageError(f"{display_path(root)}: is no folder; name the folder of RAW files")
    finder = _Finder(root, search or Search())
    sets = finder.read(_listed(annotations))
    unused = _unused(sets)
    names = Classes(name for one in sets for name in one.categories).names
    categories = names if keep_unused else tuple(name for name in names if name not in unused)
    labels = finder.matched(sets, categories)
    samples = [
        Sample(path, labels.get(number), one.split if (one := labels.get(number)) else None)
        for number, path in enumerate(finder.paths)
        if unannotated or (number in labels and (negatives or len(labels[number].boxes)))
    ]
    samples = _by_lists(samples, root, _listed(lists), finder.problems)
    if val is not None:
        samples = _with_validation(samples, root, val, seed)
    return DataSet(
        root=root,
        categories=categories,
        samples=tuple(samples),
        annotations=tuple((one.path, one.format) for one in sets),
        unused=unused,
        problems=(
            *(problem for one in sets for problem in one.problems),
            *_unused_problems(sets, unused),
            *finder.problems,
        ),
        notes=(*finder.notes, *_unnamed(sets), *(note for one in sets for note in one.notes)),
        files_without_entry=len(finder.paths) - len(labels),
        entries_without_file=finder.entries_without_file,
        left_out=tuple(finder.left_out(labels, unannotated)),
    )


def _unnamed(sets: Sequence[LabelSet]) -> list[str]:
    """A sentence for each folder of numbers without names, which no detector would know."""
    return [
        f"{display_path(one.path)}: nothing names its classes, so their numbers are their names, "
        "which no detector knows; put classes.txt or data.yaml beside them"
        for one in sets
        if one.format == "YOLO" and one.categories and all(n.isdigit() for n in one.categories)
    ]


class _Finder:
    """The RAW files of a folder, and what is said while annotations are sought for them."""

    def __init__(self, root: str, search: Search) -> None:
        found = find_sources([root], RAW_SUFFIXES, search=search)
        usable = [source for source in found.sources if suffix_of(source.path) in RAW_SUFFIXES]
        if not usable:
            raise nothing_found([root], found, "camera RAW")
        self.root, self.search, self.links = root, search, found.links
        self.paths = [source.path for source in usable]
        self.names = [name_of(source.relative) for source in usable]
        self.problems = [
            Problem(source.path, "", _UNLISTED)
            for source in found.sources
            if suffix_of(source.path) not in RAW_SUFFIXES
        ]
        self.notes = found.notes()
        self.missing: list[str] = []  # names of entries without a file

    @property
    def entries_without_file(self) -> int:
        """How many entries have no RAW file here."""
        return len(self.missing)

    def left_out(self, labels: Mapping[int, LabeledImage], unannotated: bool) -> Iterator[Group]:
        """What is no part of the set, by reason."""
        if bad := [p for p in self.problems if p.what == _UNLISTED]:
            yield Group(_UNLISTED, len(bad), os.path.relpath(bad[0].file, self.root), failed=True)
        silent = [path for number, path in enumerate(self.paths) if number not in labels]
        if silent and not unannotated:
            first = os.path.relpath(silent[0], self.root)
            yield Group("has no usable entry in the annotations", len(silent), first)
        if self.missing:
            link = f"; {display_path(self.links[0])} is a link, not followed" if self.links else ""
            yield Group(
                f"annotated, but no RAW file here{link}", len(self.missing), self.missing[0]
            )

    def read(self, annotations: list[str]) -> list[LabelSet]:
        """The label sets that are named, or those that lie in the folder."""
        if annotations:
            return [reader_of(path)(path, root=self.root) for path in annotations]
        kinds = Kinds(self.root, self.search)
        sets = self._found(kinds)
        if not sets:
            seen = ", ".join(display_path(os.path.basename(path)) for path in kinds.other[:3])
            raise AnnotationError(
                f"{display_path(self.root)}: holds no annotations that are COCO, VOC or YOLO"
                + (f" ({seen} is none)" if seen else "")
                + "; name them with --annotations"
            )
        listed = ", ".join(display_path(one.path) for one in sets[:4])
        more = f" and {len(sets) - 4} more" if len(sets) > 4 else ""
        self.notes.append(f"{sets[0].format} annotations found: {listed}{more}")
        return sets

    def _found(self, kinds: Kinds) -> list[LabelSet]:
        root = self.root
        stems = frozenset(folded(os.path.basename(name)) for name in self.names)
        texts = [t for t in kinds.texts if _is_of(t, stems)]
        present = {"COCO": kinds.coco, "VOC": kinds.voc, "YOLO": kinds.yaml or texts}
        formats = [name for name, paths in present.items() if paths]
        for name in formats[1:]:
            first = display_path(present[name][0])
            self.notes.append(f"{name} annotations are there too ({first}, ...) and passed over")
        if kinds.siblings:
            listed = ", ".join(display_path(path) for path in kinds.siblings[:3])
            self.notes.append(f"{listed}: holds no objects of its own; passed over")
        for path in kinds.ours:
            self.notes.append(f"{display_path(path)} is in pixels of rawisp's outputs; passed over")
        if kinds.coco:
            return [read_coco_labels(path, root=root) for path in kinds.coco]
        if kinds.voc:
            return [read_voc(root, root=root, search=self.search)]
        if kinds.yaml:
            return [read_yolo(path, root=root, search=self.search) for path in kinds.yaml]
        return [read_yolo(root, root=root, stems=stems, search=self.search)] if texts else []

    def matched(self, sets: list[LabelSet], categories: tuple[str, ...]) -> dict[int, LabeledImage]:
        """Labels by number of the RAW file, classes renumbered to `categories`."""
        merged: dict[int, LabeledImage] = {}
        for one in sets:
            named_split = split_of_file(one.path, self.root) if one.format == "COCO" else None
            matched = self._matched_in(one)
            numbers = _numbers(one.categories, categories)
            repeated = 0
            for number, entry in matched.items():
                image = one.images[entry]
                split = image.split or named_split
                image = replace(image, classes=numbers[image.classes], split=split)
                other = merged.get(number)
                repeated += other is not None
                merged[number] = image if other is None else self._same(number, other, image)
            if repeated:
                self.notes.append(f"{display_path(one.path)}: repeats {repeated} photographs")
        if not merged and any(one.images for one in sets):
            first = next(one for one in sets if one.images)
            raise AnnotationError(
                f"{display_path(first.path)}: none of its {len(first.images)} photographs is "
                f"called like a RAW file in {display_path(self.root)} "
                f"({short(first.images[0].name)}, ... against {short(self.names[0])}, ...)"
            )
        return merged

    def _matched_in(self, one: LabelSet) -> dict[int, int]:
        folder = os.path.relpath(os.path.dirname(os.path.abspath(one.path)), self.root)
        inside = one.format == "COCO" and folder != "." and not folder.startswith("..")
        names = [image.name for image in one.images]
        matched = match_names(
            names,
            self.names,
            described=[_described(image) for image in one.images],
            prefix=folder.replace(os.sep, "/") if inside else "",
            entry_suffixes=[image.suffix for image in one.images],
            file_suffixes=[suffix_of(path) for path in self.paths],
            roots=[self.root] * len(self.paths),
            other_names=[image.other_names for image in one.images],
        )
        if renamed := renamed_by_export(matched, names, self.names):
            exported, file = map(short, renamed[0])
            self.notes.append(
                f"{display_path(one.path)}: {len(renamed)} names are an export's, and matched "
                f"without its marks, the first: {exported} is {file}"
            )
        missing = sorted(set(range(len(one.images))) - set(matched.values()))
        if missing:
            self.missing += [one.images[entry].name for entry in missing]
            first = short(one.images[missing[0]].name)
            what = f"{len(missing)} of {len(one.images)} photographs have no RAW file here ({first}"
            what += ", ...)" if len(missing) > 1 else ")"
            self.problems.append(Problem(one.path, "", what, mended=bool(matched)))
        return matched

    def _same(self, number: int, one: LabeledImage, other: LabeledImage) -> LabeledImage:
        """Two files may speak of a photograph if they say the same."""
        name = display_path(self.paths[number])
        if one.split and other.split and one.split != other.split:
            raise AnnotationError(
                f"{name}: is in {one.split} by {_described(one)} and in {other.split} by "
                f"{_described(other)}; name the right files with --annotations"
            )
        same = one.size == other.size and one.boxes.shape == other.boxes.shape
        if not same or not _sorted_rows(one) == _sorted_rows(other):
            raise AnnotationError(
                f"{name}: {_described(one)} and {_described(other)} have different boxes for it; "
                "name the right files with --annotations"
            )
        return one if one.split else other


def _is_of(text: str, stems: frozenset[str]) -> bool:
    """Whether a label file is called like one of the photographs, also as a tool exports it."""
    return any(folded(stem) in stems for stem in stems_of(name_of_label(os.path.basename(text))))


def _listed(paths: Sequence[Path] | Path) -> list[str]:
    if isinstance(paths, str | os.PathLike):
        return [os.fspath(paths)]
    return [os.fspath(path) for path in paths]


def _described(image: LabeledImage) -> str:
    return located(image.file, image.place)


def _sorted_rows(image: LabeledImage) -> list[tuple[float, ...]]:
    return sorted(
        (int(c), *box) for c, box in zip(image.classes, image.boxes.tolist(), strict=True)
    )


def _unused(sets: list[LabelSet]) -> tuple[str, ...]:
    """Names that are listed and that no box of any set uses."""
    used = {one.categories[n] for one in sets for image in one.images for n in set(image.classes)}
    listed = Classes(name for one in sets for name in one.categories).names
    return tuple(name for name in listed if name not in used)


def _unused_problems(sets: list[LabelSet], unused: tuple[str, ...]) -> Iterator[Problem]:
    for one in sets:
        names = [name for name in one.categories if name in unused]
        if names:
            what = f"{len(names)} of {len(one.categories)} classes are used by no box ("
            what += f"{short(', '.join(names))})"
            yield Problem(one.path, "categories", what, mended=True)


def _numbers(before: tuple[str, ...], after: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """The new number of each old one; -1 for names that are gone."""
    index_of = {name: number for number, name in enumerate(after)}
    return np.array([index_of.get(name, -1) for name in before], dtype=np.int64)


def _by_lists(
    samples: list[Sample], root: str, lists: list[str], problems: list[Problem]
) -> list[Sample]:
    if not lists:  # where VOC keeps them
        folder = os.path.join(root, "ImageSets", "Main")
        names = [os.path.join(folder, f"{split}.txt") for split in SPLITS]
        lists = [name for name in names if os.path.isfile(name)]
    if not lists:
        return samples
    split_of, said = splits_by_lists(lists, _names(samples, root))
    problems += said
    if not split_of:
        what = "none of its names is an annotated RAW file's"
        raise AnnotationError(f"{display_path(lists[0])}: {what}")
    return [replace(s, split=split_of[n]) for n, s in enumerate(samples) if n in split_of]


def _with_validation(samples: list[Sample], root: str, val: float, seed: int) -> list[Sample]:
    if any(sample.split == "val" for sample in samples):
        raise UsageError("--val divides what has no validation photographs yet; here some are")
    training = [n for n, sample in enumerate(samples) if sample.split in (None, "train")]
    names = _names([samples[n] for n in training], root)
    chosen = {training[n] for n in chosen_for_validation(names, val, seed)}
    return [
        replace(s, split="val" if n in chosen else s.split or "train")
        for n, s in enumerate(samples)
    ]


def _names(samples: list[Sample], root: str) -> list[str]:
    return [name_of(os.path.relpath(sample.path, root)) for sample in samples]
