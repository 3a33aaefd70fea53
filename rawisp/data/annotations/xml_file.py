"""XML as elements with line numbers. Documents that declare a type or entities are refused.

A DOCTYPE is the door to entities that expand to gigabytes or read other files, and annotations
need none; Python's own ElementTree would expand them and forget the lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from rawisp.data.annotations.rows import short
from rawisp.data.annotations.text import read_bytes
from rawisp.errors import AnnotationError, display_path

_MAX_BYTES = 64 << 20
# A document of many empty elements takes some hundred times its size in memory.
_MAX_ELEMENTS = 1_000_000
_LONGEST_TEXT = 10_000  # characters; the rest is not read


@dataclass(slots=True)
class Element:
    """A tag, the line where it begins, the text directly inside, its children."""

    tag: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    @property
    def place(self) -> str:
        """As problems name it."""
        return f"line {self.line}"

    def all(self, tag: str) -> Iterator[Element]:
        """The children called `tag`."""
        return (child for child in self.children if child.tag == tag)

    def first(self, tag: str) -> Element | None:
        """The first child called `tag`."""
        return next(self.all(tag), None)

    def text_of(self, tag: str) -> str:
        """The text of the first child called `tag`, "" if there is none."""
        child = self.first(tag)
        return child.text.strip() if child is not None else ""


def read_xml(path: str) -> Element:
    """The root element. AnnotationError for what is no XML, or more than plain XML."""
    shown = display_path(path)
    content = read_bytes(path, _MAX_BYTES)
    builder = _Builder(shown)
    try:
        builder.parser.Parse(content, True)
    except expat.ExpatError as error:
        what = expat.errors.messages.get(error.code, "")
        raise AnnotationError(
            f"{shown}: is no XML (line {error.lineno}: {short(what) or 'damaged'})"
        ) from None
    except (ValueError, LookupError) as error:  # an encoding that expat does not know
        raise AnnotationError(f"{shown}: is no XML that can be read ({short(error)})") from None
    return builder.root.children[0]


class _Builder:
    """Grows the tree under `root` while expat reads; a stack of its own, so depth costs nothing."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._count = 0
        self.root = Element("", 0)
        self._open = [self.root]
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse

    def _start(self, tag: str, _: dict[str, str]) -> None:
        self._count += 1
        if self._count > _MAX_ELEMENTS:
            raise AnnotationError(f"{self._shown}: has more than {_MAX_ELEMENTS:,} elements")
        element = Element(tag, self.parser.CurrentLineNumber)
        self._open[-1].children.append(element)
        self._open.append(element)

    def _end(self, _: str) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        if len(self._open[-1].text) < _LONGEST_TEXT:
            self._open[-1].text += text

    def _refuse(self, *_: object) -> None:
        raise AnnotationError(
            f"{self._shown}: declares a document type or entities (line "
            f"{self.parser.CurrentLineNumber}), which annotations do not need; remove the DOCTYPE"
        )
