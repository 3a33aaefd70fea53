"""Advisory locks that die with their process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rawisp.errors import OutputError, display_path


@contextmanager
def output_folder_lock(folder: str) -> Iterator[None]:
    """Holds `folder` for one run. OutputError when another run holds it."""
    path = os.path.join(folder, ".rawisp.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"{display_path(folder)}: cannot be written ({error.strerror})") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"{display_path(folder)}: another rawisp run is writing there; wait for it or "
                "choose another -o"
            ) from None
        except OSError:  # a network file system without locks: go on without
            pass
        yield
    finally:
        os.close(descriptor)


@contextmanager
def waiting_lock(path: str) -> Iterator[None]:
    """Holds `path`, waiting for whoever has it; no lock at all where locks do not work."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
