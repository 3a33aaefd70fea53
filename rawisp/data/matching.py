"""Which entry of an annotation file is which photograph: by path, then by name.

The one matcher of all readers and verbs. Names are paths without suffix, with "/"; case does not
count. An entry and a file of the same last part (also after an export's marks are taken off, see
`stems_of`) may be the same photograph. Folders that both name must then agree, from the last one
up:

- Either may name fewer: `a.jpg` is `Sony/a.ARW`, and `/home/you/set/Sony/a.jpg` is `Sony/a.ARW`.
- The folders above the data's root count where an entry names them: of `Sony/a.jpg` and
  `Nikon/a.jpg` the first is `a.ARW` in a root called Sony.
- Folders that differ contradict, and the entry is not that file's: `100MSDCF/a.jpg` is not
  `101MSDCF/a.ARW`, `labels/dogs/2.txt` not `images/not_dogs/2.ARW`.
- Only a renamed folder is passed over: `JPEGImages/a.jpg` is `raw/a.ARW`. That needs that no file
  lies in a folder of the entry's name at this depth, and no entry in one of the file's; that the
  two names do not differ in their numbers alone; and, where it is the last folder, that at least
  half of its entries or of the other's files have a partner there, and that no second entry or file
  has this last part.
- Names without folders in an annotation file that lies among the photographs of a folder are that
  folder's: `a.jpg` in train/labels.json is not `valid/a.ARW`.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from rawisp.data.annotations.labels import folded, stems_of
from rawisp.errors import AnnotationError, printable

# More than any path has parts: the whole path is the same.
_SAME_PATH = 1_000_000
# What cameras call folders by the DCF standard; each continues the numbers of the one before.
_CAMERA_FOLDER = re.compile(r"\d{3}\w{5}")
_NUMBER = re.compile(r"\d+")

Names = Sequence[Sequence[str]]


def match_names(
    entries: Sequence[str],
    files: Sequence[str],
    *,
    described: Sequence[str],
    prefix: str = "",
    entry_suffixes: Sequence[str] = (),
    file_suffixes: Sequence[str] = (),
    roots: Sequence[str] = (),
    other_names: Names = (),
) -> dict[int, int]:
    """File number -> entry number. Both are names: paths without suffix, with "/".

    The module says what fits. Of entries that fit a file the whole path decides (also with
    `prefix`, the annotation file's own folder, before it), else the number of folders that agree,
    else the suffix, where both are given and the entry has one. AnnotationError names both when two
    fit equally well. described: what each entry is called in messages. roots: the folder that each
    file's name is relative to. other_names: of each entry, what else its file says that the
    photograph was called; such a name counts where the first one fits no file.
    """
    match = _Match(entries, files, described, prefix, entry_suffixes, file_suffixes, roots)
    owners = match.run(range(len(entries)), range(len(files)))
    left = sorted(set(range(len(entries))) - set(owners.values()))
    free = [file for file in range(len(files)) if file not in owners]
    renamed = {
        entry: [
            *(other_names[entry] if other_names else ()),
            *(f"{_folder(entries[entry])}{stem}" for stem in stems_of(entries[entry])[1:]),
        ]
        for entry in left
    }
    for turn in range(max(map(len, renamed.values()), default=0)):
        names = list(entries)
        for entry in left:
            if turn < len(renamed[entry]):
                names[entry] = renamed[entry][turn]
        again = _Match(names, files, described, prefix, entry_suffixes, file_suffixes, roots)
        again.advice = "one photograph was exported more than once; keep one entry of it"
        owned = set(owners.values())
        waiting = [entry for entry in left if turn < len(renamed[entry]) and entry not in owned]
        owners |= again.run(waiting, [file for file in free if file not in owners])
    return owners


def renamed_by_export(
    matched: dict[int, int], entries: Sequence[str], files: Sequence[str]
) -> list[tuple[str, str]]:
    """(entry, file) of the pairs whose last parts differ: names that a tool changed."""
    pairs = [(entries[entry], files[file]) for file, entry in matched.items()]
    return [(a, b) for a, b in pairs if folded(_stem(a)) != folded(_stem(b))]


def _stem(name: str) -> str:
    return name.rpartition("/")[2]


def _folder(name: str) -> str:
    return name[: len(name) - len(_stem(name))]


@dataclass
class _Match:
    """One pass over names as they are given."""

    entries: Sequence[str]
    files: Sequence[str]
    described: Sequence[str]
    prefix: str
    entry_suffixes: Sequence[str]
    file_suffixes: Sequence[str]
    roots: Sequence[str]
    advice: str = "write folders into their names, or name the right annotation files"
    _of_entry: list[list[str]] = field(init=False)
    _of_file: list[list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self._of_entry = [_parts(name) for name in self.entries]
        self._of_file = [_parts(name) for name in self.files]
        self._put_into_prefix()
        above = {root: _parts(os.path.abspath(root)) for root in set(self.roots)}
        self._above = [above[root] for root in self.roots] or [[] for _ in self.files]
        self._by_path: dict[str, list[int]] = defaultdict(list)
        self._by_stem: dict[str, list[int]] = defaultdict(list)

    def _put_into_prefix(self) -> None:
        """Names without a folder, where some are photographs beside their annotation file."""
        inside = _parts(self.prefix) if self.prefix else []
        there = {parts[-1] for parts in self._of_file if parts[:-1] == inside}
        plain = [number for number, parts in enumerate(self._of_entry) if len(parts) == 1]
        if inside and any(self._of_entry[number][0] in there for number in plain):
            for number in plain:
                self._of_entry[number] = [*inside, *self._of_entry[number]]

    def run(self, entries: Sequence[int], files: Sequence[int]) -> dict[int, int]:
        """File number -> entry number, of those given."""
        self._group(entries)
        self._folders = _Folders(
            [self._of_entry[n] for n in entries], [self._of_file[n] for n in files]
        )
        claims: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for file in files:
            best, fitting = self._fitting(file)
            if len(fitting) > 1:
                first, second = (self.described[entry] for entry in fitting[:2])
                raise AnnotationError(
                    f"{first} and {second} both fit {printable(self.files[file])}; {self.advice}"
                )
            if fitting:
                claims[fitting[0]].append((best, file))
        return {self._owner(entry, claimed): entry for entry, claimed in claims.items()}

    def _group(self, entries: Sequence[int]) -> None:
        """Entry numbers by the whole path, without and with the prefix, and by the last part."""
        for number in entries:
            path = "/".join(self._of_entry[number])
            self._by_path[path].append(number)
            self._by_stem[self._of_entry[number][-1]].append(number)
        if self.prefix:
            for number in entries:
                inside = f"{folded(self.prefix)}/{'/'.join(self._of_entry[number])}"
                if number not in self._by_path.get(inside, ()):
                    self._by_path[inside].append(number)

    def _fitting(self, file: int) -> tuple[int, list[int]]:
        """The best score and the entries that have it."""
        parts = self._of_file[file]
        same = self._by_path.get("/".join(parts), [])
        scores = [(_SAME_PATH, entry) for entry in same] or [
            (score, entry)
            for entry in self._by_stem.get(parts[-1], ())
            if (score := self._score(entry, file)) > 0
        ]
        best = max((score for score, _ in scores), default=0)
        fitting = [entry for score, entry in scores if score == best]
        if len(fitting) > 1:
            fitting = [entry for entry in fitting if self._same_suffix(file, entry)] or fitting
        return best, fitting

    def _score(self, entry: int, file: int) -> int:
        """How many last parts agree; 0 where a folder contradicts."""
        named, parts, above = self._of_entry[entry], self._of_file[file], self._above[file]
        whole = [*above, *parts]
        agreeing = 0
        for a, b in zip(reversed(named), reversed(whole), strict=False):
            if a != b:
                break
            agreeing += 1
        if agreeing == len(named) or agreeing == len(whole):
            return agreeing
        if agreeing < len(parts):
            clash = self._folders.contradict(named, parts, agreeing)
        else:
            a, b = named[-agreeing - 1], whole[-agreeing - 1]
            clash = self._folders.contradict_root(a, b, agreeing)
        return 0 if clash else agreeing

    def _same_suffix(self, file: int, entry: int) -> bool:
        return bool(self.entry_suffixes) and self.entry_suffixes[entry] == self.file_suffixes[file]

    def _owner(self, entry: int, claimed: list[tuple[int, int]]) -> int:
        best = max(claimed)[0]
        own = [one for one in claimed if one[0] == best and self._same_suffix(one[1], entry)]
        owners = [file for score, file in own or claimed if score == best]
        if len(owners) > 1:
            first, second = (printable(self.files[file]) for file in owners[:2])
            same = folded(first) == folded(second)
            raise AnnotationError(
                f"{self.described[entry]} fits two files, {first} and {second}"
                + (" (they differ in their suffix)" if same else "")
                + (
                    "; keep one of them, or write the suffix into its name"
                    if same
                    else "; write folders into its name"
                )
            )
        return owners[0]


def _parts(name: str) -> list[str]:
    """The parts of a path, folded; drives and leading slashes are none."""
    return [part for part in folded(name).split("/") if part not in ("", ".", "..")] or [""]


class _Folders:
    """What the folders of all entries and files tell about two that differ.

    Depth 1 is the last folder.
    """

    def __init__(self, entries: list[list[str]], files: list[list[str]]) -> None:
        self._entry_names = _by_depth(entries)
        self._file_names = _by_depth(files)
        self._entry_stems = Counter(parts[-1] for parts in entries)
        self._file_stems = Counter(parts[-1] for parts in files)
        self._entries_in: dict[str, set[str]] = defaultdict(set)
        self._files_in: dict[str, set[str]] = defaultdict(set)
        self._known: dict[tuple[str, str], bool] = {}
        for listed, into in ((entries, self._entries_in), (files, self._files_in)):
            for parts in listed:
                into["/".join(parts[:-1])].add(parts[-1])

    def contradict(self, entry: list[str], file: list[str], depth: int) -> bool:
        """Whether the folders at `depth` say that it is another photograph."""
        a, b = entry[-depth - 1], file[-depth - 1]
        if a in self._file_names[depth] or b in self._entry_names[depth]:
            return True
        if _NUMBER.sub("#", a) == _NUMBER.sub("#", b):
            return True
        return depth == 1 and not self._renamed(entry, file)

    def contradict_root(self, a: str, b: str, depth: int) -> bool:
        """The same for a folder above the data's root, which is called as somebody liked."""
        both_cameras = all(_CAMERA_FOLDER.fullmatch(name) for name in (a, b))
        return b in self._entry_names[depth] or both_cameras

    def _renamed(self, entry: list[str], file: list[str]) -> bool:
        """Whether the file's folder is the entry's under another name."""
        if self._entry_stems[entry[-1]] > 1 or self._file_stems[file[-1]] > 1:
            return False
        key = "/".join(entry[:-1]), "/".join(file[:-1])
        if key not in self._known:
            named, present = self._entries_in[key[0]], self._files_in[key[1]]
            self._known[key] = 2 * len(named & present) >= min(len(named), len(present))
        return self._known[key]


def _by_depth(listed: list[list[str]]) -> dict[int, set[str]]:
    names: dict[int, set[str]] = defaultdict(set)
    for parts in listed:
        for depth, name in enumerate(reversed(parts[:-1]), 1):
            names[depth].add(name)
    return names
