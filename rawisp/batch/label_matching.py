"""Which entry of an annotation file is which input of a run."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from rawisp.batch.inputs import Source, suffix_of
from rawisp.data.annotations.labels import LabelSet, located, name_of
from rawisp.data.annotations.rows import short
from rawisp.data.matching import match_names, renamed_by_export
from rawisp.errors import display_path


def matched_entries(
    labels: LabelSet, sources: Sequence[Source], *, taken: Collection[int] = ()
) -> dict[int, int]:
    """Source number -> image number in `labels`, for those that have one; see `match_names`.

    taken: images that belong to others. AnnotationError when two fit equally well.
    """
    numbers = [number for number in range(len(labels.images)) if number not in taken]
    images = [labels.images[number] for number in numbers]
    found = match_names(
        [image.name for image in images],
        [name_of(source.relative) for source in sources],
        described=[located(image.file or labels.path, image.place) for image in images],
        entry_suffixes=[image.suffix for image in images],
        prefix=_folder_inside(labels, sources),
        file_suffixes=[suffix_of(source.path) for source in sources],
        roots=[source.root for source in sources],
        other_names=[image.other_names for image in images],
    )
    return {source: numbers[entry] for source, entry in found.items()}


def _folder_inside(labels: LabelSet, sources: Sequence[Source]) -> str:
    """The folder of a COCO file that lies among the inputs, relative to what they were found in."""
    roots = {source.root for source in sources}
    if labels.format != "COCO" or len(roots) != 1:
        return ""
    folder = os.path.relpath(os.path.dirname(os.path.abspath(labels.path)), roots.pop())
    return "" if folder == "." or folder.startswith("..") else folder.replace(os.sep, "/")


def renamed(matched: dict[int, int], labels: LabelSet, sources: Sequence[Source]) -> list[str]:
    """A sentence on entries whose names a tool has changed; none where there are no such."""
    names = [name_of(source.relative) for source in sources]
    pairs = renamed_by_export(matched, [image.name for image in labels.images], names)
    if not pairs:
        return []
    exported, file = map(short, pairs[0])
    return [
        f"{display_path(labels.path)}: {len(pairs)} names are an export's, and matched without its "
        f"marks, the first: {exported} is {file}"
    ]
