"""What `enhance --annotations` does around the boxes: reruns, packed files, files in the way."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rawisp.batch import EnhanceSettings, PackSettings, RunOptions, enhance_folder, pack_folder
from rawisp.data.annotations.coco import read_coco
from rawisp.errors import AnnotationError, OutputError, UsageError

MakeRaw = Callable[..., Path]
RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]
TWO = RunOptions(workers=2)
WIDTH, HEIGHT = 200, 120


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, make_raw: MakeRaw) -> Path:
    """turned1.ARW and turned6.ARW."""
    folder = tmp_path_factory.mktemp("photos")
    for exif in (1, 6):
        make_raw(folder / f"turned{exif}.ARW", exif, HEIGHT, WIDTH, exif_orientation=exif)
    return folder


def labels(path: Path, files: dict[str, tuple[int, int]]) -> Path:
    """A COCO file with one box on each of `files` (name -> annotated size)."""
    images = [
        {"id": name, "file_name": f"{name}.ARW", "width": w, "height": h}
        for name, (w, h) in files.items()
    ]
    annotations = [
        {"id": n, "image_id": name, "category_id": 3, "bbox": [136, 36, 8, 8]}
        for n, name in enumerate(files)
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_labels_come_again_for_outputs_that_are_skipped(photos: Path, tmp_path: Path) -> None:
    """First without labels, then with; one of them was drawn on another frame."""
    sources = [photos / "turned1.ARW", photos / "turned6.ARW"]
    assert enhance_folder(sources, tmp_path / "out", options=TWO).exit_code == 0
    sizes = {"turned1": (WIDTH, HEIGHT), "turned6": (300, 300)}
    file = labels(tmp_path / "labels.json", sizes)
    report = enhance_folder(sources, tmp_path / "out", annotations=file, options=TWO)
    assert [r["status"] for r in report.records] == ["skipped", "failed"]
    assert report.exit_code == 1 and report.annotations["images"] == 1
    again = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [i["original_id"] for i in again["images"]] == ["turned1"]


def test_annotations_that_rawisp_wrote_itself_can_be_given_twice(
    photos: Path, tmp_path: Path
) -> None:
    """As those of `synth`, which bear its mark."""
    file = labels(tmp_path / "labels.json", {"turned1": (WIDTH, HEIGHT)})
    marked = {**json.loads(file.read_text()), "rawisp": {"made_from": "data.yaml"}}
    file.write_text(json.dumps(marked))
    for _ in range(2):
        enhance_folder(photos / "turned1.ARW", tmp_path / "out", annotations=file, options=TWO)
    written = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert written["rawisp"]["made_from"] == "labels.json"


@pytest.mark.parametrize("orient", ["sensor", "upright"])
def test_packed_files_take_labels_of_the_sensor_frame(
    photos: Path, tmp_path: Path, orient: str
) -> None:
    """Packed the box is 68..72 x 18..22; a clockwise quarter turn of 100x60 gives (60 - y, x)."""
    settings = PackSettings(format="tiff", orient=orient)  # type: ignore[arg-type]
    pack_folder(photos / "turned6.ARW", tmp_path / "in", settings, options=TWO)
    file = labels(tmp_path / "labels.json", {"turned6": (WIDTH, HEIGHT)})
    report = enhance_folder(tmp_path / "in", tmp_path / "out", annotations=file, options=TWO)
    assert report.exit_code == 0, [r["reason"] for r in report.records]
    moved = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [a["bbox"] for a in moved["annotations"]] == [[38, 68, 4, 4]]


def test_two_inputs_of_one_entry_are_refused_or_make_a_file_that_can_be_read(
    photos: Path, tmp_path: Path
) -> None:
    """The same stem in two folders, both meant by one image of the annotations."""
    for folder in ("one", "two"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        data = (photos / "turned1.ARW").read_bytes()
        (tmp_path / "in" / folder / "turned1.ARW").write_bytes(data)
    file = labels(tmp_path / "labels.json", {"turned1": (WIDTH, HEIGHT)})
    with contextlib.suppress(AnnotationError):
        enhance_folder(tmp_path / "in", tmp_path / "out", annotations=file, options=TWO)
        read_again = read_coco(str(tmp_path / "out" / "annotations.json")).document
        ids = [a["id"] for a in read_again["annotations"]]
        assert len(ids) == len(set(ids))
        return
    assert not (tmp_path / "out" / "annotations.json").exists()


def test_labels_are_not_overwritten(photos: Path, tmp_path: Path) -> None:
    """Neither those that are read nor others that happen to have the same name."""
    file = labels(tmp_path / "annotations.json", {"turned1": (WIDTH, HEIGHT)})
    before = file.read_bytes()
    source = photos / "turned1.ARW"
    with pytest.raises(OutputError, match=r"annotations\.json"):
        enhance_folder(source, tmp_path, annotations=file, options=TWO)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "annotations.json").write_text('{"mine": 1}')
    with pytest.raises(OutputError, match=r"annotations\.json"):
        enhance_folder(source, tmp_path / "out", annotations=file, options=TWO)
    assert file.read_bytes() == before
    assert (tmp_path / "out" / "annotations.json").read_text() == '{"mine": 1}'


def test_an_ambiguous_name_is_found_before_any_work(photos: Path, tmp_path: Path) -> None:
    file = labels(tmp_path / "labels.json", {"a/turned1": (200, 120), "b/turned1": (200, 120)})
    with pytest.raises(AnnotationError, match=r"images\[0\] and .*images\[1\] both fit turned1"):
        enhance_folder(photos / "turned1.ARW", tmp_path / "out", annotations=file, options=TWO)
    assert not (tmp_path / "out").exists()


def test_a_bad_file_is_refused_before_any_work(
    photos: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    (tmp_path / "labels.json").write_text('{"images": []}')
    arguments = ["--annotations", tmp_path / "labels.json", "--json"]
    done = run_rawisp("enhance", photos, "-o", tmp_path / "out", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "labels.json" in done.stderr
    assert not (tmp_path / "out").exists()


def boxed(path: Path, names: list[str]) -> Path:
    return labels(path, dict.fromkeys(names, (WIDTH, HEIGHT)))


def test_splits_of_one_command_keep_their_names(photos: Path, tmp_path: Path) -> None:
    train, val = tmp_path / "train.json", tmp_path / "val.json"
    boxed(train, ["turned1"])
    boxed(val, ["turned6"])
    report = enhance_folder(photos, tmp_path / "out", annotations=[train, val], options=TWO)
    assert report.exit_code == 0, [r["reason"] for r in report.records]
    assert not (tmp_path / "out" / "annotations.json").exists()
    for name, image in (("train", "turned1"), ("val", "turned6")):
        moved = json.loads((tmp_path / "out" / "annotations" / f"{name}.json").read_text())
        assert [i["original_id"] for i in moved["images"]] == [image]
        assert len(moved["annotations"]) == 1
    assert report.annotations["images"] == report.annotations["boxes"] == 2


def test_boxes_of_another_file_are_never_replaced_in_silence(photos: Path, tmp_path: Path) -> None:
    train, val = tmp_path / "train.json", tmp_path / "val.json"
    boxed(train, ["turned1"])
    boxed(val, ["turned6"])
    enhance_folder(photos, tmp_path / "out", annotations=train, options=TWO)
    before = (tmp_path / "out" / "annotations.json").read_bytes()
    with pytest.raises(OutputError, match=r"holds the boxes of train\.json"):
        enhance_folder(photos, tmp_path / "out", annotations=val, options=TWO)
    assert (tmp_path / "out" / "annotations.json").read_bytes() == before
    enhance_folder(photos, tmp_path / "out", annotations=train, options=TWO)
    assert (tmp_path / "out" / "annotations.json").read_bytes() == before


def test_annotations_of_other_photos_are_refused_before_any_work(
    photos: Path, tmp_path: Path
) -> None:
    file = boxed(tmp_path / "labels.json", ["DSC00001", "DSC00002"])
    with pytest.raises(AnnotationError, match="none of its 2 images is called like any input"):
        enhance_folder(photos, tmp_path / "out", annotations=file, options=TWO)
    assert not (tmp_path / "out").exists()


def test_only_annotated_leaves_the_others_out(photos: Path, tmp_path: Path) -> None:
    file = boxed(tmp_path / "labels.json", ["turned6"])
    options = RunOptions(dry_run=True)
    report = enhance_folder(
        photos, tmp_path / "out", annotations=file, only_annotated=True, options=options
    )
    assert [r["output"] for r in report.records] == ["turned6.png"]


def test_a_centred_crop_is_taken_on_request(photos: Path, tmp_path: Path) -> None:
    """200x120 visible, 176x110 annotated: the corner at (12, 4), the box at 136 + 12, 36 + 4."""
    file = labels(tmp_path / "labels.json", {"turned1": (176, 110)})
    source = photos / "turned1.ARW"
    report = enhance_folder(source, tmp_path / "no", annotations=file, options=TWO)
    assert report.exit_code == 1
    assert "--annotation-frame center" in report.records[0]["reason"]
    settings = EnhanceSettings(annotation_frame="center")
    enhance_folder(source, tmp_path / "out", settings, annotations=file, options=TWO)
    moved = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert moved["annotations"][0]["bbox"] == [74, 20, 4, 4]


def test_a_raw_file_and_its_packed_twin_are_noted(photos: Path, tmp_path: Path) -> None:
    pack_folder(photos / "turned1.ARW", tmp_path / "packed", options=TWO)
    notes: list[str] = []
    enhance_folder(
        [photos / "turned1.ARW", tmp_path / "packed"],
        tmp_path / "out",
        options=RunOptions(dry_run=True),
        on_event=lambda event: notes.append(event.text),
    )
    assert any("turned1.npy was packed from a RAW file" in note for note in notes)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PackSettings(dtype="float61"), "dtype 'float61' is none of float32"),  # type: ignore[arg-type]
        (lambda: PackSettings(format="tif"), "format 'tif' is none of npy, tiff"),  # type: ignore[arg-type]
        (lambda: EnhanceSettings(format="webp"), "format 'webp'"),  # type: ignore[arg-type]
        (lambda: EnhanceSettings(fit="none"), "fit 'none' is neither"),  # type: ignore[arg-type]
        (lambda: EnhanceSettings(orient="up"), "orient 'up'"),  # type: ignore[arg-type]
    ],
)
def test_settings_are_checked_when_they_are_made(make: Callable[[], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()
