"""`--annotations` of `enhance` and `synth`: boxes come out in the pixels of the outputs.

OUT's annotations describe all pictures in OUT. A run adds what its annotation files say of its own
outputs, and of those of earlier runs that no input is left of, and writes them anew.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from rawisp.batch.events import FINISHED, Event, OnEvent, RunReport
from rawisp.batch.inputs import Source
from rawisp.batch.label_files import (
    FORMATS,
    SINGLE_NAME,
    coco_targets,
    fixed_targets,
    label_paths,
    made_from,
    store_of_older_version,
    write_annotations,
)
from rawisp.batch.label_matching import matched_entries, renamed
from rawisp.batch.label_plan import (
    AnnotationFile,
    Planned,
    Words,
    names_in_out,
    planned_before,
)
from rawisp.batch.label_store import Label, LabelStore, read_label_store
from rawisp.batch.lock import output_folder_lock
from rawisp.batch.manifest import FILE_NAME, iterate_manifest
from rawisp.batch.placing import placement
from rawisp.data.annotations.entries import Annotations, Entry, read_entries
from rawisp.data.annotations.grouping import dropped_shapes
from rawisp.data.annotations.labels import said_of
from rawisp.data.annotations.moving import COUNTED, MovedImage, moved
from rawisp.errors import AnnotationError, InputError, OutputError, UsageError, display_path
from rawisp.geometry import Affine

Record = dict[str, Any]


class RunLabels:
    """The annotation files of one run, and what earlier runs left in OUT.

    Made before any work: AnnotationError for a file that cannot be read, of which no entry fits
    anything, or of which one entry fits two; OutputError when what is not ours would be lost.
    """

    def __init__(
        self,
        folder: str,
        given: Sequence[Annotations],
        sources: Sequence[Source],
        *,
        frame: str = "auto",
        written_as: str | None = None,
        overwrite: bool = False,
        words: Words | None = None,
    ) -> None:
        if written_as is not None and written_as not in FORMATS:
            raise UsageError(f"annotations format {written_as!r} is none of {', '.join(FORMATS)}")
        if written_as is not None and not given:
            raise UsageError("--annotations-format needs --annotations")
        self._folder = folder
        self._frame = frame
        self._overwrite = overwrite
        self._words = words or Words()
        self._sources = sources
        self._planned: list[Planned] = []
        self._kept = False
        self._before = read_label_store(folder) or store_of_older_version(folder)
        self._formats = {written_as} if written_as else {a.origin.format.lower() for a in given}
        names = names_in_out([one.origin.path for one in given], self._before or LabelStore())
        self.files = [AnnotationFile(*pair) for pair in zip(names, given, strict=True)]
        self._check_targets()
        self._match()

    # Matching

    def _match(self) -> None:
        for file in self.files:
            labels = file.annotations.labels
            found = matched_entries(labels, self._sources)
            file.renamed = renamed(found, labels, self._sources)
            file.of_source = {self._sources[n].path: entry for n, entry in found.items()}
        earlier = self._earlier() if self.files else []
        for file in self.files:
            self._match_earlier(file, earlier)
            self._check_matched(file)

    def _match_earlier(self, file: AnnotationFile, earlier: list[Planned]) -> None:
        """Entries of outputs that earlier runs left; none where two fit equally well."""
        sources = list({one.source.path: one.source for one in earlier}.values())
        taken = set(file.of_source.values())
        try:
            found = matched_entries(file.annotations.labels, sources, taken=taken)
        except AnnotationError:
            return  # they keep what they have
        entry_of = {sources[n].path: entry for n, entry in found.items()}
        file.of_earlier = [
            (one, entry_of[one.source.path]) for one in earlier if one.source.path in entry_of
        ]

    def _earlier(self) -> list[Planned]:
        """Outputs that are there and were made from none of the inputs."""
        own = {os.path.abspath(source.path) for source in self._sources}
        return [
            planned_before(record)
            for record in _records(self._folder)
            if record["status"] in FINISHED and os.path.abspath(record["source"]) not in own
        ]

    def _check_matched(self, file: AnnotationFile) -> None:
        images = file.annotations.labels.images
        if images and not file.of_source and not file.of_earlier:
            raise AnnotationError(
                f"{file.shown}: none of its {len(images)} images is called like any "
                f"{self._words.inputs.removesuffix('s')} ({images[0].name!r}, ... against "
                f"{display_path(self._sources[0].relative)!r}, ...)"
            )

    # What must not be lost

    def _check_targets(self) -> None:
        if not self.files:
            return
        before = self._before or LabelStore()
        names = [file.name for file in self.files]
        targets = self._targets(before)
        read = {os.path.realpath(file.annotations.labels.path) for file in self.files}
        read |= {
            os.path.realpath(one.file) for f in self.files for one in f.annotations.labels.images
        }
        known = before.files_with_labels()
        for target in targets.values() if "coco" in self._formats else ():
            path = os.path.join(self._folder, target)
            self._check_not_read(path, read)
            if not self._overwrite and os.path.lexists(path) and made_from(path) is None:
                raise _not_ours(path)
        if not self._overwrite and len(known) == 1 == len(names) and known != names:
            raise self._holds_others(before, known[0], names[0])
        self._check_not_ours(before, read)

    def _holds_others(self, before: LabelStore, known: str, name: str) -> OutputError:
        origin = before.origins[known].path
        path = os.path.join(self._folder, SINGLE_NAME)
        path = path if os.path.lexists(path) else self._folder or "."
        shown = display_path(origin if os.path.basename(known) == os.path.basename(name) else known)
        return OutputError(
            f"{display_path(path)}: holds the boxes of {shown}; give all annotation files in one "
            "command (--annotations A --annotations B), choose another -o, or --overwrite"
        )

    def _check_not_ours(self, before: LabelStore, read: set[str]) -> None:
        """Folders and lists of YOLO and VOC that somebody else made."""
        for kind in sorted(self._formats):
            for name in fixed_targets(kind):
                path = os.path.join(self._folder, name)
                self._check_not_read(path, read)
                if os.path.lexists(path) and kind not in before.formats and not self._overwrite:
                    raise _not_ours(path)

    def _check_not_read(self, path: str, read: set[str]) -> None:
        """--overwrite does not help against this."""
        real = os.path.realpath(path)
        if real in read or (os.path.isdir(path) and any(r.startswith(f"{real}/") for r in read)):
            raise OutputError(
                f"{display_path(path)}: holds the annotations that are read and would be "
                "overwritten by the run's own; choose another -o"
            )

    def _targets(self, store: LabelStore) -> dict[str, str]:
        """The COCO file in OUT of each annotation file of this run and of earlier ones."""
        origins = {**store.origins, **{f.name: f.annotations.origin for f in self.files}}
        own = {file.name for file in self.files}
        names = sorted(own | set(store.files_with_labels()))
        return coco_targets(self._folder, origins, names)

    # What a run asks

    def matched(self) -> set[str]:
        """The paths of the inputs that have an entry."""
        return {path for file in self.files for path in file.of_source}

    def announcements(self) -> Iterator[str]:
        """How inputs and entries fit, and what is wrong with the files, in a line each."""
        for file in self.files:
            labels = file.annotations.labels
            images, own = len(labels.images), len(file.of_source)
            earlier = len(file.of_earlier)
            of_earlier = f", {earlier} are of earlier outputs" if earlier else ""
            yield (
                f"{file.shown}: {own} of {len(self._sources)} {self._words.inputs} have an entry, "
                f"{images - own - earlier} of {images} entries have no "
                f"{self._words.inputs.removesuffix('s')}{of_earlier}"
            )
            yield from (*labels.notes, *said_of(labels.problems), *file.renamed)

    def asked(self, source: Source) -> list[dict[str, Any]]:
        """What a worker needs to check this input's frame; empty when it is not annotated."""
        return [
            {"size": file.annotations.entries[file.of_source[source.path]].size,
             "frame": self._frame}
            for file in self.files
            if source.path in file.of_source
        ]  # fmt: skip

    def entry_of(self, source: Source) -> Entry | None:
        """The first entry of an input."""
        for file in self.files:
            if source.path in file.of_source:
                return file.annotations.entries[file.of_source[source.path]]
        return None

    def plan(self, planned: Sequence[Planned]) -> None:
        """Says which outputs the run will make, once that is known. OutputError as above."""
        self._planned = list(planned)
        before = self._before or LabelStore()
        outputs = [p.output for p in planned if self.entry_of(p.source) is not None]
        for kind in sorted(self._formats):
            if kind in before.formats or self._overwrite:
                continue
            for name in label_paths(kind, outputs):
                if os.path.lexists(os.path.join(self._folder, name)):
                    raise _not_ours(os.path.join(self._folder, name))

    # What a run leaves

    def keep(self) -> None:
        """Notes the labels in OUT, before the first output is made; once is enough."""
        if self.files and not self._kept:
            self._kept = True
            self._updated().write(self._folder)

    def _updated(self) -> LabelStore:
        """What is known of OUT's labels now, this run's included."""
        store = read_label_store(self._folder) or self._before or LabelStore()
        store.formats |= self._formats
        for file in self.files:
            store.origins[file.name] = file.annotations.origin
            for one in self._planned:
                self._put(store, file, one, file.of_source.get(one.source.path))
            for one, number in file.of_earlier:
                self._put(store, file, one, number)
        if self._overwrite and self.files:
            own = {file.name for file in self.files}
            outputs = {one.output for one in self._planned}
            for output, name in list(store.labels):
                if output in outputs and name not in own:
                    del store.labels[output, name]
        return store

    def _put(
        self, store: LabelStore, file: AnnotationFile, one: Planned, number: int | None
    ) -> None:
        before = store.labels.pop((one.output, file.name), None)
        if number is None:
            return
        entry = file.annotations.entries[number].of_copy(one.copy, one.copies)
        label = Label(entry, self._frame)
        same = before is not None and (before.entry.size, before.frame) == (entry.size, self._frame)
        if before is not None and same and before.to_visible is None:
            label = replace(label, placement=before.placement)
        store.labels[one.output, file.name] = label

    def finish(self, report: RunReport, on_event: OnEvent) -> dict[str, int]:
        """Writes the annotations of all that is in OUT; returns what was counted.

        An output that is done and whose labels turn out to be drawn on another frame fails.
        """
        if not self.files and self._before is None:
            return {}
        try:
            os.makedirs(self._folder or ".", exist_ok=True)
        except OSError as error:
            shown = display_path(self._folder)
            raise OutputError(f"{shown}: cannot be made ({error.strerror})") from None
        with output_folder_lock(self._folder):
            return self._finish(report, on_event)

    def _finish(self, report: RunReport, on_event: OnEvent) -> dict[str, int]:
        store = self._updated()
        counts = Counter(dict.fromkeys(COUNTED, 0))
        images = self._moved(store, report, on_event, counts)
        images.sort(key=lambda one: (one.file, one.output))
        targets = self._targets(store)
        store.origins = {n: o for n, o in store.origins.items() if n in targets}
        if "coco" not in store.formats:
            counts["masks_dropped"] += dropped_shapes(images)
        store.write(self._folder)
        for text in write_annotations(
            self._folder, store, images, targets, mark_first=self._words.mark_first
        ):
            on_event(Event("note", text=text))
        return dict(counts)

    def _moved(
        self, store: LabelStore, report: RunReport, on_event: OnEvent, counts: Counter[str]
    ) -> list[MovedImage]:
        """The labels of all outputs that are there, in their pixels; placements are noted."""
        names: dict[str, list[str]] = {}
        for output, name in store.labels:
            names.setdefault(output, []).append(name)
        number_of = {one.output: number for number, one in enumerate(self._planned)}
        images = []
        unfit: list[str] = []
        for record in _records(self._folder):
            output = record["output"]
            there = output in names and os.path.lexists(os.path.join(self._folder, output))
            for name in names.pop(output, ()):
                try:
                    image = self._moved_one(store, record, name, counts) if there else None
                except InputError as error:
                    del store.labels[output, name]
                    if output in number_of:  # made by an earlier run, annotated only now
                        failed = {**record, "status": "failed", "reason": error.reason}
                        report.records[number_of[output]] = failed
                        on_event(Event("result", record=failed))
                    else:
                        unfit.append(f"{display_path(output)}: {error.reason}")
                    continue
                if image is not None:
                    images.append(image)
        for output, left in names.items():  # nothing tells how these were made, or that they are
            for name in left:
                del store.labels[output, name]
        if unfit:
            more = f" (and {len(unfit) - 1} more)" if len(unfit) > 1 else ""
            text = (
                f"labels of outputs of earlier runs do not fit and are left out: {unfit[0]}{more}"
            )
            on_event(Event("note", text=text))
        return images

    def _moved_one(
        self, store: LabelStore, record: Record, name: str, counts: Counter[str]
    ) -> MovedImage | None:
        output = record["output"]
        label = store.labels[output, name]
        if record["status"] in FINISHED:
            label = replace(label, placement=placement(record, label))
            store.labels[output, name] = label
        place = label.placement
        # A run that makes it again has not come to it, and the picture is what it was before.
        stays = record["status"] == "pending" and place and place.settings == record["settings"]
        if place is None or not (record["status"] in FINISHED or stays):
            return None
        return moved(
            label.entry,
            Affine.from_rows(place.to_output),
            place.size,
            output=output,
            file=name,
            counts=counts,
        )


def read_labels(
    paths: Sequence[str],
    folder: str,
    frame: str,
    sources: list[Source],
    *,
    overwrite: bool,
    written_as: str | None = None,
) -> RunLabels:
    """The annotation files of an `enhance` run over `sources` into `folder`; see `RunLabels`.

    written_as: "coco", "voc" or "yolo"; None for the format that each file has.
    """
    given = [read_entries(path) for path in paths]
    return RunLabels(
        folder, given, sources, frame=frame, written_as=written_as, overwrite=overwrite
    )


def _not_ours(path: str) -> OutputError:
    return OutputError(
        f"{display_path(path)}: is not rawisp's; choose another -o, or --overwrite to replace"
    )


def _records(folder: str) -> Iterator[Record]:
    """The last record of each output in OUT."""
    return iterate_manifest(os.path.join(folder, FILE_NAME))
