"""COCO files as they are found: read by one rule, moved with all they hold, written for tools."""

from __future__ import annotations

import copy
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rawisp.data.annotations.coco import CocoFile, read_coco
from rawisp.data.annotations.coco_labels import read_coco_labels
from rawisp.data.annotations.entries import entries_of, integer_ids
from rawisp.data.annotations.moving import moved
from rawisp.data.annotations.write_coco import coco_document
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
    found = entries_of(coco.labels, coco)
    counts: Counter[str] = Counter(masks_dropped=0, empty_boxes_dropped=0, boxes=0, images=0)
    images = [
        moved(entry, to_output, size, output=f"{n}.png", file="labels.json", counts=counts)
        for n, entry in enumerate(found.entries)
    ]
    return coco_document(found.origin, images), dict(counts)


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
    document, counts = move_all(coco, Affine.scaling(0.5, 0.5), (width // 2, height // 2))
    assert counts["images"] == images and counts["masks_dropped"] == 0
    assert counts["empty_boxes_dropped"] == empty
    assert counts["boxes"] == boxes - empty == len(document["annotations"])
    assert document["categories"] == coco.document["categories"]
    before = {a["id"]: a for a in coco.document["annotations"]}
    image_ids = {i["id"]: i.get("original_id", i["id"]) for i in document["images"]}
    assert all(type(number) is int for number in image_ids)
    for annotation in document["annotations"]:
        source = before[annotation.get("original_id", annotation["id"])]
        assert annotation["bbox"] == pytest.approx([v / 2 for v in source["bbox"]], abs=0.5)
        assert image_ids[annotation["image_id"]] == source["image_id"]
        for key in source.keys() - {"bbox", "area", "image_id", "id"}:
            assert annotation[key] == source[key]


# name -> (change, boxes that are used of two). What a file may hold without a loss.
HARMLESS: dict[str, tuple[Callable[[Json], object], int]] = {
    "unchanged": (lambda d: None, 2),
    "no info, licenses or categories": (lambda d: (d.pop("info"), d.pop("categories")), 2),
    "no annotations": (lambda d: d.update(annotations=[]), 0),
    "no images or annotations": (lambda d: d.update(images=[], annotations=[]), 0),
    "extra keys everywhere": (lambda d: (
        d.update(mine=1), d["images"][0].update(mine=[1]), d["annotations"][0].update(mine={})), 2),
    "no annotation id": (lambda d: d["annotations"][0].pop("id"), 2),
    "annotation id twice": (lambda d: d["annotations"][1].update(id=1), 2),
    "box larger than the image": (lambda d: d["annotations"][0].update(bbox=[-9, -9, 900, 900]), 2),
    "huge box": (lambda d: d["annotations"][0].update(bbox=[0, 0, 1e300, 1e300]), 2),
    "polygons are null": (lambda d: d["annotations"][0].update(segmentation=None), 2),
    "no polygons": (lambda d: d["annotations"][0].update(segmentation=[]), 2),
    "polygon of texts": (lambda d: d["annotations"][1].update(segmentation=[["a", "b"]]), 2),
    "polygon of odd length": (lambda d: d["annotations"][1].update(segmentation=[[1, 2, 3]]), 2),
    "polygon is a number": (lambda d: d["annotations"][1].update(segmentation=[1, 2]), 2),
    "polygon is a text": (lambda d: d["annotations"][1].update(segmentation="1 2"), 2),
    "polygon with NaN": (
        lambda d: d["annotations"][1].update(segmentation=[[1, 2, math.nan, 4]]), 2),
    "iscrowd with a mask": (lambda d: d["annotations"][0].update(
        iscrowd=1, segmentation={"counts": "abc", "size": [60, 100]}), 2),
    "keypoints are null": (lambda d: d["annotations"][0].update(keypoints=None), 2),
    "keypoints of texts": (lambda d: d["annotations"][1].update(keypoints=["a", "b", "c"]), 2),
    "keypoints of lists": (lambda d: d["annotations"][1].update(keypoints=[[1, 2, 2]] * 3), 2),
    "whole numbers as floats": (lambda d: (
        d["images"][0].update(width=100.0, height=60.0), d["annotations"][0].update(image_id=1.0)),
        2),
    "image_id is text of a number": (lambda d: d["annotations"][0].update(image_id="1"), 2),
    "class id is text of a number": (lambda d: d["annotations"][0].update(category_id="3"), 2),
    "an image repeated": (lambda d: d["images"].append(dict(d["images"][0])), 2),
    "two images without folder of one name": (
        lambda d: d["images"][1].update(file_name="x/a.ARW"), 2),
    "backslashes": (lambda d: d["images"][1].update(file_name="sub\\b.NEF"), 2),
    "empty id": (
        lambda d: (d["images"][1].update(id=""), d["annotations"][1].update(image_id="")), 2),
    "a lone surrogate": (lambda d: d["images"][1].update(file_name="\udcff.NEF"), 2),
}  # fmt: skip

# name -> (change, the place that is named): what is left out, with the boxes it takes along.
FAULTS: dict[str, tuple[Callable[[Json], object], str]] = {
    "image is a number": (lambda d: d["images"].append(5), "images[2]"),
    "image without id": (lambda d: d["images"][1].pop("id"), "images[1]"),
    "image without file_name": (lambda d: d["images"][1].pop("file_name"), "images[1]"),
    "image without width": (lambda d: d["images"][1].pop("width"), "images[1]"),
    "image id is a list": (lambda d: d["images"][1].update(id=[1]), "images[1]"),
    "image id is NaN": (lambda d: d["images"][1].update(id=math.nan), "images[1]"),
    "image id twice": (lambda d: d["images"][1].update(id=1), "images[1]"),
    "file_name is a number": (lambda d: d["images"][1].update(file_name=7), "images[1]"),
    "width is negative": (lambda d: d["images"][1].update(width=-5), "images[1]"),
    "width is text": (lambda d: d["images"][1].update(width="100"), "images[1]"),
    "width is half a pixel more": (lambda d: d["images"][1].update(width=100.5), "images[1]"),
    "height is infinite": (lambda d: d["images"][1].update(height=math.inf), "images[1]"),
    "annotation is text": (lambda d: d["annotations"].append("x"), "annotations[2]"),
    "no image_id": (lambda d: d["annotations"][1].pop("image_id"), "annotations[1]"),
    "unknown image_id": (lambda d: d["annotations"][1].update(image_id=9), "annotations[1]"),
    "no class id": (lambda d: d["annotations"][1].pop("category_id"), "annotations[1]"),
    "class id not listed": (lambda d: d["annotations"][1].update(category_id=77), "annotations[1]"),
    "bbox is empty": (lambda d: d["annotations"][1].update(bbox=[]), "annotations[1]"),
    "bbox of five": (lambda d: d["annotations"][1].update(bbox=[1] * 5), "annotations[1]"),
    "bbox of texts": (lambda d: d["annotations"][1].update(bbox=["1"] * 4), "annotations[1]"),
    "bbox with NaN": (
        lambda d: d["annotations"][1].update(bbox=[1, 2, math.nan, 4]), "annotations[1]"),
    "bbox beyond floats": (
        lambda d: d["annotations"][1].update(bbox=[1, 2, 10**400, 4]), "annotations[1]"),
    "negative width": (lambda d: d["annotations"][1].update(bbox=[5, 5, -3, 5]), "annotations[1]"),
    "box outside the image": (
        lambda d: d["annotations"][1].update(bbox=[500, 500, 10, 10]), "annotations[1]"),
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
    change, used = HARMLESS[name]
    change(changed)
    coco = load(tmp_path, changed)
    assert all(problem.mended for problem in coco.labels.problems)
    moved, counts = move_all(coco, Affine.scaling(0.5, 0.5), (50, 30))
    json.dumps(moved, allow_nan=False)
    assert counts["boxes"] == used and counts["images"] == min(len(changed["images"]), 2)
    for annotation in moved["annotations"]:
        x, y, w, h = annotation["bbox"]
        assert 0 <= x <= 50 and 0 <= y <= 30 and 0 < w <= 50 and 0 < h <= 30
    for part in ("images", "annotations", "categories"):
        ids = [one["id"] for one in moved[part]]
        assert all(type(one) is int for one in ids) and len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_left_out_and_named_and_the_rest_is_used(tmp_path: Path, name: str) -> None:
    """By training and by enhance alike: nothing is refused by one that the other takes."""
    changed = copy.deepcopy(document())
    change, place = FAULTS[name]
    change(changed)
    coco = load(tmp_path, changed)
    wrong = [problem for problem in coco.labels.problems if not problem.mended]
    assert place in {problem.place for problem in wrong}
    assert all(len(str(one)) < 400 and str(one).isprintable() for one in wrong)
    moved, counts = move_all(coco, Affine.scaling(0.5, 0.5), (50, 30))
    json.dumps(moved, allow_nan=False)
    trained = read_coco_labels(coco.labels.path)
    assert trained.problems == coco.labels.problems
    assert counts["boxes"] == sum(len(image.boxes) for image in trained.images) < 3
    assert counts["images"] == len(trained.images) == len(moved["images"])


def test_a_box_without_area_is_counted(tmp_path: Path) -> None:
    changed = document()
    changed["annotations"].append({"id": 5, "image_id": 1, "category_id": 3, "bbox": [5, 5, 0, 5]})
    moved, counts = move_all(load(tmp_path, changed), Affine.scaling(0.5, 0.5), (50, 30))
    assert counts["boxes"] == 2 and counts["empty_boxes_dropped"] == 1
    assert [one["id"] for one in moved["annotations"]] == [1, 2]


@pytest.mark.parametrize(
    "area", [None, "480", math.nan, math.inf, [1], 10**400], ids=lambda v: repr(v)[:9]
)
def test_an_odd_area_comes_out_as_the_boxs_own(tmp_path: Path, area: object) -> None:
    changed = document()
    changed["annotations"][1]["area"] = area
    moved, counts = move_all(load(tmp_path, changed), Affine.scaling(0.5, 0.5), (50, 30))
    assert counts["boxes"] == 2
    width, height = moved["annotations"][1]["bbox"][2:]
    assert moved["annotations"][1]["area"] == pytest.approx(width * height)


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
        "id": 1, "file_name": "0.png", "width": 30, "height": 50,
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
    changed["annotations"][1] |= {"bbox": [90, 0, 8, 8]}
    moved, counts = move_all(load(tmp_path, changed), Affine.scaling(0.5, 0.5), (44, 30))
    assert [a["bbox"] for a in moved["annotations"]] == [[40, 20, 4, 10]]
    assert moved["annotations"][0]["area"] == 40
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


@pytest.mark.parametrize(
    ("ids", "numbers"),
    [
        ([7, 3, 44], [7, 3, 44]),
        ([7.0, 3], [7, 3]),
        (["a", "b"], [1, 2]),
        (["7", "3"], [1, 2]),
        ([1, "b", 5], [1, 2, 3]),
        ([4, 4, 5], [1, 2, 3]),
        ([None, 2], [1, 2]),
        ([True, 2], [1, 2]),
        ([1.5, 2], [1, 2]),
        ([], []),
    ],
)
def test_ids_become_whole_numbers_where_they_are_not(ids: list[Any], numbers: list[int]) -> None:
    assert integer_ids(ids) == numbers


def test_a_box_with_the_id_0_would_not_count_for_pycocotools() -> None:
    assert integer_ids([3, 0, 2], least=1) == [3, 4, 2]
    assert integer_ids([-1, 0], least=1) == [1, 2]


def test_the_original_id_stands_beside_the_number(tmp_path: Path) -> None:
    changed = document()
    changed["categories"][0]["id"] = "car-id"
    changed["annotations"][0]["category_id"] = "car-id"
    changed["annotations"][1]["id"] = "x"
    moved, _ = move_all(load(tmp_path, changed), Affine.scaling(0.5, 0.5), (50, 30))
    for part, ids in (("images", [1, "two"]), ("annotations", [1, "x"]),
                      ("categories", ["car-id", 0])):  # fmt: skip
        assert [one["id"] for one in moved[part]] == [1, 2]
        assert [one.get("original_id", one["id"]) for one in moved[part]] == ids
    assert [one["image_id"] for one in moved["annotations"]] == [1, 2]
    assert [one["category_id"] for one in moved["annotations"]] == [1, 2]


def test_classes_of_a_file_without_categories_are_called_by_their_ids(tmp_path: Path) -> None:
    changed = document()
    del changed["categories"]
    coco = load(tmp_path, changed)
    assert coco.labels.categories == ("0", "3")
    assert [p.what for p in coco.labels.problems] == [
        "lists no categories; classes are called by their ids"
    ]
    moved, _ = move_all(coco, Affine.scaling(0.5, 0.5), (50, 30))
    assert [one["category_id"] for one in moved["annotations"]] == [3, 0]
    assert moved["categories"] == [{"id": 0, "name": "0"}, {"id": 3, "name": "3"}]


def test_an_image_of_which_no_box_can_be_used_is_left_out(tmp_path: Path) -> None:
    """Without its boxes it would pass for one that shows nothing."""
    changed = document()
    changed["annotations"][0]["bbox"] = [500, 500, 10, 10]
    moved, counts = move_all(load(tmp_path, changed), Affine.scaling(0.5, 0.5), (50, 30))
    assert [one.get("original_id") for one in moved["images"]] == ["two"]
    assert counts["images"] == 1
