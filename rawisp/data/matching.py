"""Which entry of an annotation file is which photograph: by path, then by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rawisp.data.annotations.labels import folded
from rawisp.errors import AnnotationError, printable

# More than any path has parts: the whole path is the same.
_SAME_PATH = 1_000_000


def match_names(
    entries: Sequence[str],
    files: Sequence[str],
    *,
    described: Sequence[str],
    prefix: str = "",
    entry_suffixes: Sequence[str] = (),
    file_suffixes: Sequence[str] = (),
) -> dict[int, int]:
    """File number -> entry number. Both are names: paths without suffix, with "/".

    Case does not count. An entry and a file of the same last part may be the same photograph; the
    whole path decides (also with `prefix`, the annotation file's own folder, before it), else the
    number of folders above that agree, else the suffix, where both are given and the entry has one.
    AnnotationError names both when two fit equally well. described: what each entry is called in
    messages.
    """

    def same_suffix(file: int, entry: int) -> bool:
        return bool(entry_suffixes) and entry_suffixes[entry] == file_suffixes[file]

    paths = [folded(name) for name in entries]
    by_path, by_stem = _grouped(paths, prefix)
    claims: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for file, name in enumerate(files):
        path = folded(name)
        same = by_path.get(path, [])
        scores = [(_SAME_PATH, entry) for entry in same] or [
            (_agreeing(paths[entry], path), entry)
            for entry in by_stem.get(path.rpartition("/")[2], ())
        ]
        best = max((score for score, _ in scores), default=0)
        fitting = [entry for score, entry in scores if score == best]
        if len(fitting) > 1:
            fitting = [entry for entry in fitting if same_suffix(file, entry)] or fitting
        if len(fitting) > 1:
            first, second = (described[entry] for entry in fitting[:2])
            raise AnnotationError(
                f"{first} and {second} both fit {printable(name)}; write folders into their names, "
                "or name the right annotation files"
            )
        if fitting:
            claims[fitting[0]].append((best, file))
    owners = {}
    for entry, claimed in claims.items():
        best = max(claimed)[0]
        own = [one for one in claimed if one[0] == best and same_suffix(one[1], entry)]
        owners[_owner(own or claimed, entry, files, described)] = entry
    return owners


def _grouped(paths: list[str], prefix: str) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Entry numbers by their whole path, without and with the prefix, and by their last part."""
    by_path: dict[str, list[int]] = defaultdict(list)
    by_stem: dict[str, list[int]] = defaultdict(list)
    for number, path in enumerate(paths):
        by_path[path].append(number)
        by_stem[path.rpartition("/")[2]].append(number)
    if prefix:
        for number, path in enumerate(paths):
            inside = f"{folded(prefix)}/{path}"
            if inside not in by_path or number not in by_path[inside]:
                by_path[inside].append(number)
    return by_path, by_stem


def _owner(
    claimed: list[tuple[int, int]], entry: int, files: Sequence[str], described: Sequence[str]
) -> int:
    best = max(claimed)[0]
    owners = [file for score, file in claimed if score == best]
    if len(owners) > 1:
        first, second = (printable(files[file]) for file in owners[:2])
        same = folded(first) == folded(second)
        raise AnnotationError(
            f"{described[entry]} fits two files, {first} and {second}"
            + (" (they differ in their suffix)" if same else "")
            + (
                "; keep one of them, or write the suffix into its name"
                if same
                else "; write folders into its name"
            )
        )
    return owners[0]


def _agreeing(entry: str, file: str) -> int:
    """How many last parts agree."""
    agreeing = 0
    for a, b in zip(reversed(entry.split("/")), reversed(file.split("/")), strict=False):
        if a != b:
            break
        agreeing += 1
    return agreeing
