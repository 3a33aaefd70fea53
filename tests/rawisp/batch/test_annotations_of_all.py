"""OUT's annotations describe all of OUT, whatever a run was given and however it ended."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rawisp.batch import EnhanceSettings, RunOptions, enhance_folder
from rawisp.batch.synth import SynthSettings, synth_folder
from rawisp.data.synth import NightSettings
from rawisp.errors import AnnotationError, OutputError

Json = dict[str, Any]
MakeRaw = Callable[..., Path]
ONE = RunOptions(workers=1)
AGAIN = RunOptions(workers=1, overwrite=True)
SIZE = (60, 40)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, make_raw: MakeRaw) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for number, name in enumerate(("Sony/a", "Sony/b", "Nikon/c", "Nikon/d")):
        make_raw(folder / f"{name}.ARW", number, SIZE[1], SIZE[0])
    return folder


@pytest.fixture
def photos(made: Path, tmp_path: Path) -> Path:
    """Sony/a, Sony/b, Nikon/c, Nikon/d."""
    return Path(shutil.copytree(made, tmp_path / "in"))


def coco(path: Path, names: str | list[str], boxes: int = 2, first: float = 2) -> Path:
    """A COCO file with `boxes` boxes on each image; the ids are text, as RAW-NOD's are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [
        {"id": f"id-{name}", "file_name": f"{name}.ARW", "width": SIZE[0], "height": SIZE[1]}
        for name in names
    ]
    annotations = [
        {"id": number, "image_id": image["id"], "category_id": 3, "bbox": [first, 4, 10, 8 + n]}
        for number, (image, n) in enumerate((i, n) for i in images for n in range(boxes))
    ]
    categories = [{"id": 3, "name": "car"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(document))
    return path


def written(out: Path, name: str = "annotations.json") -> dict[str, list[list[float]]]:
    """Boxes by file_name, after a look at the ids."""
    document = json.loads((out / name).read_text())
    ids = [image["id"] for image in document["images"]]
    assert len(set(ids)) == len(ids) and all(type(one) is int for one in ids)
    numbers = [one["id"] for one in document["annotations"]]
    assert len(set(numbers)) == len(numbers)
    boxes: dict[str, list[list[float]]] = {i["file_name"]: [] for i in document["images"]}
    name_of = {image["id"]: image["file_name"] for image in document["images"]}
    for one in document["annotations"]:
        boxes[name_of[one["image_id"]]].append(one["bbox"])
    return boxes


def test_a_second_run_adds_to_the_first(photos: Path, tmp_path: Path) -> None:
    file, out = coco(tmp_path / "labels.json", "abcd"), tmp_path / "out"
    enhance_folder(photos / "Sony", out, annotations=file, options=ONE)
    assert sorted(written(out)) == ["a.png", "b.png"]
    report = enhance_folder(photos / "Nikon", out, annotations=file, options=ONE)
    boxes = written(out)
    assert sorted(boxes) == ["a.png", "b.png", "c.png", "d.png"]
    assert all(box == [[1, 2, 5, 4], [1, 2, 5, 4.5]] for box in boxes.values())
    assert (report.annotations["images"], report.annotations["boxes"]) == (4, 8)


def test_the_order_of_runs_does_not_matter(photos: Path, tmp_path: Path) -> None:
    file = coco(tmp_path / "labels.json", "abcd")
    for folder in ("Sony", "Nikon"):
        enhance_folder(photos / folder, tmp_path / "one", annotations=file, options=ONE)
    for folder in ("Nikon", "Sony"):
        enhance_folder(photos / folder, tmp_path / "two", annotations=file, options=ONE)
    texts = [(tmp_path / name / "annotations.json").read_bytes() for name in ("one", "two")]
    assert texts[0] == texts[1]


def test_one_file_again_leaves_the_others_their_boxes(photos: Path, tmp_path: Path) -> None:
    file, out = coco(tmp_path / "labels.json", "abcd"), tmp_path / "out"
    enhance_folder([photos / "Sony", photos / "Nikon"], out, annotations=file, options=ONE)
    before = (out / "annotations.json").read_bytes()
    report = enhance_folder(photos / "Sony" / "a.ARW", out, annotations=file, options=AGAIN)
    assert report.count("done") == 1
    assert (out / "annotations.json").read_bytes() == before


def test_outputs_made_again_in_another_size_keep_boxes_that_fit(
    photos: Path, tmp_path: Path
) -> None:
    """Also in a run that is given no annotations, or whose sources have gone since."""
    file, out = coco(tmp_path / "labels.json", "abcd"), tmp_path / "out"
    enhance_folder([photos / "Sony", photos / "Nikon"], out, annotations=file, options=ONE)
    file.unlink()
    shutil.rmtree(photos / "Nikon")
    enhance_folder(photos / "Sony", out, EnhanceSettings(fit=(15, 10)), options=AGAIN)
    boxes = written(out)
    assert boxes["a.png"] == [[0.5, 1, 2.5, 2], [0.5, 1, 2.5, 2.25]]
    assert boxes["c.png"] == [[1, 2, 5, 4], [1, 2, 5, 4.5]]
    with Image.open(out / "a.png") as picture:
        assert picture.size == (15, 10)


def test_a_file_that_fails_now_has_no_boxes_and_the_others_have(
    photos: Path, tmp_path: Path
) -> None:
    file, out = coco(tmp_path / "labels.json", "abcd"), tmp_path / "out"
    enhance_folder(photos / "Sony", out, annotations=file, options=ONE)
    whole = (photos / "Sony" / "b.ARW").read_bytes()
    (photos / "Sony" / "b.ARW").write_bytes(whole[:100])
    report = enhance_folder(photos / "Sony", out, annotations=file, options=ONE)
    assert report.exit_code == 1 and not (out / "b.png").exists()
    assert sorted(written(out)) == ["a.png"]
    (photos / "Sony" / "b.ARW").write_bytes(whole)
    enhance_folder(photos / "Sony", out, options=ONE)  # its boxes are known
    assert sorted(written(out)) == ["a.png", "b.png"]


def test_a_picture_that_was_deleted_is_not_described(photos: Path, tmp_path: Path) -> None:
    file, out = coco(tmp_path / "labels.json", "abcd"), tmp_path / "out"
    enhance_folder(photos / "Sony", out, annotations=file, options=ONE)
    (out / "a.png").unlink()
    enhance_folder(photos / "Nikon", out, annotations=file, options=ONE)
    assert sorted(written(out)) == ["b.png", "c.png", "d.png"]


def test_an_entry_that_was_taken_out_takes_its_boxes_along(photos: Path, tmp_path: Path) -> None:
    file, out = coco(tmp_path / "labels.json", "abcd"), tmp_path / "out"
    enhance_folder(photos / "Sony", out, annotations=file, options=ONE)
    coco(file, "acd", boxes=1)
    enhance_folder(photos / "Sony", out, annotations=file, options=ONE)
    assert written(out) == {"a.png": [[1, 2, 5, 4]]}


def test_corrected_boxes_reach_the_outputs_of_other_runs(photos: Path, tmp_path: Path) -> None:
    file, out = coco(tmp_path / "labels.json", "abcd"), tmp_path / "out"
    enhance_folder(photos / "Sony", out, annotations=file, options=ONE)
    coco(file, "abcd", boxes=1, first=6)
    enhance_folder(photos / "Nikon", out, annotations=file, options=ONE)
    assert written(out) == {f"{name}.png": [[3, 2, 5, 4]] for name in "abcd"}


def test_a_run_that_was_killed_has_noted_its_boxes(photos: Path, tmp_path: Path) -> None:
    """Killed after its last picture, before the annotations; the next run is another one."""
    out = tmp_path / "out"
    file = coco(tmp_path / "sony.json", "ab")
    enhance_folder(photos / "Sony", out, annotations=file, options=ONE)
    (out / "annotations.json").unlink()
    enhance_folder(photos / "Nikon", out, options=ONE)
    assert sorted(written(out)) == ["a.png", "b.png"]


def test_outputs_that_a_broken_off_run_has_not_come_to_keep_their_boxes(
    photos: Path, tmp_path: Path
) -> None:
    """A run that makes everything again has said so in the manifest, and got as far as a."""
    file, out = coco(tmp_path / "labels.json", "abcd"), tmp_path / "out"
    enhance_folder(photos / "Sony", out, annotations=file, options=ONE)
    with (out / "manifest.jsonl").open() as lines:
        records = [json.loads(line) for line in lines]
    (pending,) = [record for record in records if record["output"] == "b.png"]
    pending = {key: pending[key] for key in pending if not key.startswith(("affine", "output_s"))}
    with (out / "manifest.jsonl").open("a") as lines:
        lines.write(json.dumps({**pending, "status": "pending"}) + "\n")
    enhance_folder(photos / "Nikon", out, annotations=file, options=ONE)
    assert sorted(written(out)) == ["a.png", "b.png", "c.png", "d.png"]


def test_the_second_half_has_annotations_of_its_own(photos: Path, tmp_path: Path) -> None:
    """The refusal loses nothing, and what it advises works although Sony is no input then."""
    sony, nikon = coco(tmp_path / "sony.json", "ab"), coco(tmp_path / "nikon.json", "cd")
    out = tmp_path / "out"
    enhance_folder(photos / "Sony", out, annotations=sony, options=ONE)
    with pytest.raises(OutputError, match=r"holds the boxes of .*sony\.json; give all"):
        enhance_folder(photos / "Nikon", out, annotations=nikon, options=ONE)
    assert sorted(written(out)) == ["a.png", "b.png"]
    notes: list[str] = []
    enhance_folder(
        photos / "Nikon",
        out,
        annotations=[sony, nikon],
        options=ONE,
        on_event=lambda event: notes.append(event.text),
    )
    assert sorted(written(out, "annotations/sony.json")) == ["a.png", "b.png"]
    assert sorted(written(out, "annotations/nikon.json")) == ["c.png", "d.png"]
    assert not (out / "annotations.json").exists()
    assert any("annotations.json was removed; its boxes are in annotations/sony.json" in n
               for n in notes)  # fmt: skip
    enhance_folder(photos / "Sony" / "a.ARW", out, annotations=sony, options=AGAIN)
    assert sorted(written(out, "annotations/sony.json")) == ["a.png", "b.png"]
    assert sorted(written(out, "annotations/nikon.json")) == ["c.png", "d.png"]


def test_overwriting_with_another_file_keeps_what_it_does_not_make(
    photos: Path, tmp_path: Path
) -> None:
    sony, nikon = coco(tmp_path / "sony.json", "ab"), coco(tmp_path / "nikon.json", "cd")
    out = tmp_path / "out"
    enhance_folder(photos / "Sony", out, annotations=sony, options=ONE)
    enhance_folder(photos / "Nikon", out, annotations=nikon, options=AGAIN)
    assert sorted(written(out, "annotations/sony.json")) == ["a.png", "b.png"]
    assert sorted(written(out, "annotations/nikon.json")) == ["c.png", "d.png"]


def test_files_of_one_name_are_kept_apart_by_their_folders(photos: Path, tmp_path: Path) -> None:
    """Roboflow's train/_annotations.coco.json and valid/_annotations.coco.json."""
    name, out = "_annotations.coco.json", tmp_path / "out"
    train, valid = coco(tmp_path / "train" / name, "ac"), coco(tmp_path / "valid" / name, "bd")
    for options in (ONE, AGAIN):
        enhance_folder(photos, out, annotations=[train, valid], options=options)
        assert sorted(written(out, f"annotations/train/{name}")) == ["Nikon/c.png", "Sony/a.png"]
        assert sorted(written(out, f"annotations/valid/{name}")) == ["Nikon/d.png", "Sony/b.png"]
    enhance_folder(photos / "Sony", out, annotations=train, only_annotated=True, options=ONE)
    assert sorted(written(out, f"annotations/train/{name}")) == [
        "Nikon/c.png", "Sony/a.png", "a.png",
    ]  # fmt: skip


def test_another_file_of_the_same_name_is_another_file(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sony, nikon = coco(tmp_path / "1" / "x.json", "ab"), coco(tmp_path / "2" / "x.json", "cd")
    enhance_folder(photos / "Sony", out, annotations=sony, options=ONE)
    with pytest.raises(OutputError, match=r"holds the boxes of .*1/x\.json; give all"):
        enhance_folder(photos / "Nikon", out, annotations=nikon, options=ONE)
    sony.rename(tmp_path / "2" / "x.json")  # moved, it is the same
    enhance_folder(photos / "Sony", out, annotations=nikon, options=ONE)
    assert sorted(written(out)) == ["a.png", "b.png"]


def test_a_file_given_twice_is_refused(photos: Path, tmp_path: Path) -> None:
    file = coco(tmp_path / "labels.json", "ab")
    with pytest.raises(AnnotationError, match="is given twice"):
        enhance_folder(photos, tmp_path / "out", annotations=[file, file], options=ONE)


def test_an_older_versions_output_is_taken_over(photos: Path, tmp_path: Path) -> None:
    """It has no labels.jsonl, and text for ids; its boxes are in its outputs' pixels."""
    file, out = coco(tmp_path / "labels.json", "abcd"), tmp_path / "out"
    enhance_folder(photos / "Sony", out, annotations=file, options=ONE)
    (out / "labels.jsonl").unlink()
    document = json.loads((out / "annotations.json").read_text())
    for image in document["images"]:
        number, image["id"] = image["id"], image.pop("original_id")
        for one in document["annotations"]:
            if one["image_id"] == number:
                one["image_id"] = image["id"]
    document["rawisp"]["made_from"] = "labels.json"
    (out / "annotations.json").write_text(json.dumps(document))
    enhance_folder(photos / "Sony", out, EnhanceSettings(fit=(15, 10)), options=AGAIN)
    assert written(out)["a.png"] == [[0.5, 1, 2.5, 2], [0.5, 1, 2.5, 2.25]]
    enhance_folder(photos / "Nikon", out, annotations=file, options=ONE)
    assert sorted(written(out)) == ["a.png", "b.png", "c.png", "d.png"]


def test_a_dry_run_and_a_refusal_write_nothing(photos: Path, tmp_path: Path) -> None:
    file, out = coco(tmp_path / "labels.json", "abcd"), tmp_path / "out"
    dry = RunOptions(workers=1, dry_run=True)
    enhance_folder(photos, out, annotations=file, options=dry)
    assert not out.exists()
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="was not written by rawisp"):
        enhance_folder(photos / "Sony", out, annotations=file, options=ONE)
    assert [path.name for path in out.iterdir()] == ["a.png"]


def test_a_labels_file_of_others_is_left_alone(photos: Path, tmp_path: Path) -> None:
    file, out = coco(tmp_path / "labels.json", "abcd"), tmp_path / "out"
    out.mkdir()
    (out / "labels.jsonl").write_text("{}\n")
    with pytest.raises(OutputError, match=r"labels\.jsonl: was not written by rawisp"):
        enhance_folder(photos, out, annotations=file, options=ONE)
    assert (out / "labels.jsonl").read_text() == "{}\n"


def photographs(folder: Path, names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", SIZE, (60, 60, 60)).save(folder / f"{name}.png")
    return folder


def test_synth_adds_to_earlier_runs_too(tmp_path: Path) -> None:
    file, out = coco(tmp_path / "labels.json", "abcd"), tmp_path / "out"
    settings = SynthSettings(night=NightSettings(lamps=(0, 0)))
    for folder, names in (("1", "ab"), ("2", "cd")):
        source = photographs(tmp_path / folder, names)
        report = synth_folder(source, out, settings, annotations=file, options=ONE)
    everything = {f"{name}.ARW": [[4, 8, 20, 16], [4, 8, 20, 18]] for name in "abcd"}
    assert written(out) == everything
    assert report.annotations["boxes"] == 8
    synth_folder(tmp_path / "1" / "a.png", out, settings, annotations=file, options=AGAIN)
    assert written(out) == everything
    document = json.loads((out / "annotations.json").read_text())
    assert {image["original_id"] for image in document["images"]} == {f"id-{n}" for n in "abcd"}


def test_synths_copies_of_earlier_runs_keep_their_ids(tmp_path: Path) -> None:
    file, out = coco(tmp_path / "labels.json", "ab"), tmp_path / "out"
    settings = SynthSettings(night=NightSettings(lamps=(0, 0)), copies=2)
    for folder, names in (("1", "a"), ("2", "b")):
        source = photographs(tmp_path / folder, names)
        synth_folder(source, out, settings, annotations=file, options=ONE)
    ids = {
        i["file_name"]: i["id"]
        for i in json.loads((out / "annotations.json").read_text())["images"]
    }
    assert ids == {
        "a_night1.ARW": 1001, "a_night2.ARW": 1002, "b_night1.ARW": 2001, "b_night2.ARW": 2002,
    }  # fmt: skip
    assert sum(map(len, written(out).values())) == 8


@pytest.fixture
def cards(made: Path, tmp_path: Path) -> Path:
    """100MSDCF/DSC1.ARW and 101MSDCF/DSC1.ARW: a camera's counter began anew."""
    for folder, name in (("100MSDCF", "Sony/a.ARW"), ("101MSDCF", "Nikon/c.ARW")):
        (tmp_path / "DCIM" / folder).mkdir(parents=True)
        shutil.copy(made / name, tmp_path / "DCIM" / folder / "DSC1.ARW")
    return tmp_path / "DCIM"


def test_boxes_of_another_folder_do_not_come_to_its_namesake(cards: Path, tmp_path: Path) -> None:
    file = coco(tmp_path / "labels.json", ["100MSDCF/DSC1"])
    enhance_folder(cards, tmp_path / "all", annotations=file, options=ONE)
    assert sorted(written(tmp_path / "all")) == ["100MSDCF/DSC1.png"]
    with pytest.raises(AnnotationError, match="is called like any input"):
        enhance_folder(cards / "101MSDCF", tmp_path / "out", annotations=file, options=ONE)
    enhance_folder(cards / "100MSDCF", tmp_path / "out", annotations=file, options=ONE)
    assert sorted(written(tmp_path / "out")) == ["DSC1.png"]


@pytest.mark.parametrize("gone", [False, True])
def test_folders_in_the_names_are_enough(cards: Path, tmp_path: Path, gone: bool) -> None:
    """Both fit the name DSC1; that the input lies in 101MSDCF tells which it is."""
    file = coco(tmp_path / "labels.json", ["100MSDCF/DSC1"], first=30)
    document = json.loads(file.read_text())
    other = json.loads(coco(tmp_path / "other.json", ["101MSDCF/DSC1"]).read_text())
    document["images"] += other["images"]
    document["annotations"] += other["annotations"]
    file.write_text(json.dumps(document))
    if gone:
        shutil.rmtree(cards / "100MSDCF")
    enhance_folder(cards / "101MSDCF", tmp_path / "out", annotations=file, options=ONE)
    assert written(tmp_path / "out") == {"DSC1.png": [[1, 2, 5, 4], [1, 2, 5, 4.5]]}


def test_of_two_suffixes_the_one_that_is_named_has_the_boxes(made: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.ARW", "a.SR2"):
        shutil.copy(made / "Sony" / "a.ARW", tmp_path / "in" / name)
    file = coco(tmp_path / "labels.json", "a")
    enhance_folder(tmp_path / "in", tmp_path / "out", annotations=file, options=ONE)
    assert list(written(tmp_path / "out")) == ["a.ARW.png"]
    assert len(os.listdir(tmp_path / "out")) >= 4


def test_names_of_a_file_among_the_photographs_are_its_folders(made: Path, tmp_path: Path) -> None:
    """train/a.ARW and valid/a.ARW, each with an _annotations.coco.json beside it that says a."""
    name, out = "_annotations.coco.json", tmp_path / "out"
    files = []
    for boxes, folder in enumerate(("train", "valid"), 1):
        (tmp_path / "in" / folder).mkdir(parents=True)
        shutil.copy(made / "Sony" / "a.ARW", tmp_path / "in" / folder / "a.ARW")
        files.append(coco(tmp_path / "in" / folder / name, "a", boxes=boxes))
    enhance_folder(tmp_path / "in", out, annotations=files, options=ONE)
    for boxes, folder in enumerate(("train", "valid"), 1):
        found = written(out, f"annotations/{folder}/{name}")
        assert {key: len(value) for key, value in found.items()} == {f"{folder}/a.png": boxes}


def test_exported_names_are_found_and_said(photos: Path, tmp_path: Path) -> None:
    file = coco(tmp_path / "labels.json", ["a1b2c3d4-a", "b_jpg.rf.0123456789abcdef"])
    notes: list[str] = []
    enhance_folder(
        photos / "Sony",
        tmp_path / "out",
        annotations=file,
        options=ONE,
        on_event=lambda event: notes.append(event.text),
    )
    assert sorted(written(tmp_path / "out")) == ["a.png", "b.png"]
    assert any("2 names are an export's" in note for note in notes)
