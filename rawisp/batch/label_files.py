"""The annotation files in OUT: where each lies, whose it is, what it holds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rawisp.batch import writer
from rawisp.batch.label_store import Label, LabelStore
from rawisp.batch.manifest import FILE_NAME, iterate_manifest
from rawisp.batch.placing import MOSAIC
from rawisp.data.annotations import write_voc, write_yolo
from rawisp.data.annotations.coco import read_coco
from rawisp.data.annotations.entries import Entry, Origin, entries_of
from rawisp.data.annotations.moving import MovedImage
from rawisp.data.annotations.write_coco import coco_document
from rawisp.errors import AnnotationError, display_path
from rawisp.geometry import Affine
from rawisp.version import __version__

SINGLE_NAME = "annotations.json"
SEVERAL_FOLDER = "annotations"
FORMATS = ("coco", "voc", "yolo")
# A top-level key of the files we write, by which they are known as ours; COCO readers ignore it.
_OURS = "rawisp"

Origins = Mapping[str, Origin]


def coco_targets(folder: str, origins: Origins, files: Collection[str]) -> dict[str, str]:
    """The COCO file in OUT of each annotation file: OUT/annotations.json if there is but one.

    Where annotations/ has one of that file already, it stays there.
    """
    several = {
        name: f"{SEVERAL_FOLDER}/{name if origins[name].format == 'COCO' else f'{name}.json'}"
        for name in files
    }
    only = next(iter(several.values())) if len(several) == 1 else ""
    if only and made_from(os.path.join(folder, only)) is None:
        return dict.fromkeys(several, SINGLE_NAME)
    return several


def made_from(path: str) -> str | None:
    """The annotation file that an annotations.json of ours was made from; None if not ours."""
    try:
        name = json.loads(Path(path).read_bytes())[_OURS]["made_from"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return str(name)


def fixed_targets(kind: str) -> tuple[str, ...]:
    """What a format other than COCO has in OUT, whatever the pictures are called."""
    if kind == "voc":
        return (write_voc.FOLDER,)
    return (write_yolo.CONFIG, *write_yolo.LISTS, write_yolo.LABELS) if kind == "yolo" else ()


def label_paths(kind: str, outputs: Iterable[str]) -> list[str]:
    """The label files of these outputs, in the formats that have one for each."""
    path_of: Callable[[str], str]
    path_of = write_voc.voc_path if kind == "voc" else write_yolo.yolo_path
    return [] if kind == "coco" else [path_of(output) for output in outputs]


def write_annotations(
    folder: str,
    store: LabelStore,
    images: list[MovedImage],
    targets: Mapping[str, str],
    *,
    mark_first: bool,
) -> list[str]:
    """Writes all formats of the store; returns sentences on what else was done.

    targets: the COCO file of each annotation file. mark_first: let it be known as ours by its first
    bytes, so that it is not found as annotations of RAW files.
    """
    notes = []
    if "coco" in store.formats:
        _write_coco(folder, store.origins, images, targets, mark_first)
        notes += _without_stale_coco(folder, targets)
    if "voc" in store.formats:
        files = write_voc.voc_files(store.origins, images)
        _write_files(folder, files, label_paths("voc", _outputs(store)))
    if "yolo" in store.formats:
        files = write_yolo.yolo_files(store.origins, images)
        lists = [name for name in write_yolo.LISTS if os.path.lexists(os.path.join(folder, name))]
        _write_files(folder, files, [*lists, *label_paths("yolo", _outputs(store))])
        notes += _link(folder, write_yolo.yolo_links([one.output for one in images]))
    return notes


def _outputs(store: LabelStore) -> list[str]:
    return sorted({output for output, _ in store.labels})


def _write_coco(
    folder: str,
    origins: Origins,
    images: list[MovedImage],
    targets: Mapping[str, str],
    mark_first: bool,
) -> None:
    for name, target in targets.items():
        document = coco_document(origins[name], [one for one in images if one.file == name])
        ours = {_OURS: {"version": __version__, "made_from": name}}
        path = os.path.join(folder, target)
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        writer.write_bytes(
            path, _text({**ours, **document} if mark_first else {**document, **ours})
        )


def _text(document: Mapping[str, Any]) -> bytes:
    """JSON with a line for each entry; indented all through it would take twice the time."""
    parts = []
    for key, value in document.items():
        if isinstance(value, list) and value:
            text = "[\n" + ",\n".join(json.dumps(entry) for entry in value) + "\n]"
        else:
            text = json.dumps(value)
        parts.append(f"{json.dumps(key)}: {text}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def _without_stale_coco(folder: str, targets: Mapping[str, str]) -> list[str]:
    """Removes an annotations.json whose boxes are in annotations/ now."""
    path = os.path.join(folder, SINGLE_NAME)
    name = made_from(path) if SINGLE_NAME not in targets.values() else None
    if name is None:
        return []
    with suppress(OSError):
        os.unlink(path)
    where = targets.get(name)
    moved = f"; its boxes are in {where} now" if where else ""
    return [f"{display_path(path)} was removed{moved}"]


def _write_files(folder: str, files: Iterator[tuple[str, bytes]], before: list[str]) -> None:
    """Writes what has changed, and removes those of `before` that are not among the files."""
    written = set()
    for name, content in files:
        path = os.path.join(folder, name)
        written.add(name)
        if _content(path) != content:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            writer.write_bytes(path, content)
    for name in before:
        if name not in written:
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def _content(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except OSError:
        return None


def _link(folder: str, links: Mapping[str, str]) -> list[str]:
    """Makes the links and removes those that lead nowhere; a sentence if that is not possible."""
    inside = os.path.join(folder, write_yolo.IMAGES)
    with suppress(OSError):
        for name in os.listdir(inside):
            path = os.path.join(inside, name)
            ours = os.path.islink(path) and os.readlink(path) == f"../{name}"
            if ours and f"{write_yolo.IMAGES}/{name}" not in links:
                os.unlink(path)
    for name, target in links.items():
        path = os.path.join(folder, name)
        try:
            if os.path.islink(path) and os.readlink(path) == target:
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink(target, path)
        except OSError as error:
            return [
                f"{display_path(path)}: cannot be made a link to the pictures "
                f"({error.strerror}); YOLO's loaders look for them in images/"
            ]
    return []


def store_of_older_version(folder: str) -> LabelStore | None:
    """The labels in OUT's COCO files, which is all that rawisp wrote up to version 0.1.

    They are in the outputs' pixels; the manifest of that moment leads back to the source's.
    """
    paths = [os.path.join(folder, SINGLE_NAME)]
    with suppress(OSError):
        several = os.path.join(folder, SEVERAL_FOLDER)
        paths += [os.path.join(several, name) for name in sorted(os.listdir(several))]
    named = {path: name for path in paths if (name := made_from(path)) is not None}
    if not named:
        return None
    store = LabelStore(formats={"coco"})
    entries: dict[str, list[tuple[str, Entry]]] = {}
    for path, name in named.items():
        with suppress(AnnotationError):
            for output, entry in _read_old(path, os.path.basename(name), store):
                entries.setdefault(output, []).append((os.path.basename(name), entry))
    for record in iterate_manifest(os.path.join(folder, FILE_NAME)):
        for name, entry in entries.get(record["output"], ()):
            label = _old_label(record, entry)
            if label is not None:
                store.labels[record["output"], name] = label
    return store


def _read_old(path: str, name: str, store: LabelStore) -> Iterator[tuple[str, Entry]]:
    coco = read_coco(path)
    found = entries_of(coco.labels, coco)
    store.origins[name] = Origin("", "COCO", found.origin.categories, found.origin.top)
    for image, entry in zip(coco.labels.images, found.entries, strict=True):
        yield coco.images[image.place]["file_name"], entry


def _old_label(record: dict[str, Any], entry: Entry) -> Label | None:
    if "affine" in record:
        return Label(entry, to_visible=Affine.from_rows(record["affine"]).inverse().rows())
    return Label(entry, frame=MOSAIC) if "mosaic_size" in record else None
