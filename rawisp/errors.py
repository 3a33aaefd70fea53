"""Every exception that rawisp raises on purpose.

    RawispError                    anything below; its text is one sentence for a person
    ├── InputError                 one input file cannot be used; the others go on (exit code 1)
    │   ├── UnreadableFileError      missing, a folder, a pipe, no permission, empty
    │   ├── CorruptFileError         damaged or cut short, or no RAW file at all
    │   ├── UnsupportedRawError      a RAW file whose samples are not a 2x2 Bayer mosaic
    │   ├── TooLargeError            more pixels than the limit allows
    │   ├── ColorMatrixError         XYZ is asked for and no matrix is known
    │   ├── FrameMismatchError       annotations drawn on a frame this file does not have
    │   └── ProcessingError          the worker died, hung, ran out of memory or gave a bad image
    ├── UsageError                 the command or call cannot work as given (exit code 2)
    │   ├── InvalidArrayError        a wrong shape, dtype or layout handed to the library
    │   ├── CheckpointError          a checkpoint that cannot be loaded
    │   ├── AnnotationError          an annotation file that cannot be read
    │   └── OutputError              an output folder that cannot be used
    ├── TrainingError              a training run cannot go on (exit code 1)
    ├── NothingUsableError         photographs were found and all of them failed (exit code 1)
    ├── NothingToDoError           no input matched (exit code 3)
    └── OutputFullError            the disk is full; the run stops (exit code 1)

A bug in rawisp itself is an AssertionError or whatever Python raises, never one of these.
"""

from __future__ import annotations

import os


def display_path(path: str | os.PathLike[str]) -> str:
    """`path` as one line that any terminal accepts.

    Bytes that are no UTF-8, line breaks and other control characters appear as ``\\xNN``.
    """
    return printable(os.fsencode(path).decode("utf-8", "backslashreplace"))


def printable(text: str) -> str:
    """`text` with what is not printable escaped: a file's name or tags cannot forge a message."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


class RawispError(Exception):
    """Root of the family. `exit_code` is what the command line returns for it."""

    exit_code = 1


class InputError(RawispError):
    """One input file cannot be used: ``FILE: what is wrong; what to do``.

    `path`, `problem` and `advice` keep the parts, so that a table can show them apart.
    """

    def __init__(self, path: str | os.PathLike[str], problem: str, advice: str = "") -> None:
        self.path = os.fspath(path)
        self.problem = problem
        self.advice = advice
        super().__init__(self.path, problem, advice)

    @property
    def reason(self) -> str:
        """What is wrong and what to do, without the file's name."""
        return f"{self.problem}; {self.advice}" if self.advice else self.problem

    def __str__(self) -> str:
        return f"{display_path(self.path)}: {self.reason}"


class UnreadableFileError(InputError):
    """The path is missing, no regular file, empty, or may not be read."""


class CorruptFileError(InputError):
    """The bytes are damaged, cut short, or no RAW file."""


class UnsupportedRawError(InputError):
    """A RAW file that is not a 2x2 Bayer mosaic of red, green, green and blue."""


class TooLargeError(InputError):
    """The file declares more pixels than ``max_megapixels``; nothing was decoded."""


class ColorMatrixError(InputError):
    """XYZ was asked for, and neither LibRaw nor the file knows the camera's matrix."""


class FrameMismatchError(InputError):
    """The annotations' image size equals none, or several, of the file's frames."""


class ProcessingError(InputError):
    """A worker died or hung on the file, or the ISP returned something that is no image."""


class UsageError(RawispError):
    """The command or call cannot work as given."""

    exit_code = 2


class InvalidArrayError(UsageError, ValueError):
    """An array, level, matrix or pattern of the wrong shape, dtype, range or layout."""


class CheckpointError(UsageError):
    """A checkpoint that is missing, damaged, of another kind, or lacks what is needed."""


class AnnotationError(UsageError):
    """An annotation file that is missing, malformed or ambiguous."""


class OutputError(UsageError):
    """An output folder that is in use, unwritable, or holds files that would be lost."""


class TrainingError(RawispError):
    """A training run cannot go on: the loss is not finite, or memory has run out."""


class NothingUsableError(RawispError):
    """Photographs were found, and every one of them failed."""


class NothingToDoError(RawispError):
    """No input matched."""

    exit_code = 3


class OutputFullError(RawispError):
    """The output's file system is full or over quota; continuing would fail every file."""
