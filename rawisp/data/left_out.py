"""Which photographs of a data set are not used, and why: a line for people, values for files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from rawisp.errors import display_path

# Reasons that differ only in their numbers are one: "ends 512 bytes too early".
_NUMBER = re.compile(r"\d+(?:[.,x]\d+)*")


@dataclass(frozen=True)
class Group:
    """`count` photographs that are left out for one reason; `first` is one, below the data's root.

    failed: whether they should have been used, so that a command returns 1; otherwise the data set
    itself says that they are none of its photographs.
    """

    why: str
    count: int
    first: str
    failed: bool = False


@dataclass(frozen=True)
class LeftOut:
    """used: how many photographs are used. groups: those that are not, by reason. suspects: those
    that are used although they look damaged, by reason."""

    used: int = 0
    groups: tuple[Group, ...] = ()
    suspects: tuple[Group, ...] = ()

    @property
    def count(self) -> int:
        """How many are not used."""
        return sum(group.count for group in self.groups)

    @property
    def failed(self) -> int:
        """How many of those should have been used."""
        return sum(group.count for group in self.groups if group.failed)

    @property
    def must_be_said(self) -> bool:
        """Whether something is wrong, so that even a quiet command speaks of it."""
        return bool(self.failed or self.suspects)

    def __str__(self) -> str:
        """ "12 photographs used, 3 left out: a.ARW and 1 more: is empty" """
        text = f"{self.used} photograph{'' if self.used == 1 else 's'} used, "
        if self.groups:
            text += f"{self.count} left out: {'; '.join(map(_phrase, self.groups))}"
        else:
            text += "none left out"
        if self.suspects:
            text += (
                f"; looking damaged, used all the same: {'; '.join(map(_phrase, self.suspects))}"
            )
        return text

    def record(self) -> dict[str, Any]:
        """As JSON values: {"used", "left_out": [{"why", "count", "first", "failed"}, ...]}.

        Where photographs look damaged, "suspect" lists them in the same way.
        """
        told = {"used": self.used, "left_out": [asdict(group) for group in self.groups]}
        if self.suspects:
            told["suspect"] = [asdict(group) for group in self.suspects]
        return told


def _phrase(group: Group) -> str:
    more = f" and {group.count - 1} more" if group.count > 1 else ""
    return f"{display_path(group.first)}{more}: {group.why}"


def grouped(failures: Mapping[str, str]) -> tuple[Group, ...]:
    """Failures, {name: reason}, by reason, the most frequent first; advice is not repeated."""
    files: dict[str, list[str]] = {}
    for file, reason in failures.items():
        files.setdefault(_NUMBER.sub("#", reason), []).append(file)
    groups = [
        Group(failures[listed[0]].split("; ")[0], len(listed), listed[0], failed=True)
        for listed in files.values()
    ]
    return tuple(sorted(groups, key=lambda group: -group.count))


def left_out_of(
    used: int,
    groups: Iterable[Group],
    failures: Mapping[str, str],
    suspects: Mapping[str, str] | None = None,
) -> LeftOut:
    """What failed before what the data set itself leaves out; both by reason, as the suspects."""
    looking_damaged = (replace(group, failed=False) for group in grouped(suspects or {}))
    return LeftOut(used, (*grouped(failures), *groups), tuple(looking_damaged))
