"""The command's own streams: closed ones, full ones, and readers that have gone."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

# What a shell reports of a program that a broken pipe has ended: 128 + SIGPIPE.
READER_GONE = 141


class WatchedStream:
    """stdout or stderr; remembers that it could not be written, whoever was writing and why.

    An OSError does not say whose it is, and Rich and Typer turn a broken pipe into an exit code of
    their own.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self.name_for_people = name
        self.failure: OSError | None = None
        self._stream = stream

    def write(self, text: str) -> int:
        """As of the stream."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            raise

    def flush(self) -> None:
        """As of the stream."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: OSError) -> None:
        """What the stream still holds goes nowhere, so that the interpreter ends quietly."""
        self.failure = error
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


@contextmanager
def watched_streams() -> Iterator[tuple[WatchedStream, WatchedStream]]:
    """sys.stdout and sys.stderr, usable whatever the caller has left of them, and watched."""
    _open_closed_descriptors()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (as long as the process)
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):  # names of any alphabet on any terminal
            stream.reconfigure(errors="backslashreplace")
    before = sys.stdout, sys.stderr
    watched = WatchedStream(sys.stdout, "stdout"), WatchedStream(sys.stderr, "stderr")
    sys.stdout, sys.stderr = cast(TextIO, watched[0]), cast(TextIO, watched[1])
    try:
        yield watched
    finally:
        sys.stdout, sys.stderr = before


def _open_closed_descriptors() -> None:
    """`2>&-` closes a descriptor; it becomes /dev/null.

    Otherwise the next file that is opened would take its number, and what native libraries print
    would end up in that file.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
