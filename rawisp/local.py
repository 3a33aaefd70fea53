"""What tells a path from a URL. rawisp reads and writes local files only."""

from __future__ import annotations

import os
import re

from rawisp.errors import UsageError, display_path

# RFC 3986, section 3.1. One letter would be a drive of another system, and "module:factory" a name.
_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


def refuse_url(text: str | os.PathLike[str], what: str = "") -> None:
    """UsageError when `text` is a URL: as a path it would be a folder called ``s3:``.

    what: the option or argument that it was given for, "" when there is none.
    """
    path = os.fspath(text)
    match = _URL.match(path)
    if match is None:
        return
    scheme = match[1].lower()
    if scheme == "file":
        advice = "write the path alone"
    elif what in ("-o", "--out"):
        advice = "write to a folder here and copy it, or mount the storage"
    else:
        advice = "copy the files here, or mount the storage"
    given = f"{what} " if what else ""
    raise UsageError(
        f"{given}{display_path(path)}: is a URL, rawisp works on local files; {advice}"
    )
