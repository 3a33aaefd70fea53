"""Finding files: those that are named, and those of the wanted kinds below the folders named."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from rawisp.errors import NothingToDoError, UsageError, display_path

# Where systems, memory cards and network drives keep what was deleted, or copies of their own.
_DELETED = re.compile(
    r"\$recycle\.bin|(?-i:RECYCLE[RD])|[#@]recycle|\.trash(es|-\d+)?|lost\+found|found\.\d{3}"
    r"|@eadir|@sharebin|@recently-snapshot|#snapshot|system volume information|__macosx"
    r"|\.(spotlight-v100|fseventsd|documentrevisions-v100)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Search:
    """How folders are searched.

    exclude: glob patterns of files and folders that are passed over, compared with the name and
    with the path below the folder that was named, with "/"; "*" matches "/" as well, case counts.
    follow_links: enter links to folders, each real folder once, so that loops end.
    """

    exclude: tuple[str, ...] = ()
    follow_links: bool = False

    def excludes(self, relative: str) -> bool:
        """Whether a pattern matches the path or its last part."""
        path = relative.replace(os.sep, "/")
        names = (path, path.rpartition("/")[2])
        return any(
            fnmatchcase(name, pattern.removeprefix("./").rstrip("/"))
            for pattern in self.exclude
            for name in names
        )


@dataclass(frozen=True)
class Source:
    """One input: `path` as it will be opened, `relative` to the SRC it was found under.

    `named`: whether it was given itself, not found in a folder.
    """

    path: str
    relative: str
    named: bool = False

    @property
    def root(self) -> str:
        """The folder that `relative` is relative to."""
        return self.path.removesuffix(self.relative) or "."


@dataclass
class Found:
    """sources in a stable order; other_suffixes: how many files were passed over, by suffix.

    links: links to folders that were not followed. deleted: wanted files in each folder of deleted
    ones (see `is_deleted`), which are not taken. excluded: files and folders that a pattern of
    `Search.exclude` matched.
    """

    sources: list[Source] = field(default_factory=list)
    other_suffixes: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)
    deleted: Counter[str] = field(default_factory=Counter)
    excluded: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """A sentence for each way in which something was passed over that people may miss."""
        said = [links_passed_over(self)] if self.links else []
        if self.deleted:
            first = display_path(next(iter(self.deleted)))
            more = f" and {len(self.deleted) - 1} more folders" if len(self.deleted) > 1 else ""
            said.append(
                f"{first}{more}: holds what was deleted or a system's own copies; "
                f"{self.deleted.total()} files there passed over"
            )
        if self.excluded:
            first = display_path(self.excluded[0])
            said.append(f"--exclude passes over {len(self.excluded)} names, the first: {first}")
        return said


def suffix_of(path: str) -> str:
    """The lower-case suffix with its dot, "" when there is none."""
    return os.path.splitext(path)[1].casefold()


def is_deleted(name: str) -> bool:
    """Whether a folder is called like a trash can, or like what a system keeps for itself.

    $RECYCLE.BIN, #recycle, .Trashes, .Trash-1000, @eaDir, lost+found and their kind.
    """
    return _DELETED.fullmatch(name) is not None


def find_sources(
    given: Sequence[str],
    suffixes: frozenset[str],
    *,
    outside: str | None = None,
    search: Search | None = None,
) -> Found:
    """Files named in `given`, and every file below the folders in it whose suffix is in `suffixes`.

    A file that is named is taken whatever its suffix, also when it does not exist (it fails when
    its turn comes, the others go on); a folder that cannot be listed fails likewise. Folders are
    walked in sorted order; hidden files and folders (macOS's "._" twins among them), folders of
    deleted files and links to folders are passed over, and so is all below `outside`, the output
    folder. With `search.follow_links` what links lead to comes after what lies in the folder.
    """
    found = Found()
    search = search or Search()
    seen: set[str] = set()
    barrier = os.path.realpath(outside) if outside else None
    for name in given:
        named = not os.path.isdir(name)
        if named and not os.path.lexists(name) and suffix_of(name) not in suffixes:
            raise UsageError(f"{display_path(name)}: does not exist")
        base = os.path.dirname(name) if named else name
        if named and search.excludes(os.path.basename(name)):
            found.excluded.append(name)
            continue
        walk = _Walk(name, suffixes, barrier, search, found)
        for path in iter([name]) if named else walk.files():
            key = os.path.abspath(path)
            if key in seen:
                continue
            seen.add(key)
            found.sources.append(Source(path, os.path.relpath(path, base or "."), named))
    return found


@dataclass
class _Walk:
    """The wanted files below one folder; what is passed over goes to `found`."""

    top: str
    suffixes: frozenset[str]
    barrier: str | None
    search: Search
    found: Found

    def files(self) -> Iterator[str]:
        """What lies in the folder itself, then behind links where they are followed."""
        waiting = [self.top]
        entered: set[str] = set()
        for folder in waiting:  # grows while it is read
            if folder != self.top and os.path.realpath(folder) in entered:
                continue
            links: list[str] = []
            yield from self._below(folder, links, entered)
            if self.search.follow_links:
                waiting += links
            else:
                self.found.links += links

    def _below(self, folder: str, links: list[str], entered: set[str]) -> Iterator[str]:
        unreadable: list[OSError] = []
        for here, folders, files in os.walk(folder, onerror=unreadable.append):
            if self.search.follow_links:
                entered.add(os.path.realpath(here))
            kept = []
            for name in sorted(folders):
                path = os.path.join(here, name)
                if not self._is_entered(path, name):
                    continue
                if os.path.islink(path):
                    links.append(path)
                elif not (entered and os.path.realpath(path) in entered):
                    kept.append(name)
            folders[:] = kept
            yield from self._wanted(here, files)
        yield from (os.fspath(error.filename) for error in unreadable)

    def _is_entered(self, path: str, name: str) -> bool:
        if is_deleted(name):
            count = self._count(path)
            if count:
                self.found.deleted[path] += count
            return False
        if name.startswith(".") or os.path.realpath(path) == self.barrier:
            return False
        if self.search.excludes(os.path.relpath(path, self.top)):
            self.found.excluded.append(path)
            return False
        return True

    def _count(self, folder: str) -> int:
        """How many wanted files a folder of deleted ones holds; what cannot be listed has none."""
        below = (files for _, _, files in os.walk(folder)) if not os.path.islink(folder) else ()
        return sum(suffix_of(name) in self.suffixes for files in below for name in files)

    def _wanted(self, here: str, files: list[str]) -> Iterator[str]:
        for name in sorted(files):
            if name.startswith("."):
                continue
            path = os.path.join(here, name)
            if suffix_of(name) not in self.suffixes:
                self.found.other_suffixes[suffix_of(name) or "no suffix"] += 1
            elif self.search.exclude and self.search.excludes(os.path.relpath(path, self.top)):
                self.found.excluded.append(path)
            else:
                yield path


def nothing_found(given: Sequence[str], found: Found, wanted: str) -> NothingToDoError:
    """The sentence for an empty run: what was looked at, and why nothing of it was taken."""
    where = ", ".join(display_path(name) for name in given)
    seen = ", ".join(f"{n} {suffix}" for suffix, n in found.other_suffixes.most_common(6))
    only = f", only {seen}" if seen else ""
    passed = "".join(f"; {text}" for text in found.notes())
    return NothingToDoError(f"{where}: holds no {wanted} files{only}{passed}")


def links_passed_over(found: Found) -> str:
    """The sentence about links to folders, which are followed on demand only."""
    first, others = display_path(found.links[0]), len(found.links) - 1
    which = f"{first} and {others} more are links to folders" if others else f"{first} is a link"
    return f"{which}, not followed; --follow-links includes what they lead to"
