"""Whether a folder can be written, asked before hours of work rather than after."""

from __future__ import annotations

import os
import tempfile


def unwritable(folder: str) -> str | None:
    """Why no file can be made in `folder`, which need not exist yet; None where one can.

    A file is made in the folder, or in the nearest one above that exists, and removed again.
    """
    nearest = os.path.abspath(folder)
    while not os.path.lexists(nearest) and os.path.dirname(nearest) != nearest:
        nearest = os.path.dirname(nearest)
    try:
        with tempfile.TemporaryFile(dir=nearest, prefix=".rawisp-"):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__
