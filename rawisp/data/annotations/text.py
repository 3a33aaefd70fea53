"""Annotation files as text: one sentence for each way in which reading fails."""

from __future__ import annotations

import os

from rawisp.errors import AnnotationError, UnreadableFileError, display_path
from rawisp.raw import open_regular_file


def read_bytes(path: str, most: int) -> bytes:
    """The file's content. AnnotationError when it is missing, no file, or longer than `most`."""
    shown = display_path(path)
    try:
        with open_regular_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read() if size <= most else b""
    except UnreadableFileError as error:
        if error.problem == "does not exist":
            raise AnnotationError(f"{shown}: there is no such annotation file") from None
        raise AnnotationError(str(error)) from None
    except OSError as error:
        raise AnnotationError(f"{shown}: cannot be read ({error.strerror or error})") from None
    except MemoryError:
        raise AnnotationError(f"{shown}: does not fit into memory; split it") from None
    if size > most:
        raise AnnotationError(
            f"{shown}: has {size / 1e6:,.0f} MB, no annotation file of this kind needs more than "
            f"{most / 1e6:,.0f}; split it"
        )
    return content


def read_text(path: str, most: int) -> str:
    """The file as text, its line ends "\\n", whatever wrote it. UnicodeDecodeError (a ValueError).

    UTF-8 with or without a byte order mark, and UTF-16 with one, as Windows editors save it.
    """
    content = read_bytes(path, most)
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: str, most: int) -> list[tuple[str, str]]:
    """The lines that say something, each with its place ("line 7"). AnnotationError."""
    try:
        text = read_text(path, most)
    except UnicodeDecodeError:
        raise AnnotationError(
            f"{display_path(path)}: is no text (neither UTF-8 nor UTF-16)"
        ) from None
    return [
        (f"line {number}", line.strip())
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]
