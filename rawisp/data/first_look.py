"""Whether a folder can be a data set at all, seen in a moment and without torch."""

from __future__ import annotations

import os

from rawisp.errors import UsageError, display_path
from rawisp.raw import RAW_SUFFIXES
from rawisp.raw.files import find_sources, nothing_found, suffix_of


def check_folder(data: str | os.PathLike[str]) -> None:
    """UsageError when `data` is no folder, NothingToDoError when surely no RAW file is below it."""
    root = os.fspath(data)
    if not os.path.isdir(root):
        raise UsageError(f"{display_path(root)}: is no folder; name the folder of RAW files")
    if not _may_hold_raw_files(root):
        raise nothing_found([root], find_sources([root], RAW_SUFFIXES), "camera RAW")


def _may_hold_raw_files(root: str) -> bool:
    """False where there is surely none below `root`; the search ends with the first.

    Links to folders and folders that cannot be listed are what `find_dataset` has sentences for.
    """
    unreadable: list[OSError] = []
    for here, folders, files in os.walk(root, onerror=unreadable.append):
        if any(suffix_of(name) in RAW_SUFFIXES for name in files):
            return True
        if any(os.path.islink(os.path.join(here, name)) for name in folders):
            return True
    return bool(unreadable)
