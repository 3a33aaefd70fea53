"""Training, validation, test: by the names of files, by lists, or by a seeded hash."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence

from rawisp.data.annotations.labels import Problem, folded, located, name_of_label
from rawisp.data.annotations.rows import short
from rawisp.data.annotations.text import read_lines
from rawisp.data.matching import match_names
from rawisp.errors import AnnotationError, UsageError, display_path

SPLITS = ("train", "val", "test")
_WORDS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_MAX_LIST_BYTES = 64 << 20
_NIGHT = re.compile(r"_night\d+$")  # what `synth --copies` appends


def split_of_file(path: str, root: str | None = None) -> str | None:
    """What a file's name says, else its folder's: train.json, instances_val2017.json, valid/a.json.

    None where neither says, or the name says several. `root` itself says nothing.
    """
    stem = os.path.splitext(os.path.basename(path))[0].casefold()
    said = {_WORDS[word] for word in re.findall("[a-z]+", stem) if word in _WORDS}
    if said:
        return said.pop() if len(said) == 1 else None
    folder = os.path.dirname(os.path.abspath(path))
    if root is not None and folder == os.path.abspath(root):
        return None
    return _WORDS.get(os.path.basename(folder).casefold())


def splits_by_lists(
    lists: Sequence[str], names: Sequence[str]
) -> tuple[dict[int, str], list[Problem]]:
    """Split by number in `names`, from text files that hold a name in each line.

    Each list's own name says train, val or test. Without a training list everything that no list
    holds is for training; with one it is in no split and missing in the result.
    """
    split_of: dict[int, str] = {}
    listed_in: dict[int, str] = {}
    problems: list[Problem] = []
    for path in lists:
        split = split_of_file(path)
        if split is None:
            raise UsageError(
                f"{display_path(path)}: a list's name must say train, val or test, like val.txt"
            )
        for number, where in _matched(path, names, problems).items():
            if split_of.setdefault(number, split) != split:
                raise AnnotationError(
                    f"{listed_in[number]} and {where} both list {short(names[number])}; a "
                    "photograph is in one split"
                )
            listed_in[number] = where
    if "train" not in split_of.values():
        split_of = {number: split_of.get(number, "train") for number in range(len(names))}
    return split_of, problems


def _matched(path: str, names: Sequence[str], problems: list[Problem]) -> dict[int, str]:
    """Where the list has each name that it has, by number in `names`."""
    rows = [(place, _listed_name(line)) for place, line in read_lines(path, _MAX_LIST_BYTES)]
    rows = list({folded(name): (place, name) for place, name in rows}.values())
    described = [located(path, place) for place, _ in rows]
    matched = match_names([name for _, name in rows], names, described=described)
    missing = sorted(set(range(len(rows))) - set(matched.values()))
    if missing:
        place, name = rows[missing[0]]
        what = f"{len(missing)} of {len(rows)} names are no annotated RAW file's ({short(name)})"
        problems.append(Problem(path, place, what, mended=bool(matched)))
    return {number: described[entry] for number, entry in matched.items()}


def _listed_name(line: str) -> str:
    """VOC's lists of one class have a flag after the name."""
    name, _, flag = line.rpartition(" ")
    return name_of_label(f"{name.strip() if flag in ('-1', '0', '1') and name else line}.txt")


def chosen_for_validation(names: Sequence[str], share: float, seed: int) -> set[int]:
    """The numbers of about `share` of the names, at least one; stable when names are added.

    Each name (its path without suffix) is in or out by its own hash with the seed; the nights that
    `synth` made of one photograph go together, or the same scene would be trained and tested on.
    """
    if not 0.0 < share < 1.0:
        raise UsageError(f"--val {share:g} is no share; write one between 0 and 1, like 0.1")
    places = [_place(name, seed) for name in names]
    chosen = {number for number, place in enumerate(places) if place < share}
    return chosen or set(sorted(range(len(names)), key=places.__getitem__)[:1])


def _place(name: str, seed: int) -> float:
    """A number in [0, 1) that looks random, the same everywhere."""
    scene = _NIGHT.sub("", folded(name))
    digest = hashlib.sha256(f"{seed}:{scene}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
