"""The three formats as people lay them out, and one box through all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawisp.data.annotations import read_annotations
from rawisp.data.annotations.labels import LabeledImage, LabelSet, name_of, name_of_label
from rawisp.errors import AnnotationError

# file: images, boxes that can be used, categories, type of ids
RAW_NOD = {
    "raw_new_Nikon750_test.json": (400, 2852 - 1, 80, str),
    "raw_new_Sony_RX100m7_val.json": (321, 1896, 3, str),
    "raw_str_labeled_new_Sony_RX100m7_test.json": (321, 1827, 3, int),
}


@pytest.fixture
def raw_nod(repository: Path) -> Path:
    folder = repository.parent / "shared" / "data" / "raw-nod"
    if not folder.is_dir():
        pytest.skip("RAW-NOD's annotations are not here")
    return folder


def boxes_in(labels: LabelSet) -> int:
    return sum(len(image.boxes) for image in labels.images)


def only(labels: LabelSet) -> LabeledImage:
    (image,) = labels.images
    return image


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.real_files
@pytest.mark.parametrize("name", RAW_NOD)
def test_raw_nod_loads_as_it_is(raw_nod: Path, name: str) -> None:
    images, boxes, categories, kind = RAW_NOD[name]
    labels = read_annotations(raw_nod / name)
    assert (labels.format, len(labels.images), boxes_in(labels)) == ("COCO", images, boxes)
    assert len(labels.categories) == categories
    assert labels.categories[:3] == ("person", "bicycle", "car")
    assert {type(image.id) for image in labels.images} == {kind}
    assert {image.name[:3] for image in labels.images} == {"DSC"}
    sizes = {"Nikon": (3936, 2624), "Sony": (5472, 3648)}
    assert {image.size for image in labels.images} == {
        sizes["Nikon" if "Nikon" in name else "Sony"]
    }


@pytest.mark.real_files
def test_raw_nods_box_without_area_is_named(raw_nod: Path) -> None:
    (problem,) = read_annotations(raw_nod / "raw_new_Nikon750_test.json").problems
    assert problem.mended
    assert problem.what == "its box [1764, 872, 2, 0] has no area; left out"
    document = json.loads((raw_nod / "raw_new_Nikon750_test.json").read_text())
    number = int(problem.place.removeprefix("annotations[").removesuffix("]"))
    assert document["annotations"][number]["image_id"] == "DSC_0674"


@pytest.mark.real_files
def test_raw_nods_flags_are_kept(raw_nod: Path) -> None:
    labels = read_annotations(raw_nod / "raw_str_labeled_new_Sony_RX100m7_test.json")
    flags = [flags for image in labels.images for flags in image.attributes]
    assert sum(f["isextreme"] for f in flags) == 815
    assert sum(f["isoutoffocus"] for f in flags) == 251
    assert not any(f["iscrowd"] for f in flags)


def test_voc_counts_from_one_and_includes_the_last_pixel(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(
        """<annotation><filename>other.jpg</filename><size><width>100</width><height>60</height>
        </size><object><name> person </name><difficult>1</difficult><truncated>0</truncated>
        <pose>Left</pose><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax>
        <ymax>2</ymax></bndbox></part>
        <bndbox><xmin>1</xmin><ymin>11</ymin><xmax>100</xmax><ymax>11.5</ymax></bndbox></object>
        </annotation>"""
    )
    labels = read_annotations(tmp_path / "a.xml")
    image = only(labels)
    assert image.boxes.tolist() == [[0, 10, 100, 1.5]]
    assert image.attributes == ({"difficult": True, "truncated": False, "pose": "Left"},)
    assert (image.name, image.size, labels.categories) == ("a", (100, 60), ("person",))
    assert labels.problems == ()


def voc(name: str, size: str = "<size><width>100</width><height>60</height></size>") -> str:
    return (
        f"<annotation>{size}<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )


def test_a_voc_file_without_a_size_takes_the_one_that_all_others_have(tmp_path: Path) -> None:
    write(tmp_path, {"a.xml": voc("car"), "b.xml": voc("car", ""), "c.xml": voc("bus")})
    labels = read_annotations(tmp_path)
    assert [image.size for image in labels.images] == [(100, 60)] * 3
    assert labels.categories == ("bus", "car")
    (problem,) = labels.problems
    assert problem.mended and "100x60 taken, as in all other files" in problem.what
    write(tmp_path, {"c.xml": voc("bus", "<size><width>60</width><height>100</height></size>")})
    labels = read_annotations(tmp_path)
    assert [image.name for image in labels.images] == ["a", "c"]
    assert not labels.problems[0].mended


def test_yolo_polygons_become_their_boxes(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "1 0.1 0.5 0.3 0.2 0.4 0.8\n0 0.5 0.5 0.2 0.4\n"})
    labels = read_annotations(tmp_path)
    image = only(labels)
    np.testing.assert_allclose(image.boxes, [[0.1, 0.2, 0.3, 0.6], [0.4, 0.3, 0.2, 0.4]])
    assert image.size is None and image.where == ("line 1", "line 2")
    assert labels.categories == ("0", "1") and image.classes.tolist() == [1, 0]


def test_pose_rows_give_their_box(tmp_path: Path) -> None:
    row = "0 0.5 0.5 0.2 0.4 " + " ".join(["0.4 0.4 2"] * 3)
    text = "path: .\ntrain: images\nkpt_shape: [3, 3]\nnames: [person]\n"
    write(tmp_path, {"data.yaml": text, "labels/a.txt": row, "images/a.jpg": ""})
    image = only(read_annotations(tmp_path))
    np.testing.assert_allclose(image.boxes, [[0.4, 0.3, 0.2, 0.4]])


ROW = "1 0.5 0.5 0.2 0.4\n"
NAMES = "names: [person, car]\n"
LAYOUTS: dict[str, dict[str, str]] = {
    "ultralytics": {
        "data.yaml": NAMES + "train: images/train\nval: images/val\n",
        "labels/train/a.txt": ROW,
        "labels/val/b.txt": "",
    },
    "roboflow": {
        "data.yaml": NAMES + "train: ../train/images\nval: ../valid/images\n",
        "train/images/a.jpg": "",
        "train/labels/a.txt": ROW,
        "valid/images/b.jpg": "",
        "valid/labels/b.txt": "",
    },
    "lists": {
        "data.yaml": NAMES + "train: train.txt\nval: val.txt\n",
        "train.txt": "./images/a.ARW\n",
        "val.txt": "images/b.ARW\n",
        "labels/a.txt": ROW,
    },
    "lists of folders": {
        "data.yml": "names: {0: person, 1: car}\ntrain: [images/one]\nval:\n  - images/two\n",
        "labels/one/a.txt": ROW,
        "labels/two/b.txt": "",
    },
    "beside the files": {
        "data.yaml": NAMES + "train: one\nval: two\n",
        "one/a.txt": ROW,
        "one/a.ARW": "",
        "two/b.txt": "",
    },
    "path": {
        "data.yaml": NAMES + "path: deep/er\ntrain: images/train\nval: images/val\n",
        "deep/er/labels/train/a.txt": ROW,
        "deep/er/labels/val/b.txt": "",
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_yolo_folders_as_people_lay_them_out(tmp_path: Path, layout: str) -> None:
    files = dict(LAYOUTS[layout])
    base = Path("deep/er" if layout == "path" else "")
    for key in ("images/train/x", "images/val/x", "images/one/x", "images/two/x"):
        files[str(base / key)] = ""
    labels = read_annotations(write(tmp_path, files))
    assert labels.format == "YOLO" and labels.categories == ("person", "car")
    assert [(Path(i.name).name, i.split, len(i.boxes)) for i in labels.images] == [
        ("a", "train", 1),
        ("b", "val", 0),
    ]
    assert labels.problems == ()


def test_the_names_of_classes_are_found_beside_the_labels(tmp_path: Path) -> None:
    write(tmp_path, {"classes.txt": "person\ncar\n", "labels/a.txt": ROW, "labels/b.txt": "0 1 1"})
    labels = read_annotations(tmp_path / "labels")
    assert labels.categories == ("person", "car")
    assert [len(image.boxes) for image in labels.images] == [1]


def test_two_lists_of_classes_that_differ_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"one/classes.txt": "a\n", "two/classes.txt": "b\n", "one/a.txt": ROW})
    with pytest.raises(AnnotationError, match="name different classes"):
        read_annotations(tmp_path)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.ARW", "a"),
        ("./x/../a.b.NEF", "a.b"),
        ("x\\y\\a.jpg", "x/y/a"),
        ("C:\\x\\a.jpg", "C:/x/a"),
    ],
)
def test_names_are_paths_without_suffix(file: str, name: str) -> None:
    assert name_of(file) == name


def test_a_label_file_may_carry_the_photographs_suffix() -> None:
    names = ("a.txt", "a.ARW.txt", "a.jpg.xml", "a.v2.txt")
    assert [name_of_label(name) for name in names] == ["a", "a", "a", "a.v2"]


BOX = st.tuples(*[st.floats(0.001, 0.999)] * 4).map(sorted)


def in_voc(document: Any, folder: Path) -> None:
    for image in document["images"]:
        rows = "".join(
            f"<object><name>c{a['category_id']}</name><bndbox>"
            f"<xmin>{a['bbox'][0] + 1}</xmin><ymin>{a['bbox'][1] + 1}</ymin>"
            f"<xmax>{a['bbox'][0] + a['bbox'][2]}</xmax>"
            f"<ymax>{a['bbox'][1] + a['bbox'][3]}</ymax></bndbox></object>\n"
            for a in document["annotations"]
            if a["image_id"] == image["id"]
        )
        size = f"<width>{image['width']}</width><height>{image['height']}</height>"
        text = f"<annotation><size>{size}</size>{rows}</annotation>"
        (folder / f"{image['file_name']}.xml").write_text(text)


def in_yolo(labels: LabelSet, folder: Path) -> None:
    for image in labels.images:
        assert image.size is not None
        scale = np.array([*image.size, *image.size])
        rows = [
            f"{label} " + " ".join(f"{v:.9f}" for v in (*(box[:2] + box[2:] / 2), *box[2:]))
            for label, box in zip(image.classes, image.boxes / scale, strict=True)
        ]
        (folder / f"{image.name}.txt").write_text("\n".join(rows))


@given(
    size=st.tuples(st.integers(2, 9000), st.integers(2, 9000)),
    boxes=st.lists(st.tuples(BOX, BOX, st.integers(0, 2)), min_size=1, max_size=8),
)
def test_a_box_survives_coco_voc_and_yolo(
    tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int], boxes: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    width, height = size
    annotations = []
    # A set of boxes below a pixel is refused, except in frames of less than 32 pixels.
    least = 2.0 / min(size) if min(size) >= 32 else 1e-3
    for number, ((x0, x1, *_), (y0, y1, *_), label) in enumerate(boxes):
        x0, y0 = min(x0, 1 - least), min(y0, 1 - least)
        box = [x0 * width, y0 * height, max(x1 - x0, least) * width, max(y1 - y0, least) * height]
        annotations.append({"id": number, "image_id": 1, "category_id": label, "bbox": box})
    document = {
        "images": [{"id": 1, "file_name": "a", "width": width, "height": height}],
        "categories": [{"id": number, "name": f"c{number}"} for number in range(3)],
        "annotations": annotations,
    }
    (folder / "coco.json").write_text(json.dumps(document))
    coco = read_annotations(folder / "coco.json")
    in_voc(document, folder)
    voc = read_annotations(folder / "a.xml")
    (folder / "labels").mkdir()
    in_yolo(voc, folder / "labels")
    (folder / "labels" / "classes.txt").write_text("\n".join(voc.categories))
    yolo = read_annotations(folder / "labels")
    before = only(coco)
    for labels, scale in ((voc, 1.0), (yolo, np.array([width, height, width, height]))):
        after = only(labels)
        np.testing.assert_allclose(after.boxes * scale, before.boxes, atol=1e-3, rtol=0)
        names = [labels.categories[number] for number in after.classes]
        assert names == [coco.categories[number] for number in before.classes]
        assert not labels.problems
