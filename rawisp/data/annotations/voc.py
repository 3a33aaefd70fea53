"""Pascal VOC: one XML file for each photograph.

VOC counts pixels from 1 and includes the last one (the devkit's xmin = 1 is the first column), so
a box covers x = xmin - 1 to xmax on continuous edges: width = xmax - xmin + 1. Numbers with a
fraction are converted alike. Tools that write 0 for the first pixel are a pixel off to the upper
left by this rule; such a box is cut to the frame and the row is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from rawisp.data.annotations.judge import Evidence, judge
from rawisp.data.annotations.labels import LabeledImage, LabelSet, Problem, name_of_label
from rawisp.data.annotations.rows import Box, BoxRows, Classes, ProblemList, finite, short
from rawisp.data.annotations.xml_file import Element, read_xml
from rawisp.errors import AnnotationError, display_path
from rawisp.raw.files import Search, find_sources

OUR_MARK = "moved by rawisp"  # in <source><annotation> of what rawisp writes itself

_FLAGS = ("difficult", "truncated", "occluded")


@dataclass(frozen=True)
class _Object:
    """One row: its box on continuous edges, or a complaint; `mended`: what was put right.

    written: the corners as the file has them, None where they are no numbers. degrees: by which
    the box is turned about its centre.
    """

    place: str
    name: str
    box: Box | None
    complaint: str
    mended: str
    written: Box | None
    attributes: dict[str, object]
    degrees: float = 0.0


@dataclass(frozen=True)
class _Photograph:
    """One file before its boxes are checked.

    size: None where the file states none. ours: whether rawisp wrote it for one of its outputs.
    """

    path: str
    name: str
    size: tuple[int, int] | None
    objects: list[_Object]
    ours: bool = False


def read_voc(path: str, *, root: str | None = None, search: Search | None = None) -> LabelSet:
    """The boxes of one XML file, or of all below a folder.

    Names are relative to `root`, else to the folder. In a folder a file that cannot be read is a
    problem of its own; AnnotationError when none can. Classes are in alphabetical order, since VOC
    lists none.
    """
    named = not os.path.isdir(path)
    problems: list[Problem] = []
    found = list(_photographs(path, root, problems, named, search))
    # What `enhance` wrote in a folder among them is in the pixels of its outputs.
    photographs = [one for one in found if not one.ours] or found
    if not photographs:
        if problems:
            raise AnnotationError(f"{display_path(problems[0].file)}: {problems[0].what}")
        raise AnnotationError(f"{display_path(path)}: holds no VOC annotations (.xml)")
    classes = Classes(sorted({o.name for one in photographs for o in one.objects if o.name}))
    sizes = {one.size for one in photographs if one.size}
    only_size = sizes.pop() if len(sizes) == 1 else None
    images = []
    evidence = Evidence()
    for one in photographs:
        listed = ProblemList(one.path)
        images.append(_image(one, only_size, classes, listed, evidence))
        problems += listed.problems
    judge(path, evidence, "corners")
    kept = tuple(image for image in images if image is not None)
    return LabelSet(path, "VOC", classes.names, kept, tuple(problems))


def _photographs(
    path: str, root: str | None, problems: list[Problem], named: bool, search: Search | None
) -> Iterator[_Photograph]:
    base = root or (os.path.dirname(path) if named else path) or "."
    for source in find_sources([path], frozenset([".xml"]), search=search).sources:
        try:
            element = read_xml(source.path)
        except AnnotationError as error:
            if named:
                raise
            what = str(error).removeprefix(f"{display_path(source.path)}: ")
            problems.append(Problem(source.path, "", what))
            continue
        if element.tag == "annotation":
            name = name_of_label(os.path.relpath(source.path, base))
            objects = [_object(thing) for thing in element.all("object")]
            yield _Photograph(source.path, name, _size(element), objects, _is_ours(element))
        elif named:
            raise AnnotationError(
                f"{display_path(path)}: is no VOC annotation; its outermost element is "
                f"<{short(element.tag)}>, not <annotation>"
            )


def _is_ours(root: Element) -> bool:
    source = root.first("source")
    return source is not None and source.text_of("annotation") == OUR_MARK


def _size(root: Element) -> tuple[int, int] | None:
    size = root.first("size")
    if size is None:
        return None
    width, height = (_number(size.text_of(key)) for key in ("width", "height"))
    if width is None or height is None or min(width, height) < 1:
        return None
    return round(width), round(height)


def _image(
    one: _Photograph,
    only_size: tuple[int, int] | None,
    classes: Classes,
    problems: ProblemList,
    evidence: Evidence,
) -> LabeledImage | None:
    size = one.size
    if size is None:
        if only_size is None:
            problems.wrong("", "states no usable size (width and height above 0); left out")
            return None
        size = only_size
        problems.mended(
            "", f"states no usable size; {size[0]}x{size[1]} taken, as in all other files"
        )
    rows = BoxRows(size, problems)
    for row in one.objects:
        if row.written is not None:
            evidence.add(row.written, size)
        if row.box is None:
            rows.refuse(row.place, row.complaint)
            continue
        if row.mended:
            problems.mended(row.place, row.mended)
        label = classes.index(row.name)
        rows.add_rotated(row.place, row.box, label, row.attributes, row.degrees)
    return rows.image(one.name, one.name)


def _object(thing: Element) -> _Object:
    name = thing.text_of("name")
    written, said = _corners(thing)
    box, said = (None, said) if written is None else _edges(written)
    if not name:
        box, said = None, "an object without a name"
    elif box is None:
        said = f"{short(name)} {said}"
    complaint, mended = ("", said) if box else (said, "")
    more = _attributes(thing), _rotation(thing)
    return _Object(thing.place, name, box, complaint, mended, written, *more)


def _corners(thing: Element) -> tuple[Box | None, str]:
    """xmin, ymin, xmax, ymax as written, or None and what is wrong."""
    bounds = thing.first("bndbox")
    if bounds is None:
        return None, "has no bndbox"
    values = []
    for key in ("xmin", "ymin", "xmax", "ymax"):
        value = _number(bounds.text_of(key))
        if value is None:
            return None, f"has the {key} {short(repr(bounds.text_of(key)))}, no finite number"
        values.append(value)
    return (values[0], values[1], values[2], values[3]), ""


def _edges(corners: Box) -> tuple[Box, str]:
    """The box on continuous edges and what was put right."""
    xmin, ymin, xmax, ymax = corners
    said = ""
    # Since the last pixel is included, a box narrower than a pixel has xmin above xmax.
    if xmin >= xmax + 1 or ymin >= ymax + 1:
        said = "the corners of its bndbox are exchanged; put right"
        xmin, xmax = (xmax, xmin) if xmin >= xmax + 1 else (xmin, xmax)
        ymin, ymax = (ymax, ymin) if ymin >= ymax + 1 else (ymin, ymax)
    return (xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1), said


def _attributes(thing: Element) -> dict[str, object]:
    attributes: dict[str, object] = {}
    for flag in _FLAGS:
        value = _number(thing.text_of(flag))
        if value is not None:
            attributes[flag] = value != 0
    pose = thing.text_of("pose")
    return {**attributes, "pose": pose} if pose else attributes


def _rotation(thing: Element) -> float:
    """CVAT writes it among the attributes of an object, in degrees."""
    listed = thing.first("attributes")
    for attribute in listed.all("attribute") if listed is not None else ():
        if attribute.text_of("name") == "rotation":
            return _number(attribute.text_of("value")) or 0.0
    return 0.0


def _number(text: str) -> float | None:
    try:
        return finite(float(text))
    except ValueError:
        return None
