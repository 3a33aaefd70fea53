"""COCO files as they are found: read, refused naming the place, moved with all they hold."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rawisp.data.annotations.coco import CocoFile, Placed, moved_document, read_coco
from rawisp.errors import AnnotationError
from rawisp.geometry import Affine, flip_affine

Json = dict[str, Any]
RAW_NOD = {
    "raw_new_Nikon750_test.json": (400, 2852, 1),
    "raw_new_Sony_RX100m7_val.json": (321, 1896, 0),
    "raw_str_labeled_new_Sony_RX100m7_test.json": (321, 1827, 0),
}


def document() -> Json:
    return {
        "info": {"year": 2020},
        "images": [
            {"id": 1, "file_name": "a.ARW", "width": 100, "height": 60},
            {"id": "two", "file_name": "sub/b.NEF", "width": 100, "height": 60, "license": 1},
        ],
        "categories": [{"id": 3, "name": "car"}, {"id": 0, "name": "zero"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 20, 30, 16], "area": 480},
            {"id": 2, "image_id": "two", "category_id": 0, "bbox": [0.5, 1.5, 9.0, 7.25]},
        ],
    }


def load(tmp_path: Path, value: object) -> CocoFile:
    path = tmp_path / "labels.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return read_coco(str(path))


def move_all(
    coco: CocoFile, to_output: Affine, size: tuple[int, int]
) -> tuple[Json, dict[str, int]]:
    placed = [
        Placed(image, f"{image['id']}.png", *size, to_output) for image in coco.document["images"]
    ]
    return moved_document(coco, placed)


@pytest.fixture
def raw_nod(repository: Path) -> Path:
    folder = repository.parent / "shared" / "data" / "raw-nod"
    if not folder.is_dir():
        pytest.skip("RAW-NOD's annotations are not here")
    return folder


@pytest.mark.real_files
@pytest.mark.parametrize("name", RAW_NOD)
def test_raw_nod_loads_and_moves(raw_nod: Path, name: str) -> None:
    images, boxes, empty = RAW_NOD[name]
    coco = read_coco(str(raw_nod / name))
    assert len(coco.document["images"]) == images
    first = coco.document["images"][0]
    width, height = first["width"], first["height"]
    moved, counts = move_all(coco, Affine.scaling(0.5, 0.5), (width // 2, height // 2))
    assert counts["images"] == images and counts["masks_dropped"] == 0
    assert counts["empty_boxes_dropped"] == empty
    assert counts["boxes"] == boxes - empty == len(moved["annotations"])
    assert moved["categories"] == coco.document["categories"]
    before = {a["id"]: a for a in coco.document["annotations"]}
    for annotation in moved["annotations"]:
        source = before[annotation["id"]]
        assert annotation["bbox"] == pytest.approx([v / 2 for v in source["bbox"]], abs=0.5)
        for key in source.keys() - {"bbox", "area"}:
            assert annotation[key] == source[key]


@pytest.mark.real_files
@pytest.mark.parametrize("name", RAW_NOD)
def test_raw_nod_images_are_found_by_the_names_of_their_files(raw_nod: Path, name: str) -> None:
    coco = read_coco(str(raw_nod / name))
    for image in coco.document["images"]:
        assert coco.image_for("photos/" + image["file_name"].lower()) is image


HARMLESS: dict[str, Callable[[Json], object]] = {
    "unchanged": lambda d: None,
    "no info, licenses or categories": lambda d: (d.pop("info"), d.pop("categories")),
    "no annotations": lambda d: d.update(annotations=[]),
    "no images or annotations": lambda d: d.update(images=[], annotations=[]),
    "extra keys everywhere": lambda d: (
        d.update(mine=1), d["images"][0].update(mine=[1]), d["annotations"][0].update(mine={})),
    "huge class id": lambda d: d["annotations"][0].update(category_id=10**9),
    "unknown class id": lambda d: d["annotations"][0].update(category_id=77),
    "class name for an id": lambda d: d["annotations"][0].update(category_id="car"),
    "no class id": lambda d: d["annotations"][0].pop("category_id"),
    "no annotation id": lambda d: d["annotations"][0].pop("id"),
    "annotation id twice": lambda d: d["annotations"][1].update(id=1),
    "zero area": lambda d: d["annotations"][0].update(bbox=[5, 5, 0, 5]),
    "negative width": lambda d: d["annotations"][0].update(bbox=[5, 5, -3, 5]),
    "box outside the image": lambda d: d["annotations"][0].update(bbox=[500, 500, 10, 10]),
    "box larger than the image": lambda d: d["annotations"][0].update(bbox=[-9, -9, 900, 900]),
    "tiny box": lambda d: d["annotations"][0].update(bbox=[5, 5, 1e-9, 1e-9]),
    "huge box": lambda d: d["annotations"][0].update(bbox=[0, 0, 1e300, 1e300]),
    "polygons are null": lambda d: d["annotations"][0].update(segmentation=None),
    "no polygons": lambda d: d["annotations"][0].update(segmentation=[]),
    "iscrowd with a mask": lambda d: d["annotations"][0].update(
        iscrowd=1, segmentation={"counts": "abc", "size": [60, 100]}),
    "keypoints are null": lambda d: d["annotations"][0].update(keypoints=None),
    "whole number as float": lambda d: d["annotations"][0].update(image_id=1.0),
    "two images without folder of one name": lambda d: d["images"][1].update(file_name="x/a.ARW"),
    "backslashes": lambda d: d["images"][1].update(file_name="sub\\b.NEF"),
    "empty id": lambda d: (d["images"][1].update(id=""), d["annotations"][1].update(image_id="")),
    "a lone surrogate": lambda d: d["images"][1].update(file_name="\udcff.NEF"),
}  # fmt: skip

# name -> (change, words that the message must hold besides the file's name)
FAULTS: dict[str, tuple[Callable[[Json], object], str]] = {
    "no images": (lambda d: d.pop("images"), '"images"'),
    "no annotations list": (lambda d: d.pop("annotations"), '"annotations"'),
    "images is an object": (lambda d: d.update(images={}), '"images"'),
    "annotations is null": (lambda d: d.update(annotations=None), '"annotations"'),
    "image is a number": (lambda d: d["images"].append(5), "images[2]"),
    "image is null": (lambda d: d["images"].append(None), "images[2]"),
    "image without id": (lambda d: d["images"][1].pop("id"), "images[1]"),
    "image without file_name": (lambda d: d["images"][1].pop("file_name"), "images[1]"),
    "image without width": (lambda d: d["images"][1].pop("width"), "images[1]"),
    "image without height": (lambda d: d["images"][0].pop("height"), "images[0]"),
    "image id is null": (lambda d: d["images"][1].update(id=None), "images[1]"),
    "image id is a list": (lambda d: d["images"][1].update(id=[1]), "images[1]"),
    "image id is NaN": (lambda d: d["images"][1].update(id=math.nan), "images[1]"),
    "image id twice": (lambda d: d["images"][1].update(id=1), "1"),
    "file_name is a number": (lambda d: d["images"][1].update(file_name=7), "images[1]"),
    "width is zero": (lambda d: d["images"][1].update(width=0), "images[1]"),
    "width is negative": (lambda d: d["images"][1].update(width=-5), "images[1]"),
    "width is text": (lambda d: d["images"][1].update(width="100"), "images[1]"),
    "width is NaN": (lambda d: d["images"][1].update(width=math.nan), "images[1]"),
    "width is true": (lambda d: d["images"][1].update(width=True), "images[1]"),
    "height is infinite": (lambda d: d["images"][1].update(height=math.inf), "images[1]"),
    "annotation is text": (lambda d: d["annotations"].append("x"), "annotations[2]"),
    "annotation is a list": (lambda d: d["annotations"].append([]), "annotations[2]"),
    "no image_id": (lambda d: d["annotations"][1].pop("image_id"), "annotations[1]"),
    "unknown image_id": (lambda d: d["annotations"][1].update(image_id=9), "annotations[1]"),
    "image_id is text of a number": (
        lambda d: d["annotations"][0].update(image_id="1"), "annotations[0]"),
    "image_id is a list": (lambda d: d["annotations"][1].update(image_id=[1]), "annotations[1]"),
    "image_id is an object": (lambda d: d["annotations"][1].update(image_id={}), "annotations[1]"),
    "no bbox": (lambda d: d["annotations"][1].pop("bbox"), "annotations[1]"),
    "bbox is null": (lambda d: d["annotations"][1].update(bbox=None), "annotations[1]"),
    "bbox is empty": (lambda d: d["annotations"][1].update(bbox=[]), "annotations[1]"),
    "bbox of three": (lambda d: d["annotations"][1].update(bbox=[1, 2, 3]), "annotations[1]"),
    "bbox of five": (lambda d: d["annotations"][1].update(bbox=[1] * 5), "annotations[1]"),
    "bbox is an object": (lambda d: d["annotations"][1].update(bbox={"x": 1}), "annotations[1]"),
    "bbox of texts": (lambda d: d["annotations"][1].update(bbox=["1"] * 4), "annotations[1]"),
    "bbox with null": (
        lambda d: d["annotations"][1].update(bbox=[1, 2, None, 4]), "annotations[1]"),
    "bbox with NaN": (
        lambda d: d["annotations"][1].update(bbox=[1, 2, math.nan, 4]), "annotations[1]"),
    "bbox with infinity": (
        lambda d: d["annotations"][1].update(bbox=[1, 2, math.inf, 4]), "annotations[1]"),
    "bbox beyond floats": (
        lambda d: d["annotations"][1].update(bbox=[1, 2, 10**400, 4]), "annotations[1]"),
    "polygon of texts": (
        lambda d: d["annotations"][1].update(segmentation=[["a", "b"]]), "annotations[1]"),
    "polygon of odd length": (
        lambda d: d["annotations"][1].update(segmentation=[[1, 2, 3]]), "annotations[1]"),
    "polygon is a number": (
        lambda d: d["annotations"][1].update(segmentation=[1, 2]), "annotations[1]"),
    "polygon with NaN": (
        lambda d: d["annotations"][1].update(segmentation=[[1, 2, math.nan, 4]]), "annotations[1]"),
    "keypoints of texts": (
        lambda d: d["annotations"][1].update(keypoints=["a", "b", "c"]), "annotations[1]"),
    "keypoints of lists": (
        lambda d: d["annotations"][1].update(keypoints=[[1, 2, 2]] * 3), "annotations[1]"),
}  # fmt: skip

TEXTS = {
    "empty": "",
    "white space": " \n ",
    "not JSON": "images: []",
    "cut short": json.dumps(document())[:150],
    "two documents": json.dumps(document()) * 2,
    "a list": "[]",
    "a number": "5",
    "null": "null",
    "text": '"images"',
    "XML": "<annotation></annotation>",
    "single quotes": str(document()),
    "deeply nested": "[" * 100_000,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_no_harm_loads_and_moves_to_valid_json(tmp_path: Path, name: str) -> None:
    changed = copy.deepcopy(document())
    HARMLESS[name](changed)
    try:
        coco = load(tmp_path, changed)
    except AnnotationError as error:
        pytest.fail(f"refused: {error}")
    moved, counts = move_all(coco, Affine.scaling(0.5, 0.5), (50, 30))
    json.dumps(moved, allow_nan=False)
    assert counts["boxes"] + counts["empty_boxes_dropped"] == len(changed["annotations"])
    for annotation in moved["annotations"]:
        x, y, w, h = annotation["bbox"]
        assert 0 <= x <= 50 and 0 <= y <= 30 and 0 < w <= 50 and 0 < h <= 30


@pytest.mark.parametrize(
    "area", [None, "480", math.nan, math.inf, [1], 10**400], ids=lambda v: repr(v)[:9]
)
def test_an_odd_area_is_refused_or_comes_out_as_valid_json(tmp_path: Path, area: object) -> None:
    changed = document()
    changed["annotations"][1]["area"] = area
    try:
        coco = load(tmp_path, changed)
    except AnnotationError as error:
        assert "annotations[1]" in str(error) and "\n" not in str(error)
        return
    moved, counts = move_all(coco, Affine.scaling(0.5, 0.5), (50, 30))
    assert counts["boxes"] == 2
    json.dumps(moved, allow_nan=False)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_file_and_place(tmp_path: Path, name: str) -> None:
    changed = copy.deepcopy(document())
    change, place = FAULTS[name]
    change(changed)
    with pytest.raises(AnnotationError) as caught:
        load(tmp_path, changed)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "labels.json")) and place in message
    assert "\n" not in message and len(message) < 400
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_that_is_no_coco_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AnnotationError, match=r"labels\.json: is no") as caught:
        load(tmp_path, TEXTS[name])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"\xff\xfe{\0}\0", b"\x00" * 10, b'{"images": "\xff"}', b"PK\x03\x04"],
    ids=["UTF-16", "zeros", "Latin-1", "zip"],
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "labels.json").write_bytes(data)
    with pytest.raises(AnnotationError, match=r"labels\.json: is no") as caught:
        read_coco(str(tmp_path / "labels.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variant", ["BOM", "CRLF", "indented", "not ASCII"])
def test_other_ways_of_writing_the_same_load(tmp_path: Path, variant: str) -> None:
    text = json.dumps(document(), indent=2 if variant in ("indented", "CRLF") else None)
    if variant == "not ASCII":
        text = text.replace("a.ARW", "ä.ARW")
    data = text.replace("\n", "\r\n").encode() if variant == "CRLF" else text.encode()
    path = tmp_path / "labels.json"
    path.write_bytes(b"\xef\xbb\xbf" + data if variant == "BOM" else data)
    assert len(read_coco(str(path)).document["images"]) == 2


@pytest.mark.parametrize("kind", ["missing", "a folder"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "a folder" else tmp_path / "none.json"
    with pytest.raises(AnnotationError, match=str(path)):
        read_coco(str(path))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("a.ARW", 1),
        ("A.arw", 1),
        ("a.npy", 1),
        ("deep/down/a.ARW", 1),
        ("sub/b.NEF", "two"),
        ("b.NEF", "two"),
        ("other/b.dng", "two"),
        ("aa.ARW", None),
        ("c.ARW", None),
    ],
)
def test_images_are_found_by_stem(tmp_path: Path, asked: str, found: object) -> None:
    image = load(tmp_path, document()).image_for(asked)
    assert (image and image["id"]) == found


def test_a_path_that_fits_exactly_beats_a_stem_that_fits_too(tmp_path: Path) -> None:
    changed = document()
    changed["images"][1]["file_name"] = "sub/a.ARW"
    coco = load(tmp_path, changed)
    for relative, expected in (("a.ARW", 1), ("sub/a.ARW", "two")):
        image = coco.image_for(relative)
        assert image is not None and image["id"] == expected


def test_a_stem_that_fits_several_images_is_refused(tmp_path: Path) -> None:
    changed = document()
    changed["images"][0]["file_name"] = "one/a.ARW"
    changed["images"][1]["file_name"] = "two/a.ARW"
    coco = load(tmp_path, changed)
    with pytest.raises(AnnotationError, match="2 images are called 'a'"):
        coco.image_for("a.ARW")
    image = coco.image_for("two/a.NEF")
    assert image is not None and image["id"] == "two"


def test_boxes_polygons_and_keypoints_move_together(tmp_path: Path) -> None:
    """A 100x60 frame, halved, then a clockwise quarter turn: (x, y) to (30 - y / 2, x / 2)."""
    changed = document()
    changed["annotations"][0] |= {
        "segmentation": [[10, 20, 40, 20, 40, 36], [1, 2, 3, 4, 5, 6, 7, 8]],
        "keypoints": [10, 20, 2, 0, 0, 0, 40, 36, 1],
        "num_keypoints": 2,
        "area": 240.0,
        "isnoisy": False,
    }
    turn = Affine.scaling(0.5, 0.5).then(flip_affine(6, 50, 30))
    moved, counts = move_all(load(tmp_path, changed), turn, (30, 50))
    first = moved["annotations"][0]
    assert first["bbox"] == [12.0, 5.0, 8.0, 15.0]
    assert first["area"] == 60.0, "not the box's own, so it is scaled"
    assert first["segmentation"][0] == [20.0, 5.0, 20.0, 20.0, 12.0, 20.0]
    assert len(first["segmentation"][1]) == 8
    assert first["keypoints"][:3] == [20.0, 5.0, 2] and first["keypoints"][6:] == [12.0, 20.0, 1]
    assert first["num_keypoints"] == 2 and first["isnoisy"] is False
    assert moved["images"][0] == {
        "id": 1, "file_name": "1.png", "width": 30, "height": 50,
    }  # fmt: skip
    assert moved["images"][1]["license"] == 1 and moved["info"] == {"year": 2020}
    assert counts["boxes"] == 2


def test_a_keypoint_that_is_not_labelled_stays_so(tmp_path: Path) -> None:
    """COCO writes it as 0, 0, 0; moved along, it would be a point in a corner."""
    changed = document()
    changed["annotations"][0]["keypoints"] = [0, 0, 0, 40, 36, 1]
    turn = Affine.scaling(0.5, 0.5).then(flip_affine(6, 50, 30))
    moved, _ = move_all(load(tmp_path, changed), turn, (30, 50))
    assert moved["annotations"][0]["keypoints"] == [0, 0, 0, 12.0, 20.0, 1]


def test_boxes_are_cut_to_the_image_and_their_own_area_follows(tmp_path: Path) -> None:
    changed = document()
    changed["annotations"][0] |= {"bbox": [80, 40, 40, 40], "area": 1600}
    changed["annotations"][1] |= {"bbox": [200, 0, 10, 10]}
    moved, counts = move_all(load(tmp_path, changed), Affine.scaling(0.5, 0.5), (50, 30))
    assert [a["bbox"] for a in moved["annotations"]] == [[40, 20, 10, 10]]
    assert moved["annotations"][0]["area"] == 100
    assert counts["empty_boxes_dropped"] == 1


def test_run_length_masks_are_dropped_and_counted(tmp_path: Path) -> None:
    changed = document()
    changed["annotations"][0]["segmentation"] = {"counts": [0, 6000], "size": [60, 100]}
    moved, counts = move_all(load(tmp_path, changed), Affine.scaling(0.5, 0.5), (50, 30))
    assert counts["masks_dropped"] == 1 and counts["boxes"] == 2
    assert "segmentation" not in moved["annotations"][0]


def test_the_document_that_was_read_is_not_changed(tmp_path: Path) -> None:
    changed = document()
    changed["annotations"][0]["segmentation"] = [[1, 2, 3, 4, 5, 6]]
    coco = load(tmp_path, changed)
    move_all(coco, Affine.scaling(0.5, 0.5), (50, 30))
    assert coco.document == changed
