"""Broken annotation files: each ends in a Problem or in one AnnotationError, never otherwise."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rawisp.data.annotations import read_annotations
from rawisp.data.annotations.labels import LabelSet
from rawisp.errors import AnnotationError

Json = dict[str, Any]

COCO: Json = {
    "images": [
        {"id": 1, "file_name": "a.ARW", "width": 100, "height": 60},
        {"id": 2, "file_name": "b.ARW", "width": 100, "height": 60},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 16]},
        {"id": 2, "image_id": 2, "category_id": 3, "bbox": [0, 0, 100, 60]},
        {"id": 3, "image_id": 2, "category_id": 1, "bbox": [5, 5, 10, 10]},
    ],
}
BOX, IMAGE, CATEGORY = ("annotations", 0), ("images", 0), ("categories", 0)
GONE = object()


def changed(*changes: tuple[str, int, str, Any]) -> Json:
    document = copy.deepcopy(COCO)
    for part, number, key, value in changes:
        if value is GONE:
            del document[part][number][key]
        else:
            document[part][number][key] = value
    return document


def box(*values: Any) -> Json:
    return changed((*BOX, "bbox", list(values)))


# name: (document or text, kind, words of the sentence). "wrong" and "mended": a Problem.
BROKEN_COCO: dict[str, tuple[Any, str, str]] = {
    "nan": (box(float("nan"), 0, 5, 5), "wrong", "annotations[0]: its bbox [nan"),
    "infinite": (box(0, 0, float("inf"), 5), "wrong", "not four finite numbers"),
    "beyond floats": ('{"images": [], "annotations": [], "x": 1' + "0" * 400 + "}", "fine", ""),
    "box beyond floats": (box(0, 0, 10**400, 5), "wrong", "not four finite numbers"),
    "endless digits": ('{"images": [' + "1" * 5000 + '], "annotations": []}', "error", "no JSON"),
    "width 0": (box(5, 5, 0, 5), "mended", "has no area"),
    "width -1": (box(5, 5, -1, 5), "wrong", "negative width or height"),
    "height 1e-30": (box(5, 5, 5, 1e-30), "mended", "has no area"),
    "outside right": (box(100, 5, 5, 5), "wrong", "lies outside the 100x60 frame"),
    "outside above": (box(5, -50, 5, 5), "wrong", "lies outside the 100x60 frame"),
    "past the corner": (box(90, 50, 20, 20), "mended", "reaches past the 100x60 frame; cut"),
    "negative origin": (box(-3, 5, 10, 10), "mended", "reaches past"),
    "three numbers": (box(1, 2, 3), "wrong", "not four finite numbers"),
    "text in the box": (box("1", 2, 3, 4), "wrong", "not four finite numbers"),
    "true in the box": (box(True, 2, 3, 4), "wrong", "not four finite numbers"),
    "box is null": (changed((*BOX, "bbox", None)), "wrong", "not four finite numbers"),
    "no bbox": (changed((*BOX, "bbox", GONE)), "wrong", 'has no "bbox"'),
    "no image_id": (changed((*BOX, "image_id", GONE)), "wrong", "no image has its image_id None"),
    "orphan": (changed((*BOX, "image_id", 99)), "wrong", "no image has its image_id 99"),
    "image_id is a list": (changed((*BOX, "image_id", [1])), "wrong", "no image has its image_id"),
    "image_id as text": (changed((*BOX, "image_id", "1")), "mended", "that is text where"),
    "no category": (changed((*BOX, "category_id", GONE)), "wrong", "category_id None is not among"),
    "class 1e9": (changed((*BOX, "category_id", 10**9)), "wrong", "category_id 1000000000 is not"),
    "class NaN": (changed((*BOX, "category_id", float("nan"))), "wrong", "category_id nan"),
    "class as text": (changed((*BOX, "category_id", "1")), "mended", "that is text where"),
    "class is an object": (changed((*BOX, "category_id", {})), "wrong", "category_id {}"),
    "row is a number": ({**COCO, "annotations": [5]}, "wrong", "annotations[0]: is no object"),
    "box id twice": (changed(("annotations", 1, "id", 1)), "mended", "1 ids occur more than once"),
    "image is text": ({**COCO, "images": ["a"], "annotations": []}, "wrong", "images[0]: is no"),
    "image without id": (changed((*IMAGE, "id", GONE)), "wrong", 'has no "id"'),
    "image id is null": (changed((*IMAGE, "id", None)), "wrong", "neither a whole number nor text"),
    "image id 1.5": (changed((*IMAGE, "id", 1.5)), "wrong", "neither a whole number nor text"),
    "image id twice": (changed(("images", 1, "id", 1)), "wrong", "is given to 2 images"),
    "image repeated": (
        {**COCO, "images": [*COCO["images"], COCO["images"][0]]}, "mended", "repeats images[0]",
    ),
    "no file_name": (changed((*IMAGE, "file_name", GONE)), "wrong", 'has no "file_name"'),
    "file_name is 5": (changed((*IMAGE, "file_name", 5)), "wrong", "its file_name 5 is no name"),
    "no width": (changed((*IMAGE, "width", GONE)), "wrong", 'has no "width"'),
    "width is 0": (changed((*IMAGE, "width", 0)), "wrong", "no whole number above 0"),
    "width is text": (changed((*IMAGE, "width", "100")), "wrong", "no whole number above 0"),
    "category without name": (changed((*CATEGORY, "name", GONE)), "wrong", "has no name"),
    "category without id": (changed((*CATEGORY, "id", GONE)), "wrong", "person has no id"),
    "category id twice": (changed((*CATEGORY, "id", 3)), "wrong", "its id 3 is person's already"),
    "category name twice": (changed((*CATEGORY, "name", "car")), "mended", "second category"),
    "no categories": ({**COCO, "categories": []}, "error", "lists no categories"),
    "categories are text": ({**COCO, "categories": "person"}, "error", "lists no categories"),
    "no annotations": ({"images": []}, "error", 'needs the lists "images" and "annotations"'),
    "a list": ([], "error", "is no COCO detection file"),
    "null": ("null", "error", "is no COCO detection file"),
    "empty": ("", "error", "is no JSON"),
    "cut short": (json.dumps(COCO)[:200], "error", "is no JSON"),
    "nested deep": ("[" * 100_000, "error", "is no JSON"),
    "binary": (b"\x80\x81\x82" * 50, "error", "is no JSON"),
    "byte order mark": (b"\xef\xbb\xbf" + json.dumps(COCO).encode(), "fine", ""),
    "UTF-16": (json.dumps(COCO).encode("utf-16"), "fine", ""),
    "CRLF": (json.dumps(COCO, indent=1).replace("\n", "\r\n"), "fine", ""),
}  # fmt: skip


def check(read: Callable[[], LabelSet], path: Path, kind: str, words: str) -> None:
    if kind == "error":
        with pytest.raises(AnnotationError) as caught:
            read()
        sentence = str(caught.value)
        assert words in sentence and path.name in sentence and "\n" not in sentence, sentence
        assert len(sentence) < 400
        return
    labels = read()
    for image in labels.images:
        assert image.boxes.shape == (len(image.classes), 4) and (image.boxes[:, 2:] > 0).all()
        assert len(image.where) == len(image.attributes) == len(image.boxes)
        assert not len(image.classes) or image.classes.max() < len(labels.categories)
    said = [(problem, f"{problem.place}: {problem.what}") for problem in labels.problems]
    assert all(text.isprintable() and len(text) < 300 for _, text in said)
    if kind == "fine":
        assert not said
    else:
        assert any(words in text and p.mended == (kind == "mended") for p, text in said), said


@pytest.mark.parametrize("name", BROKEN_COCO)
def test_broken_coco(tmp_path: Path, name: str) -> None:
    value, kind, words = BROKEN_COCO[name]
    text = value if isinstance(value, str | bytes) else json.dumps(value)
    path = tmp_path / "labels.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    check(lambda: read_annotations(path), path, kind, words)


def test_what_can_be_read_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(changed(("annotations", 1, "bbox", [0, 0, -1, 5]))))
    labels = read_annotations(path)
    assert [len(image.boxes) for image in labels.images] == [1, 1]
    (problem,) = labels.problems
    assert (
        str(problem)
        == f"{path}, annotations[1]: its box [0, 0, -1, 5] has a negative width or height"
    )


def test_a_photograph_whose_boxes_are_all_unusable_does_not_pass_for_an_empty_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(box(0, 0, -1, 5)))
    labels = read_annotations(path)
    assert [image.name for image in labels.images] == ["b"]
    assert "its box cannot be used; a is left out" in labels.problems[-1].what


VOC = """<annotation>
<filename>a.jpg</filename>
<size><width>100</width><height>60</height><depth>3</depth></size>
<object><name>person</name>
<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>36</ymax></bndbox></object>
<object><name>car</name>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>100</xmax><ymax>60</ymax></bndbox></object>
</annotation>
"""
BOMB = """<?xml version="1.0"?>
<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>
<annotation><filename>&c;</filename></annotation>
"""
OUTSIDE_ENTITY = """<!DOCTYPE annotation [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<annotation><filename>&a;</filename></annotation>"""


def voc(old: str, new: str) -> str:
    assert old in VOC
    return VOC.replace(old, new, 1)


BROKEN_VOC: dict[str, tuple[str | bytes, str, str]] = {
    "XML bomb": (BOMB, "error", "declares a document type or entities"),
    "outside entity": (OUTSIDE_ENTITY, "error", "declares a document type or entities"),
    "plain DOCTYPE": ("<!DOCTYPE annotation>" + VOC, "error", "declares a document type"),
    "empty": ("", "error", "is no XML"),
    "cut short": (VOC[:150], "error", "is no XML"),
    "binary": (b"\x00\xff\xfe" * 100, "error", "is no XML"),
    "unknown encoding": ('<?xml version="1.0" encoding="klingon"?>' + VOC, "error", "is no XML"),
    "other root": ("<html><body/></html>", "error", "outermost element is <html>"),
    "nested deep": ("<annotation>" + "<a>" * 100_000, "error", "is no XML"),
    "no size": (voc("<size>", "<sise>").replace("</size>", "</sise>"), "wrong", "no usable size"),
    "size 0": (voc("<width>100", "<width>0"), "wrong", "states no usable size"),
    "size is text": (voc("<width>100", "<width>wide"), "wrong", "states no usable size"),
    "no name": (voc("<name>person</name>", ""), "wrong", "an object without a name"),
    "no bndbox": (
        voc("<bndbox>", "<box>").replace("</bndbox>", "</box>", 1), "wrong", "has no bndbox",
    ),
    "no xmax": (voc("<xmax>40</xmax>", ""), "wrong", "has the xmax ''"),
    "NaN": (voc("<xmin>11", "<xmin>nan"), "wrong", "has the xmin 'nan', no finite number"),
    "infinite": (voc("<xmax>40", "<xmax>1e999"), "wrong", "no finite number"),
    "exchanged": (
        voc("<xmin>11</xmin>", "<xmin>50</xmin>"), "mended", "line 4: the corners of its bndbox",
    ),
    "outside": (
        voc("<xmin>11", "<xmin>111").replace("<xmax>40", "<xmax>140", 1), "wrong", "lies outside",
    ),
    "past the frame": (voc("<xmax>40", "<xmax>140"), "mended", "reaches past the 100x60 frame"),
    "counted from 0": (voc("<xmin>11", "<xmin>0"), "mended", "reaches past the 100x60 frame"),
    "byte order mark": (b"\xef\xbb\xbf" + VOC.encode(), "fine", ""),
    "UTF-16": (VOC.encode("utf-16"), "fine", ""),
    "CRLF": (VOC.replace("\n", "\r\n"), "fine", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_VOC)
def test_broken_voc(tmp_path: Path, name: str) -> None:
    text, kind, words = BROKEN_VOC[name]
    path = tmp_path / "a.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    check(lambda: read_annotations(path), path, kind, words)


@pytest.mark.parametrize("name", [n for n, case in BROKEN_VOC.items() if case[1] == "error"])
def test_a_broken_voc_file_in_a_folder_is_one_problem(tmp_path: Path, name: str) -> None:
    text = BROKEN_VOC[name][0]
    (tmp_path / "a.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "b.xml").write_text(VOC)
    labels = read_annotations(tmp_path)
    assert [image.name for image in labels.images] == ["b"]
    if name != "other root":  # some other tool's file, not a broken one
        (problem,) = labels.problems
        assert problem.file == str(tmp_path / "a.xml") and not problem.mended


ROW = "0 0.25 0.5 0.3 0.2"
BROKEN_YOLO: dict[str, tuple[str | bytes, str, str]] = {
    "class only": (f"{ROW}\n1\n", "wrong", "line 2: is a class without a box"),
    "three values": (f"{ROW}\n1 0.5 0.5\n", "wrong", "line 2: has 3 values"),
    "score at the end": (f"{ROW}\n1 0.5 0.5 0.1 0.1 0.9\n", "wrong", "has 6 values"),
    "text": (f"{ROW}\nperson 0.5 0.5 0.1 0.1\n", "wrong", "is not numbers"),
    "commas": (f"{ROW}\n0,0.5,0.5,0.1,0.1\n", "wrong", "is not numbers"),
    "NaN": (f"{ROW}\n1 nan 0.5 0.1 0.1\n", "wrong", "has a value that is not finite"),
    "infinite": (f"{ROW}\n1 0.5 0.5 inf 0.1\n", "wrong", "has a value that is not finite"),
    "class 1e9": (f"{ROW}\n1000000000 0.5 0.5 0.1 0.1\n", "wrong", "class 1000000000 is too"),
    "class -1": (f"{ROW}\n-1 0.5 0.5 0.1 0.1\n", "wrong", "class -1 is no whole number"),
    "class 1.5": (f"{ROW}\n1.5 0.5 0.5 0.1 0.1\n", "wrong", "class 1.5 is no whole number"),
    "pixels": (f"{ROW}\n1 320 240 64 64\n", "wrong", "has the coordinate 320, not within 0 to 1"),
    "negative centre": (f"{ROW}\n1 -0.5 0.5 0.1 0.1\n", "wrong", "has the coordinate -0.5"),
    "negative width": (f"{ROW}\n1 0.5 0.5 -0.1 0.1\n", "wrong", "negative width or height"),
    "width 0": (f"{ROW}\n1 0.5 0.5 0 0.1\n", "mended", "has no area"),
    "past the frame": (f"{ROW}\n1 0.95 0.5 0.2 0.1\n", "mended", "reaches past the frame; cut"),
    "flat polygon": (f"{ROW}\n1 0.5 0.1 0.5 0.2 0.5 0.3\n", "mended", "has no area"),
    "polygon in pixels": (f"{ROW}\n1 5 1 50 2 5 3\n", "wrong", "has the coordinate 5"),
    "even polygon": (f"{ROW}\n1 0.5 0.1 0.5 0.2 0.6 0.3 0.7\n", "wrong", "has 8 values"),
    "binary": (b"\x80\x81" * 99, "error", "is no text"),
    "null bytes": (b"\0" * 99, "error", "is not numbers"),
    "blank lines": (f"\n\n{ROW}\n\n  \n", "fine", ""),
    "byte order mark": (b"\xef\xbb\xbf" + ROW.encode(), "fine", ""),
    "UTF-16": (ROW.encode("utf-16"), "fine", ""),
    "CRLF": (f"{ROW}\r\n{ROW}\r\n", "fine", ""),
    "old Mac's line ends": (f"{ROW}\r{ROW}", "fine", ""),
    "tabs": (ROW.replace(" ", "\t"), "fine", ""),
    "empty": ("", "fine", ""),
}


@pytest.mark.parametrize("name", BROKEN_YOLO)
def test_broken_yolo(tmp_path: Path, name: str) -> None:
    text, kind, words = BROKEN_YOLO[name]
    path = tmp_path / "labels" / "a.txt"
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if kind == "fine":
        (tmp_path / "labels" / "classes.txt").write_text("person\ncar\n")
    check(lambda: read_annotations(path.parent), path, kind, words)


YAML: dict[str, tuple[str | bytes, str, str]] = {
    "empty": ("", "error", "is no YOLO data set"),
    "a list": ("- a\n- b\n", "error", "is no YOLO data set"),
    "no YAML": ("names: [a\ntrain: x", "error", "is no YAML (line 2)"),
    "code": ("names: !!python/object/apply:os.system ['true']\n", "error", "is no YAML"),
    "an unknown tag": ("names: [a]\ntrain: !!int x\n", "error", "is no YAML that can be"),
    "a date that is none": (
        "names: [a]\ntrain: 2020-13-45\n",
        "error",
        "2020-13-45 does not exist",
    ),
    "names are text": ("names: person\ntrain: images\n", "error", "its names are neither"),
    "names are nested": ("names: [[a], b]\ntrain: images\n", "wrong", "is no class"),
    "no such folder": ("names: [a, b]\ntrain: pictures\n", "error", "pictures does not exist"),
    "no splits": ("names: [a, b]\n", "error", "leads to no YOLO labels"),
    "train is a number": ("names: [a, b]\ntrain: 5\n", "error", "5 does not exist"),
    "no such path": ("path: /nowhere\nnames: [a, b]\ntrain: images\n", "mended", "does not exist"),
    "name twice": ("names: [a, a]\ntrain: images\n", "mended", "occur more than once"),
    "val is train": ("names: [a, b]\ntrain: images\nval: images\n", "wrong", "an earlier split"),
    "nested deep": ("[" * 100_000, "error", "is no YAML"),
    "aliases": ("a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b]\ntrain: images\n", "error", "names"),
    "binary": (b"\x80\x81" * 9, "error", "is no YAML"),
    "byte order mark": (b"\xef\xbb\xbfnames: [a, b]\ntrain: images\n", "fine", ""),
    "CRLF": ("names:\r\n  0: a\r\n  1: b\r\ntrain: images\r\n", "fine", ""),
}


@pytest.mark.parametrize("name", YAML)
def test_broken_data_yaml(tmp_path: Path, name: str) -> None:
    text, kind, words = YAML[name]
    path = tmp_path / "data.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    check(lambda: read_annotations(path), path, kind, words)


@pytest.mark.parametrize("name", ["a.json", "a.xml", "a.yaml"])
def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(" ")
    os.truncate(path, 3 << 30)  # sparse: it takes no space
    with pytest.raises(AnnotationError, match=rf"{name}: has 3,221 MB"):
        read_annotations(path)


def test_a_huge_label_file_is_one_problem(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(ROW)
    os.truncate(tmp_path / "a.txt", 3 << 30)
    labels = read_annotations(tmp_path)
    assert [image.name for image in labels.images] == ["b"]
    assert any("has 3,221 MB" in problem.what for problem in labels.problems)


@pytest.mark.parametrize("name", ["a.json", "a.xml", "a.yaml", "a.txt", "a.csv", "folder", "x"])
def test_what_is_not_there_or_of_no_kind(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name in ("a.txt", "a.csv"):
        path.write_text("a,b,c")
    with pytest.raises(AnnotationError) as caught:
        read_annotations(path)
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.json", "a.xml", "a.yaml"])
def test_a_folder_or_pipe_called_like_a_file(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(AnnotationError, match="no regular file"):
        read_annotations(tmp_path / name)
