"""Finding files: those that are named, and those of the wanted kinds below the folders named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rawisp.errors import NothingToDoError, UsageError, display_path


@dataclass(frozen=True)
class Source:
    """One input: `path` as it will be opened, `relative` to the SRC it was found under.

    `named`: whether it was given itself, not found in a folder.
    """

    path: str
    relative: str
    named: bool = False


@dataclass
class Found:
    """sources in a stable order; other_suffixes: how many files were passed over, by suffix."""

    sources: list[Source] = field(default_factory=list)
    other_suffixes: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)  # links to folders, which are not followed


def suffix_of(path: str) -> str:
    """The lower-case suffix with its dot, "" when there is none."""
    return os.path.splitext(path)[1].casefold()


def find_sources(
    given: Sequence[str], suffixes: frozenset[str], *, outside: str | None = None
) -> Found:
    """Files named in `given`, and every file below the folders in it whose suffix is in `suffixes`.

    A file that is named is taken whatever its suffix, also when it does not exist (it fails when
    its turn comes, the others go on); a folder that cannot be listed fails likewise. Folders are
    walked in sorted order; hidden files and folders (macOS's "._" twins among them) and links to
    folders are passed over, and so is all below `outside`, the output folder.
    """
    found = Found()
    seen: set[str] = set()
    barrier = os.path.realpath(outside) if outside else None
    for name in given:
        named = not os.path.isdir(name)
        if named and not os.path.lexists(name) and suffix_of(name) not in suffixes:
            raise UsageError(f"{display_path(name)}: does not exist")
        base = os.path.dirname(name) if named else name
        for path in iter([name]) if named else _walk(name, suffixes, barrier, found):
            key = os.path.abspath(path)
            if key in seen:
                continue
            seen.add(key)
            found.sources.append(Source(path, os.path.relpath(path, base or "."), named))
    return found


def _walk(
    folder: str, suffixes: frozenset[str], barrier: str | None, found: Found
) -> Iterator[str]:
    unreadable: list[OSError] = []
    for here, folders, files in os.walk(folder, onerror=unreadable.append, followlinks=False):
        found.links += [
            os.path.join(here, name) for name in folders if os.path.islink(os.path.join(here, name))
        ]
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(here, name)) != barrier
        )
        for name in sorted(files):
            if name.startswith("."):
                continue
            if suffix_of(name) in suffixes:
                yield os.path.join(here, name)
            else:
                found.other_suffixes[suffix_of(name) or "no suffix"] += 1
    yield from (os.fspath(error.filename) for error in unreadable)


def nothing_found(given: Sequence[str], found: Found, wanted: str) -> NothingToDoError:
    """The sentence for an empty run: what was looked at, and why nothing of it was taken."""
    where = ", ".join(display_path(name) for name in given)
    seen = ", ".join(f"{n} {suffix}" for suffix, n in found.other_suffixes.most_common(6))
    only = f", only {seen}" if seen else ""
    links = f"; {links_passed_over(found)}" if found.links else ""
    return NothingToDoError(f"{where}: holds no {wanted} files{only}{links}")


def links_passed_over(found: Found) -> str:
    """The sentence about links to folders: links can form loops, so they are not followed."""
    first, others = display_path(found.links[0]), len(found.links) - 1
    more = f" and {others} more links" if others else ""
    return f"{first}{more} to folders not followed; name them to include them"
