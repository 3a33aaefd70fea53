"""Annotated folders as they are: found, matched, merged, divided."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from rawisp.data import DataSet, find_dataset
from rawisp.errors import AnnotationError, NothingToDoError, UsageError

Json = dict[str, Any]
NAMES = ("person", "car")


def coco(
    names: Iterable[str], classes: Iterable[str] = NAMES, box: tuple[int, ...] = (1, 2, 30, 20)
) -> str:
    """Each photograph with one box, of the class by its turn."""
    listed, files = list(classes), list(names)
    return json.dumps(
        {
            "images": [
                {"id": n, "file_name": name, "width": 60, "height": 40}
                for n, name in enumerate(files)
            ],
            "categories": [{"id": 10 + n, "name": name} for n, name in enumerate(listed)],
            "annotations": [
                {"image_id": n, "category_id": 10 + n % len(listed), "bbox": list(box)}
                for n in range(len(files))
            ],
        }
    )


def voc(name: str = "person", x: int = 3) -> str:
    return (
        "<annotation><size><width>60</width><height>40</height></size><object>"
        f"<name>{name}</name><bndbox><xmin>{x}</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax>"
        "</bndbox></object></annotation>"
    )


def put(folder: Path, *raw: str, **texts: str) -> Path:
    """RAW files (their content does not matter here), and texts by path ("__" is "/")."""
    for name, text in [*((name, "x") for name in raw), *texts.items()]:
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def found(dataset: DataSet) -> dict[str, tuple[str | None, list[str]]]:
    """File -> (split, classes of its boxes)."""
    return {
        str(Path(sample.path).relative_to(dataset.root)): (
            sample.split,
            [dataset.categories[n] for n in sample.labels.classes] if sample.labels else ["?"],
        )
        for sample in dataset.samples
    }


def test_the_night_set_is_found_by_itself(sample_data: Path) -> None:
    dataset = find_dataset(sample_data)
    assert len(dataset.samples) == 14
    assert sum(len(s.labels.boxes) for s in dataset.samples if s.labels) == 80
    assert dataset.categories == ("person", "bicycle", "car") and dataset.unused == ()
    assert dataset.problems == ()
    assert dataset.files_without_entry == dataset.entries_without_file == 0
    (note,) = dataset.notes
    assert note.startswith("COCO annotations found: ") and note.endswith("annotations.json")


def test_names_match_whatever_the_suffix_and_case(tmp_path: Path) -> None:
    put(tmp_path, "a.ARW", "sub/B.nef", "ü.dng")
    names = ["A.jpg", "SUB/b.JPG", unicodedata.normalize("NFD", "Ü.png")]
    dataset = find_dataset(put(tmp_path, **{"labels.json": coco(names)}))
    assert set(found(dataset)) == {"a.ARW", "sub/B.nef", "ü.dng"}


def test_the_path_decides_before_the_name(tmp_path: Path) -> None:
    put(tmp_path, "one/a.ARW", "two/a.ARW")
    dataset = find_dataset(put(tmp_path, **{"x.json": coco(["one/a.ARW", "two/a.ARW"])}))
    assert found(dataset) == {"one/a.ARW": (None, ["person"]), "two/a.ARW": (None, ["car"])}


def test_folders_above_may_be_others(tmp_path: Path) -> None:
    put(tmp_path, "raw/one/a.ARW", "raw/two/a.ARW")
    names = ["/home/you/images/one/a.jpg", "C:\\images\\two\\a.jpg"]
    dataset = find_dataset(put(tmp_path, **{"x.json": coco(names)}))
    assert found(dataset)["raw/one/a.ARW"] == (None, ["person"])
    assert found(dataset)["raw/two/a.ARW"] == (None, ["car"])


def test_names_may_be_relative_to_the_annotation_file(tmp_path: Path) -> None:
    put(tmp_path, "train/1.ARW", "valid/1.ARW")
    files = {"train__labels.json": coco(["1.ARW"]), "valid__labels.json": coco(["1.ARW"])}
    dataset = find_dataset(put(tmp_path, **files))
    assert found(dataset) == {
        "train/1.ARW": ("train", ["person"]),
        "valid/1.ARW": ("val", ["person"]),
    }


AMBIGUOUS = {
    "two files": (["one/a.ARW", "two/a.ARW"], ["a.jpg"], ("one/a", "two/a")),
    "two suffixes": (["a.ARW", "a.DNG"], ["a.jpg"], ("images[0]", "differ in their suffix")),
    "two entries": (["a.ARW"], ["x/a.jpg", "y/a.jpg"], ("images[0]", "images[1]", "both fit a")),
    "one name twice": (["a.ARW"], ["a.jpg", "a.JPG"], ("images[0]", "images[1]")),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_fits_twice_is_an_error_that_names_both(tmp_path: Path, case: str) -> None:
    raw, entries, words = AMBIGUOUS[case]
    put(tmp_path, *raw, **{"labels.json": coco(entries)})
    with pytest.raises(AnnotationError) as caught:
        find_dataset(tmp_path)
    assert all(word in str(caught.value) for word in ("labels.json", *words)), caught.value


def test_splits_are_read_from_the_names_of_coco_files(tmp_path: Path) -> None:
    put(tmp_path, "a.NEF", "b.NEF", "c.NEF", "d.NEF")
    files = {
        "raw_new_Nikon750_train.json": coco(["a.NEF"]),
        "raw_new_Nikon750_val.json": coco(["b.NEF"]),
        "raw_str_labeled_test.json": coco(["c.NEF"]),
        "others.json": coco(["d.NEF"]),
    }
    dataset = find_dataset(put(tmp_path, **files))
    assert {name: split for name, (split, _) in found(dataset).items()} == {
        "a.NEF": "train", "b.NEF": "val", "c.NEF": "test", "d.NEF": None,
    }  # fmt: skip
    assert [s.path for s in dataset.split("val")] == [str(tmp_path / "b.NEF")]


def test_categories_are_merged_by_name_and_keep_their_numbers(tmp_path: Path) -> None:
    put(tmp_path, "a.NEF", "b.NEF")
    files = {
        "train.json": coco(["a.NEF"], ["car"]),
        "val.json": coco(["b.NEF"], ["person", "boat", "car"]),
    }
    dataset = find_dataset(put(tmp_path, **files))
    assert dataset.categories == ("car", "person", "boat") and dataset.unused == ("boat",)
    assert found(dataset) == {"a.NEF": ("train", ["car"]), "b.NEF": ("val", ["person"])}
    (problem,) = dataset.problems
    assert problem.mended and problem.what == "1 of 3 classes are used by no box (boat)"
    assert find_dataset(tmp_path, keep_unused=False).categories == ("car", "person")


def test_a_class_that_no_box_uses_keeps_the_numbers_of_the_others(tmp_path: Path) -> None:
    """A detector with fixed class numbers takes 2 for a car because the file says so."""
    put(tmp_path, "images/a.ARW")
    files = {
        "data.yaml": "train: images\nnames: [person, boat, car]\n",
        "labels__a.txt": "2 .5 .5 .1 .1",
    }
    dataset = find_dataset(put(tmp_path, **files))
    assert dataset.categories == ("person", "boat", "car")
    assert dataset.unused == ("person", "boat")
    (sample,) = dataset.samples
    assert sample.labels is not None and sample.labels.classes.tolist() == [2]


def test_files_that_say_the_same_are_taken_once(tmp_path: Path) -> None:
    """RAW-NOD has each split twice, for the RAW files and for JPEGs of them."""
    put(tmp_path, "a.NEF")
    files = {"raw_new_train.json": coco(["a.NEF"]), "rawpy_new_train.json": coco(["a.JPG"])}
    dataset = find_dataset(put(tmp_path, **files))
    assert len(dataset.samples) == 1 and len(dataset.samples[0].labels.boxes) == 1  # type: ignore[union-attr]
    assert any("rawpy_new_train.json: repeats 1 photographs" in note for note in dataset.notes)


ONE = {"one.json": coco(["a.NEF"])}
CONTRADICTIONS = {
    "boxes": ({**ONE, "two.json": coco(["a.NEF"], box=(1, 2, 30, 21))}, "different boxes"),
    "classes": ({**ONE, "two.json": coco(["a.NEF"], ["car"])}, "different boxes"),
    "splits": ({"train.json": ONE["one.json"], "test.json": ONE["one.json"]}, "in test by"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_files_that_contradict_each_other_are_refused(tmp_path: Path, case: str) -> None:
    files, words = CONTRADICTIONS[case]
    put(tmp_path, "a.NEF", **files)
    with pytest.raises(AnnotationError, match=words) as caught:
        find_dataset(tmp_path)
    assert all(name in str(caught.value) for name in files)
    assert len(find_dataset(tmp_path, tmp_path / next(iter(files))).samples) == 1


def test_files_without_an_entry_are_no_negatives(tmp_path: Path) -> None:
    document = json.loads(coco(["a.ARW", "b.ARW", "gone.ARW"]))
    document["annotations"] = document["annotations"][:1]
    put(tmp_path, "a.ARW", "b.ARW", "c.ARW", **{"x.json": json.dumps(document)})
    dataset = find_dataset(tmp_path)
    assert found(dataset) == {"a.ARW": (None, ["person"]), "b.ARW": (None, [])}
    assert (dataset.files_without_entry, dataset.entries_without_file) == (1, 1)
    (_, problem) = dataset.problems  # the first: a class that nothing uses
    assert problem.mended and problem.what == "1 of 3 photographs have no RAW file here (gone)"
    assert set(found(find_dataset(tmp_path, negatives=False))) == {"a.ARW"}
    assert found(find_dataset(tmp_path, unannotated=True))["c.ARW"] == (None, ["?"])


def test_voc_is_found_with_its_lists(tmp_path: Path) -> None:
    put(tmp_path, "JPEGImages/a.NEF", "JPEGImages/b.NEF", "JPEGImages/c.NEF")
    files = {
        "Annotations__a.xml": voc(),
        "Annotations__b.xml": voc("car"),
        "Annotations__c.xml": voc(),
        "ImageSets__Main__train.txt": "a\n",
        "ImageSets__Main__val.txt": "b\n\n",
    }
    dataset = find_dataset(put(tmp_path, **files))
    assert found(dataset) == {
        "JPEGImages/a.NEF": ("train", ["person"]),
        "JPEGImages/b.NEF": ("val", ["car"]),
    }
    assert dataset.annotations == ((str(tmp_path), "VOC"),)


def test_voc_and_yolo_beside_the_files(tmp_path: Path) -> None:
    put(tmp_path / "voc", "a.NEF", "a.xml", **{"a.xml": voc()})
    assert found(find_dataset(tmp_path / "voc")) == {"a.NEF": (None, ["person"])}
    texts = {"a.txt": "1 .5 .5 .1 .1", "readme.txt": "words", "notes2.txt": "more words"}
    put(tmp_path / "yolo", "a.NEF", **texts, **{"classes.txt": "person\ncar\n"})
    dataset = find_dataset(tmp_path / "yolo")
    assert found(dataset) == {"a.NEF": (None, ["car"])} and len(dataset.problems) == 1
    assert dataset.unused == ("person",)


def test_yolo_by_its_data_yaml(tmp_path: Path) -> None:
    put(tmp_path, "images/train/a.ARW", "images/val/a.ARW")
    files = {
        "data.yaml": "train: images/train\nval: images/val\nnames: [person, car]\n",
        "labels__train__a.txt": "0 .5 .5 .1 .1",
        "labels__val__a.txt": "1 .5 .5 .1 .1",
    }
    dataset = find_dataset(put(tmp_path, **files))
    assert found(dataset) == {
        "images/train/a.ARW": ("train", ["person"]),
        "images/val/a.ARW": ("val", ["car"]),
    }
    assert find_dataset(tmp_path, tmp_path / "data.yaml").samples[0].labels is not None


def test_coco_goes_before_voc_and_says_so(tmp_path: Path) -> None:
    put(tmp_path, "a.NEF", **{"a.xml": voc("bus"), "x.json": coco(["a.NEF"]), "other.json": "{}"})
    dataset = find_dataset(tmp_path)
    assert found(dataset) == {"a.NEF": (None, ["person"])}
    assert any("VOC annotations are there too" in note for note in dataset.notes)


def test_what_rawisp_wrote_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "a.NEF", **{"x.json": coco(["a.NEF"])})
    ours = {"rawisp": {"version": "1"}, **json.loads(coco(["a.png"], box=(1, 1, 5, 5)))}
    put(tmp_path, **{"out__annotations.json": json.dumps(ours)})
    dataset = find_dataset(tmp_path)
    assert len(dataset.samples) == 1
    assert any("pixels of rawisp's outputs; passed over" in note for note in dataset.notes)


def test_lists_divide_and_may_leave_out(tmp_path: Path) -> None:
    put(tmp_path, "s/a.NEF", "s/b.NEF", "s/c.NEF", **{"x.json": coco(["a", "b", "c"])})
    put(tmp_path, **{"val.txt": "s/b.NEF\r\n# gone\n"})
    by_one = find_dataset(tmp_path, lists=tmp_path / "val.txt")
    assert [s.split for s in by_one.samples] == ["train", "val", "train"]
    put(tmp_path, **{"train.txt": "c\n"})
    by_two = find_dataset(tmp_path, lists=[tmp_path / "val.txt", tmp_path / "train.txt"])
    assert [(Path(s.path).name, s.split) for s in by_two.samples] == [
        ("b.NEF", "val"),
        ("c.NEF", "train"),
    ]
    assert any(
        "1 of 2 names are no annotated RAW file's (# gone)" in p.what for p in by_two.problems
    )
    put(tmp_path, **{"train.txt": "b\n"})
    with pytest.raises(
        AnnotationError, match=r"val\.txt, line 1 and .*train\.txt, line 1 both list s/b"
    ):
        find_dataset(tmp_path, lists=[tmp_path / "val.txt", tmp_path / "train.txt"])


def test_a_share_is_set_aside_by_the_names_alone(tmp_path: Path) -> None:
    names = [f"{n:04d}.NEF" for n in range(400)]
    put(tmp_path, *names[:300], **{"x.json": coco(names)})
    before = {s.path: s.split for s in find_dataset(tmp_path, val=0.1).samples}
    assert 15 <= list(before.values()).count("val") <= 50
    assert before == {s.path: s.split for s in find_dataset(tmp_path, val=0.1).samples}
    put(tmp_path, *names[300:])
    after = {s.path: s.split for s in find_dataset(tmp_path, val=0.1).samples}
    assert {path: after[path] for path in before} == before
    other = {s.path: s.split for s in find_dataset(tmp_path, val=0.1, seed=1).samples}
    assert other != after
    more = {s.path for s in find_dataset(tmp_path, val=0.3).samples if s.split == "val"}
    assert {path for path, split in after.items() if split == "val"} < more


def test_a_share_keeps_the_test_set_and_takes_one_at_least(tmp_path: Path) -> None:
    put(tmp_path, "a.NEF", "b.NEF", "c.NEF")
    put(tmp_path, **{"train.json": coco(["a", "b"]), "test.json": coco(["c"])})
    splits = [s.split for s in find_dataset(tmp_path, val=0.0001).samples]
    assert sorted(splits[:2]) == ["train", "val"] and splits[2] == "test"  # type: ignore[type-var]


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none(sample_data: Path, share: float) -> None:
    with pytest.raises(UsageError, match="is no share"):
        find_dataset(sample_data, val=share)


def test_options_that_cannot_work_together(tmp_path: Path) -> None:
    put(tmp_path, "a.NEF", "b.NEF", **{"train.json": coco(["a"]), "val.json": coco(["b"])})
    with pytest.raises(UsageError, match="here some are"):
        find_dataset(tmp_path, val=0.5)
    put(tmp_path, **{"these.txt": "a"})
    with pytest.raises(UsageError, match="must say train, val or test"):
        find_dataset(tmp_path, lists=tmp_path / "these.txt")


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        find_dataset(tmp_path / "gone")
    with pytest.raises(NothingToDoError, match="holds no camera RAW files"):
        find_dataset(tmp_path)
    put(tmp_path, "a.NEF", **{"list.json": "[1]"})
    with pytest.raises(AnnotationError, match=r"COCO, VOC or YOLO \(list.json is none\)"):
        find_dataset(tmp_path)
    put(tmp_path, **{"x.json": coco(["other.NEF"])})
    with pytest.raises(AnnotationError, match=r"none of its 1 photographs is .* against a"):
        find_dataset(tmp_path)


def test_classes_that_nothing_names_are_told(tmp_path: Path) -> None:
    put(tmp_path / "a", "x.ARW", **{"x.txt": "2 0.5 0.5 0.2 0.2\n"})
    assert any("nothing names its classes" in note for note in find_dataset(tmp_path / "a").notes)
    put(tmp_path / "b", "x.ARW", **{"x.txt": "0 0.5 0.5 0.2 0.2\n", "classes.txt": "7 up\n"})
    assert not any("nothing names" in note for note in find_dataset(tmp_path / "b").notes)


def test_the_suffix_decides_between_files_of_one_name(tmp_path: Path) -> None:
    """The camera's files with DNGs made of them beside."""
    put(tmp_path / "one", "a.ARW", "a.DNG", **{"annotations.json": coco(["a.arw"])})
    assert list(found(find_dataset(tmp_path / "one"))) == ["a.ARW"]
    both = coco(["sub/a.ARW", "sub/a.dng"])
    put(tmp_path / "both", "sub/a.ARW", "sub/a.DNG", **{"annotations.json": both})
    assert found(find_dataset(tmp_path / "both")) == {
        "sub/a.ARW": (None, ["person"]),
        "sub/a.DNG": (None, ["car"]),
    }


