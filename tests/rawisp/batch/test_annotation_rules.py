"""What `enhance --annotations` does around the boxes: reruns, packed files, files in the way."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rawisp.batch import PackSettings, RunOptions, enhance_folder, pack_folder
from rawisp.data.annotations.coco import read_coco
from rawisp.errors import AnnotationError, OutputError

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
    sizes = {"turned1": (WIDTH, HEIGHT), "turned6": (7, 7)}
    file = labels(tmp_path / "labels.json", sizes)
    report = enhance_folder(sources, tmp_path / "out", annotations=file, options=TWO)
    assert [r["status"] for r in report.records] == ["skipped", "failed"]
    assert report.exit_code == 1 and report.annotations["images"] == 1
    again = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [i["id"] for i in again["images"]] == ["turned1"]


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
    with pytest.raises(AnnotationError, match="2 images are called 'turned1'"):
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
