"""`enhance --annotations` in three formats: what is read is written, or another on request."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rawisp.batch import EnhanceSettings, RunOptions, enhance_folder
from rawisp.data import find_dataset, read_annotations
from rawisp.data.annotations.labels import LabelSet
from rawisp.errors import AnnotationError, OutputError, UsageError

Json = dict[str, Any]
MakeRaw = Callable[..., Path]
ONE = RunOptions(workers=1)
AGAIN = RunOptions(workers=1, overwrite=True)
WIDTH, HEIGHT = 60, 40
# x, y, width, height in sensor pixels; the outputs are half the size, a/1 a quarter turned.
BOXES = {"a/1": [[10, 4, 20, 12], [0, 0, 60, 40]], "a/2": [[30.5, 8, 9, 7]], "3": []}
CLASSES = {"a/1": ["car", "person"], "a/2": ["person"], "3": []}
EXPECTED = {"a/1": [[12, 5, 6, 10], [0, 0, 20, 30]], "a/2": [[15.25, 4, 4.5, 3.5]], "3": []}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, make_raw: MakeRaw) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(BOXES):
        exif = 6 if name == "a/1" else 1
        make_raw(folder / f"{name}.ARW", number, HEIGHT, WIDTH, exif_orientation=exif)
    return folder


def as_coco(folder: Path) -> Path:
    images = [
        {"id": f"id {name}", "file_name": f"{name}.ARW", "width": WIDTH, "height": HEIGHT}
        for name in BOXES
    ]
    rows = [(n, b, c) for n in BOXES for b, c in zip(BOXES[n], CLASSES[n], strict=True)]
    annotations = [
        {
            "id": number,
            "image_id": f"id {name}",
            "category_id": {"person": 4, "car": 9}[label],
            "bbox": box,
            "segmentation": [[0, 0, 4, 0, 4, 4]],
        }
        for number, (name, box, label) in enumerate(rows, 1)
    ]
    categories = [{"id": 4, "name": "person"}, {"id": 9, "name": "car"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(document))
    return folder / "labels.json"


def as_yolo(folder: Path) -> Path:
    """A data.yaml with splits. Relative boxes fit every frame: the sensor's is named in the run."""
    for name in BOXES:
        path = folder / "set" / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = []
        for (x, y, w, h), label in zip(BOXES[name], CLASSES[name], strict=True):
            values = ((x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT)
            number = ["person", "car"].index(label)
            rows.append(" ".join(map(str, (number, *values))) + "\n")
        path.write_text("".join(rows))
    (folder / "set" / "train.txt").write_text("./images/a/1.jpg\n./images/3.jpg\n")
    (folder / "set" / "val.txt").write_text("./images/a/2.jpg\n")
    config = {"train": "train.txt", "val": "val.txt", "names": ["person", "car"]}
    (folder / "set" / "data.yaml").write_text(yaml.safe_dump(config))
    return folder / "set" / "data.yaml"


def as_voc(folder: Path) -> Path:
    for name in BOXES:
        path = folder / "xml" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        objects = "".join(
            f"<object><name>{label}</name><difficult>1</difficult><bndbox><xmin>{x + 1}</xmin>"
            f"<ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for (x, y, w, h), label in zip(BOXES[name], CLASSES[name], strict=True)
        )
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        path.write_text(f"<annotation>{size}{objects}</annotation>")
    return folder / "xml"


MAKE = {"coco": as_coco, "yolo": as_yolo, "voc": as_voc}
SENSOR = EnhanceSettings(annotation_frame="visible")


def read_back(out: Path, kind: str) -> LabelSet:
    where = {"coco": "annotations.json", "yolo": "data.yaml", "voc": "Annotations"}[kind]
    labels = read_annotations(out / where)
    assert not [problem for problem in labels.problems if not problem.mended]
    return labels


def check(labels: LabelSet, kind: str) -> None:
    """Names, boxes in output pixels and classes, as plain arithmetic has them."""
    found = {image.name.removeprefix("images/"): image for image in labels.images}
    assert sorted(found) == sorted(BOXES)
    for name, image in found.items():
        width, height = (HEIGHT, WIDTH) if name == "a/1" else (WIDTH, HEIGHT)
        scale = np.array([width // 2, height // 2] * 2) if kind == "yolo" else 1
        assert image.size == (None if kind == "yolo" else (width // 2, height // 2))
        assert image.boxes * scale == pytest.approx(np.reshape(EXPECTED[name], (-1, 4)), abs=1e-4)
        assert [labels.categories[n] for n in image.classes] == CLASSES[name]


@pytest.mark.parametrize("read", MAKE)
@pytest.mark.parametrize("written", [None, *MAKE])
def test_every_format_becomes_every_other(
    photos: Path, tmp_path: Path, read: str, written: str | None
) -> None:
    out, kind = tmp_path / "out", written or read
    file = MAKE[read](tmp_path)
    for options in (ONE, AGAIN):
        report = enhance_folder(
            photos, out, SENSOR, annotations=file, annotations_format=written, options=options
        )
        assert report.exit_code == 0, [r["reason"] for r in report.records]
        check(read_back(out, kind), kind)
        assert (report.annotations["images"], report.annotations["boxes"]) == (3, 3)
        dropped = 3 if read == "coco" and kind != "coco" else 0
        assert report.annotations["masks_dropped"] == dropped, "polygons have no place there"
    others = {"annotations.json", "data.yaml", "Annotations", "labels"} - {
        "coco": {"annotations.json"}, "yolo": {"data.yaml", "labels"}, "voc": {"Annotations"},
    }[kind]  # fmt: skip
    assert not others & set(os.listdir(out))


def test_yolos_labels_are_where_loaders_look(photos: Path, tmp_path: Path) -> None:
    """They replace the last /images/ of a listed path by /labels/, and the suffix by .txt."""
    out = tmp_path / "out"
    enhance_folder(photos, out, SENSOR, annotations=as_yolo(tmp_path), options=ONE)
    config = yaml.safe_load((out / "data.yaml").read_text())
    assert config["names"] == {0: "person", 1: "car"} and "path" not in config
    listed = {split: (out / config[split]).read_text().splitlines() for split in ("train", "val")}
    assert listed == {"train": ["./images/3.png", "./images/a/1.png"], "val": ["./images/a/2.png"]}
    for line in listed["train"] + listed["val"]:
        path = str(out / line)
        assert os.path.isfile(path) and os.path.samefile(path, out / line.split("images/")[1])
        before, _, after = path.rpartition("/images/")
        assert os.path.isfile(f"{before}/labels/{os.path.splitext(after)[0]}.txt")
    assert (out / "labels" / "3.txt").read_text() == "", "it shows nothing, and is no gap"
    rows = [line.split() for line in (out / "labels" / "a" / "1.txt").read_text().splitlines()]
    assert [row[0] for row in rows] == ["1", "0"]
    assert [float(v) for v in rows[0][1:]] == pytest.approx([15 / 20, 10 / 30, 6 / 20, 10 / 30])


def test_a_tree_with_images_folders_has_labels_beside_them(photos: Path, tmp_path: Path) -> None:
    """Roboflow's train/images; no links are needed then."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "classes.txt").write_text("car\n")
    for name in ("1", "2"):
        path = tmp_path / "in" / "train" / "images" / f"{name}.ARW"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / "a" / f"{name}.ARW", path)
        (tmp_path / "texts" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.1\n")
    out = tmp_path / "out"
    enhance_folder(tmp_path / "in", out, SENSOR, annotations=tmp_path / "texts", options=ONE)
    assert sorted(path.name for path in (out / "train" / "labels").iterdir()) == ["1.txt", "2.txt"]
    assert not (out / "images").exists() and not (out / "labels").exists()
    listed = ["./train/images/1.png", "./train/images/2.png"]
    assert (out / "train.txt").read_text().splitlines() == listed
    labels = read_annotations(out / "data.yaml")
    assert [image.name for image in labels.images] == ["train/images/1", "train/images/2"]
    assert labels.categories == ("car",)


def test_voc_says_what_it_is(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    enhance_folder(photos, out, SENSOR, annotations=as_voc(tmp_path), options=ONE)
    text = (out / "Annotations" / "a" / "1.xml").read_text()
    for part in ("<folder>a</folder>", "<filename>1.png</filename>", "<difficult>1</difficult>",
                 "<width>20</width><height>30</height>", "<xmin>13</xmin><ymin>6</ymin>",
                 "<xmax>18</xmax><ymax>15</ymax>"):  # fmt: skip
        assert part in text


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_other_runs_and_removed_entries(photos: Path, tmp_path: Path, kind: str) -> None:
    """The trees describe all of OUT, too: what is gone is gone from them, what is left stays."""
    out, file = tmp_path / "out", MAKE[kind](tmp_path)
    for folder in ("a", "."):
        source = [photos / "a"] if folder == "a" else [photos / "3.ARW"]
        enhance_folder(source, out, SENSOR, annotations=file, options=ONE)
    tree = out / ("labels" if kind == "yolo" else "Annotations")
    suffix = "txt" if kind == "yolo" else "xml"
    assert sorted(p.name for p in tree.iterdir()) == [f"{n}.{suffix}" for n in (1, 2, 3)]
    (out / "2.png").unlink()
    enhance_folder(photos / "3.ARW", out, SENSOR, annotations=file, options=AGAIN)
    assert sorted(p.name for p in tree.iterdir()) == [f"{n}.{suffix}" for n in (1, 3)]
    if kind == "yolo":
        (out / "3.png").unlink()
        enhance_folder(photos / "a" / "1.ARW", out, SENSOR, annotations=file, options=ONE)
        assert os.listdir(out / "images") == ["1.png"]
        assert not (out / "val.txt").exists()
        assert yaml.safe_load((out / "data.yaml").read_text())["train"] == "train.txt"


def test_another_format_later_describes_all_of_out(photos: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", as_coco(tmp_path)
    enhance_folder(photos / "a", out, annotations=file, options=ONE)
    enhance_folder(photos / "3.ARW", out, annotations=file, annotations_format="voc", options=ONE)
    assert len(read_back(out, "voc").images) == 3
    assert len(json.loads((out / "annotations.json").read_text())["images"]) == 3


@pytest.mark.parametrize(
    ("kind", "name"),
    [("yolo", "data.yaml"), ("yolo", "labels/a/1.txt"), ("yolo", "train.txt"),
     ("voc", "Annotations/a/1.xml"), ("coco", "annotations.json")],
)  # fmt: skip
def test_what_others_wrote_is_refused_before_any_work(
    photos: Path, tmp_path: Path, kind: str, name: str
) -> None:
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(OutputError, match="is not rawisp's; choose another -o, or --overwrite"):
        enhance_folder(
            photos, tmp_path / "out", SENSOR, annotations=MAKE[kind](tmp_path), options=ONE
        )
    assert path.read_text() == "mine" and len(os.listdir(tmp_path / "out")) == 1


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_annotations_that_are_read_are_never_written(
    photos: Path, tmp_path: Path, kind: str
) -> None:
    file = MAKE[kind](tmp_path)
    out = file.parent
    if kind == "voc":
        file = file.rename(tmp_path / "Annotations")
    with pytest.raises(OutputError, match="holds the annotations that are read"):
        enhance_folder(photos, out, SENSOR, annotations=file, options=AGAIN)


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_what_was_written_is_not_found_as_labels_of_the_raw_files(
    photos: Path, tmp_path: Path, kind: str
) -> None:
    """OUT among the photographs: its boxes are in its pictures' pixels."""
    data = Path(shutil.copytree(photos, tmp_path / "data"))
    file = Path(shutil.move(MAKE[kind](tmp_path), data / "set"))
    if kind == "yolo":
        shutil.move(tmp_path / "set" / "labels", data / "labels")
        file.write_text("names: [person, car]\ntrain: images\n")
        file = Path(shutil.move(file, data / "data.yaml"))
        shutil.move(data / "a", data / "images" / "a")
        shutil.move(data / "3.ARW", data / "images" / "3.ARW")
    before = find_dataset(data)
    enhance_folder(data, data / "out", SENSOR, annotations=file, options=ONE)
    after = find_dataset(data)
    assert [s.labels.boxes.tolist() for s in after.samples if s.labels] == [
        s.labels.boxes.tolist() for s in before.samples if s.labels
    ]
    assert after.entries_without_file == before.entries_without_file == 0


def test_relative_boxes_of_a_turned_file_need_its_frame(photos: Path, tmp_path: Path) -> None:
    report = enhance_folder(photos, tmp_path / "out", annotations=as_yolo(tmp_path), options=ONE)
    (failed,) = [record for record in report.records if record["status"] == "failed"]
    assert failed["source"].endswith("1.ARW") and "--annotation-frame" in failed["reason"]


def test_a_format_that_is_none_or_for_nothing(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="annotations format 'x' is none of coco, voc, yolo"):
        enhance_folder(
            photos, tmp_path / "o", annotations=as_coco(tmp_path), annotations_format="x"
        )
    with pytest.raises(UsageError, match="--annotations-format needs --annotations"):
        enhance_folder(photos, tmp_path / "o", annotations_format="voc")


def test_rows_that_cannot_be_used_are_said(photos: Path, tmp_path: Path) -> None:
    file = as_coco(tmp_path)
    document = json.loads(file.read_text())
    document["annotations"][0]["bbox"] = []
    document["annotations"][1]["bbox"] = [50, 0, 30, 10]
    file.write_text(json.dumps(document))
    notes: list[str] = []
    options = RunOptions(dry_run=True)
    enhance_folder(
        photos,
        tmp_path / "out",
        annotations=file,
        options=options,
        on_event=lambda event: notes.append(event.text),
    )
    assert any("1 annotations could not be used, the first: " in note for note in notes)
    assert any("1 annotations were mended, the first: " in note for note in notes)


def test_cocos_own_tools_read_the_demos_annotations(sample_data: Path, tmp_path: Path) -> None:
    """pycocotools needs whole-number ids, area and iscrowd; boxes against themselves have AP 1."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    settings = EnhanceSettings(fit=(60, 40))
    enhance_folder(
        sample_data, tmp_path, settings, annotations=sample_data / "annotations.json", options=ONE
    )
    file = tmp_path / "annotations.json"
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(file))
        assert len(coco.getImgIds()) == 14 and len(coco.getAnnIds()) == 80
        rows = [{**one, "score": 0.9} for one in coco.loadAnns(coco.getAnnIds())]
        evaluation = COCOeval(coco, coco.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_torchvision_reads_the_annotations(photos: Path, tmp_path: Path) -> None:
    from torchvision.datasets import CocoDetection

    enhance_folder(photos, tmp_path / "out", annotations=as_coco(tmp_path), options=ONE)
    with contextlib.redirect_stdout(io.StringIO()):
        pictures = CocoDetection(tmp_path / "out", str(tmp_path / "out" / "annotations.json"))
    assert len(pictures) == 3
    counted = sorted(len(labels) for _, labels in pictures)
    assert counted == [0, 1, 2]


def test_yolos_class_numbers_stay(photos: Path, tmp_path: Path) -> None:
    """A detector with fixed numbers reads them: 5 is not 1, although nothing is called 1 to 4."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "2.txt").write_text("5 0.5 0.5 0.2 0.1\n0 0.5 0.5 0.4 0.1\n")
    file = tmp_path / "data.yaml"
    file.write_text("names: {0: person, 5: car}\ntrain: texts\n")
    out = tmp_path / "out"
    enhance_folder(photos / "a" / "2.ARW", out, SENSOR, annotations=file, options=ONE)
    names = yaml.safe_load((out / "data.yaml").read_text())["names"]
    assert (names[0], names[5]) == ("person", "car")
    rows = (out / "labels" / "2.txt").read_text().splitlines()
    assert [row.split()[0] for row in rows] == ["5", "0"]


def test_a_set_in_the_wrong_unit_is_refused_before_any_work(photos: Path, tmp_path: Path) -> None:
    file = as_coco(tmp_path)
    document = json.loads(file.read_text())
    for one in document["annotations"]:
        one["bbox"] = [0.1, 0.2, 0.3, 0.4]
    file.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match="relative"):
        enhance_folder(photos, tmp_path / "out", annotations=file, options=ONE)
    assert not (tmp_path / "out").exists()