def test_cocos_other_tasks_beside_the_objects_are_passed_over(tmp_path: Path) -> None:
    """annotations/ of COCO 2017: instances, person_keypoints, captions of the same photographs."""
    put(tmp_path, "val2017/a.ARW", "val2017/b.ARW")
    instances = coco(["a.jpg", "b.jpg"])
    people = coco(["a.jpg", "b.jpg"], ["person"])
    captions = json.loads(instances) | {
        "annotations": [{"id": 1, "image_id": 0, "caption": "a car"}],
        "categories": [],
    }
    files = {
        "annotations__captions_val2017.json": json.dumps(captions),
        "annotations__instances_val2017.json": instances,
        "annotations__person_keypoints_val2017.json": people,
    }
    dataset = find_dataset(put(tmp_path, **files))
    assert found(dataset) == {
        "val2017/a.ARW": ("val", ["person"]), "val2017/b.ARW": ("val", ["car"]),
    }  # fmt: skip
    (note,) = [text for text in dataset.notes if "no objects of its own" in text]
    assert "captions_val2017.json" in note and "person_keypoints_val2017.json" in note
    (tmp_path / "annotations" / "instances_val2017.json").unlink()
    assert found(find_dataset(tmp_path))["val2017/b.ARW"] == ("val", ["person"])


