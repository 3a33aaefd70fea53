"""Which entry of an annotation file is which input of a run."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from functools import cache

from rawisp.batch.inputs import Source, suffix_of
from rawisp.data.annotations.labels import LabelSet, folded, located, name_of
from rawisp.data.matching import match_names


def matched_entries(
    labels: LabelSet, sources: Sequence[Source], *, taken: Collection[int] = ()
) -> dict[int, int]:
    """Source number -> image number in `labels`, for those that have one; see `match_names`.

    taken: images that belong to others. The folder that a SRC is counts as named where an entry
    names it, and an entry of a folder beside it is not its own. AnnotationError when two fit.
    """
    elsewhere = _named_elsewhere(labels, sources)
    numbers = [n for n in range(len(labels.images)) if n not in taken and n not in elsewhere]
    images = [labels.images[number] for number in numbers]
    folders = {folded(part) for image in images for part in image.name.split("/")[:-1]}
    found = match_names(
        [image.name for image in images],
        [_name(source, folders) for source in sources],
        described=[located(image.file or labels.path, image.place) for image in images],
        entry_suffixes=[image.suffix for image in images],
        file_suffixes=[suffix_of(source.path) for source in sources],
    )
    return {source: numbers[entry] for source, entry in found.items()}


def _name(source: Source, folders: Collection[str]) -> str:
    name = name_of(source.relative)
    own = os.path.basename(_base(source))
    return f"{own}/{name}" if folded(own) in folders else name


def _base(source: Source) -> str:
    """The folder that the input was found under, or is in, if it was named."""
    path = os.path.abspath(source.path)
    stem, inside = name_of(path), f"/{name_of(source.relative)}"
    return stem.removesuffix(inside) if stem.endswith(inside) else os.path.dirname(path)


def _named_elsewhere(labels: LabelSet, sources: Sequence[Source]) -> set[int]:
    """Images in a folder that lies beside those given and holds files of their kind.

    100MSDCF/DSC00001 is not the file of that name in 101MSDCF when only the latter was given.
    """
    own = {folded(part) for s in sources for part in os.path.abspath(s.path).split("/")[:-1]}
    bases = sorted({os.path.dirname(_base(source)) for source in sources})
    suffixes = {suffix_of(source.path) for source in sources}

    @cache
    def is_beside(folder: str) -> bool:
        return any(_holds(os.path.join(base, folder), suffixes) for base in bases)

    found = set()
    for number, image in enumerate(labels.images):
        folder = os.path.basename(os.path.dirname(image.name))
        if folder and folder not in (".", "..") and folded(folder) not in own and is_beside(folder):
            found.add(number)
    return found


def _holds(folder: str, suffixes: Collection[str]) -> bool:
    try:
        return any(suffix_of(name) in suffixes for name in os.listdir(folder))
    except (OSError, ValueError):
        return False
