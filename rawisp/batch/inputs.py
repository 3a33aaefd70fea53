"""Deciding before any work starts which output belongs to which input."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence

from rawisp.errors import OutputError, display_path
from rawisp.raw.files import (
    Found,
    Search,
    Source,
    find_sources,
    links_passed_over,
    nothing_found,
    suffix_of,
)

__all__ = [
    "Found",
    "Search",
    "Source",
    "find_sources",
    "links_passed_over",
    "nothing_found",
    "plan_outputs",
    "suffix_of",
]


def plan_outputs(sources: Sequence[Source], suffix: str) -> list[str]:
    """The output of each source, relative to the output folder: the tree mirrored, `suffix` added.

    Inputs that differ only in their suffix (IMG_1.NEF beside IMG_1.DNG) keep it: IMG_1.NEF.png.
    Inputs that would still share an output (from two SRC folders, or names that differ only in
    case, which some file systems do not keep apart) are refused: OutputError names two of them.
    """
    plain = [os.path.splitext(source.relative)[0] for source in sources]
    shared = Counter(_folded(stem) for stem in plain)
    outputs = [
        (source.relative if shared[_folded(stem)] > 1 else stem) + suffix
        for source, stem in zip(sources, plain, strict=True)
    ]
    owners: dict[str, str] = {}
    for source, output in zip(sources, outputs, strict=True):
        other = owners.setdefault(_folded(output), source.path)
        if other != source.path:
            raise OutputError(
                f"{display_path(other)} and {display_path(source.path)} would both be written to "
                f"{display_path(output)}; run them separately, each with its own -o"
            )
    return outputs


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