def test_photographs_without_any_box_are_coco_all_the_same(tmp_path: Path) -> None:
    document = json.loads(coco(["a.jpg"])) | {"annotations": []}
    put(tmp_path, "a.ARW", **{"labels.json": json.dumps(document)})
    assert found(find_dataset(tmp_path)) == {"a.ARW": (None, [])}


def test_boxes_that_are_rotated_are_widened_and_said(tmp_path: Path) -> None:
    """CVAT's attributes.rotation: degrees about the centre."""
    document = json.loads(coco(["a.jpg"], box=(20, 10, 20, 8)))
    document["annotations"][0]["attributes"] = {"rotation": 90.0}
    put(tmp_path / "coco", "a.ARW", **{"labels.json": json.dumps(document)})
    turned = voc().replace(
        "</object>",
        "<attributes><attribute><name>rotation</name><value>90</value></attribute></attributes>"
        "</object>",
    )
    put(tmp_path / "voc", "a.ARW", **{"a.xml": turned})
    for kind, box in (("coco", [26, 4, 8, 20]), ("voc", [1.5, 1.5, 19, 18])):
        dataset = find_dataset(tmp_path / kind)
        (sample,) = dataset.samples
        assert sample.labels is not None
        assert sample.labels.boxes[0].tolist() == pytest.approx(box)
        assert any("is rotated by 90 degrees" in problem.what for problem in dataset.problems)
