"""`synth_folder`: photographs and their boxes become RAW files, whatever else is in the folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rawisp
from rawisp.batch import RunOptions
from rawisp.batch.synth import SynthSettings, synth_folder
from rawisp.data.synth import (
    NightSettings,
    body_named,
    night_generator,
    night_mosaic,
    read_photograph,
)
from rawisp.errors import AnnotationError, NothingToDoError, OutputError, UsageError

Json = dict[str, Any]
ONE = RunOptions(workers=1)
TWO = RunOptions(workers=2)
# Nothing that hides a planted rectangle.
CLEAR = NightSettings(stops=(3, 3), lamps=(0, 0), noise=False)


def rectangle(path: Path, size: tuple[int, int], box: tuple[int, ...], **options: Any) -> None:
    """A dark photograph with one bright rectangle at `box` (x, y, width, height)."""
    rgb = np.full((size[1], size[0], 3), 60, np.uint8)
    x, y, width, height = box
    rgb[y : y + height, x : x + width] = 240
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, **options)


def coco(path: Path, images: list[Json], boxes: dict[Any, list[tuple[int, ...]]]) -> Path:
    annotations = [
        {"id": n, "image_id": key, "category_id": 3, "bbox": list(box), "area": 1, "iscrowd": 0}
        for n, (key, box) in enumerate((k, b) for k, listed in boxes.items() for b in listed)
    ]
    categories = [{"id": 3, "name": "car"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(document))
    return path


def bright(path: Path) -> list[float]:
    """x, y, width, height of what is bright in a RAW file, in sensor pixels."""
    luminance = rawisp.open_raw(path).pack("xyz")[..., 1]
    rows, columns = np.nonzero(luminance > (luminance.min() + luminance.max()) / 2)
    x, y = 2 * columns.min(), 2 * rows.min()
    return [x, y, 2 * (columns.max() + 1) - x, 2 * (rows.max() + 1) - y]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Six small ones in two folders."""
    rng = np.random.default_rng(0)
    for n in range(6):
        path = tmp_path / "photographs" / "ab"[n % 2] / f"{n}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)).save(path)
    return tmp_path / "photographs"


@pytest.mark.parametrize(
    ("scale", "size"), [(1.0, (80, 60)), (1.5, (81, 67)), (2.0, (81, 67)), (3.0, (80, 60))]
)
def test_boxes_lie_on_what_they_were_drawn_around(
    tmp_path: Path, scale: float, size: tuple[int, int]
) -> None:
    box = (21, 14, 30, 25)
    rectangle(tmp_path / "in" / "a.png", size, box)
    images = [{"id": 5, "file_name": "a.png", "width": size[0], "height": size[1]}]
    labels = coco(tmp_path / "labels.json", images, {5: [box]})
    settings = SynthSettings(night=NightSettings(**{**vars(CLEAR), "scale": scale}))
    report = synth_folder(
        tmp_path / "in", tmp_path / "out", settings, annotations=labels, options=ONE
    )
    assert report.exit_code == 0, report.records
    document = json.loads((tmp_path / "out" / "annotations.json").read_text())
    (image,), (annotation,) = document["images"], document["annotations"]
    frame = rawisp.open_raw(tmp_path / "out" / "a.ARW")
    assert (image["id"], image["width"], image["height"]) == (5, *frame.visible_size)
    # Within a pixel of the packed image, which is two of the sensor.
    found = np.array(bright(tmp_path / "out" / "a.ARW"))
    drawn = np.array(annotation["bbox"])
    assert np.abs(found[:2] - drawn[:2]).max() <= 2
    assert np.abs(found[:2] + found[2:] - drawn[:2] - drawn[2:]).max() <= 2
    assert annotation["category_id"] == 3 and document["categories"] == [{"id": 3, "name": "car"}]


def test_boxes_of_yolo_are_relative_to_the_picture_as_displayed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn clockwise: (x, y, w, h) of 80x60 is shown at (60 - y - h, x)
    rectangle(tmp_path / "in" / "a.png", (80, 60), (20, 10, 16, 8), exif=exif)
    x, y, w, h = 60 - 10 - 8, 20, 8, 16
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(
        f"2 {(x + w / 2) / 60} {(y + h / 2) / 80} {w / 60} {h / 80}\n"
    )
    synth_folder(
        tmp_path / "in",
        tmp_path / "out",
        SynthSettings(night=CLEAR),
        annotations=tmp_path / "labels",
        options=ONE,
    )
    document = json.loads((tmp_path / "out" / "annotations.json").read_text())
    (annotation,) = document["annotations"]
    assert annotation["bbox"] == pytest.approx([2 * x, 2 * y, 2 * w, 2 * h])
    found = bright(tmp_path / "out" / "a.ARW")
    assert np.abs(np.array(found) - annotation["bbox"]).max() <= 2


def test_a_size_that_the_picture_does_not_have_fails_alone(tmp_path: Path) -> None:
    for name in "ab":
        rectangle(tmp_path / "in" / f"{name}.png", (80, 60), (20, 10, 16, 8))
    images = [
        {"id": 1, "file_name": "a.png", "width": 60, "height": 80},
        {"id": 2, "file_name": "b.png", "width": 80, "height": 60},
    ]
    labels = coco(tmp_path / "labels.json", images, {1: [(1, 1, 9, 9)], 2: [(1, 1, 9, 9)]})
    report = synth_folder(tmp_path / "in", tmp_path / "out", annotations=labels, options=ONE)
    assert report.exit_code == 1
    assert [record["status"] for record in report.records] == ["failed", "done"]
    assert "the annotations say 60x80, it shows 80x60" in report.records[0]["reason"]
    document = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [image["id"] for image in document["images"]] == [2]


def test_order_and_workers_do_not_matter_and_the_seed_does(
    photographs: Path, tmp_path: Path, digests: Callable[..., dict[str, str]]
) -> None:
    settings = SynthSettings(cameras=("DSC-RX100M7", "NIKON D750", "dng"))
    a, b = sorted(photographs.iterdir())
    synth_folder([a, b], tmp_path / "one", settings, options=ONE)
    synth_folder([b, a], tmp_path / "two", settings, options=TWO)
    one = digests(tmp_path / "one")
    assert one == digests(tmp_path / "two") and len(one) == 6
    settings = SynthSettings(cameras=settings.cameras, seed=1)
    synth_folder([a, b], tmp_path / "other", settings, options=TWO)
    other = digests(tmp_path / "other")
    assert set(other) == set(one) and not set(other.values()) & set(one.values())


def test_cameras_alternate_by_name(photographs: Path, tmp_path: Path) -> None:
    settings = SynthSettings(cameras=("NIKON D750", "dng"), copies=2)
    report = synth_folder(photographs, tmp_path / "out", settings, options=TWO)
    assert report.exit_code == 0 and len(report.records) == 12
    cameras = [record["camera"] for record in report.records]
    # The two nights of a photograph take one camera each.
    assert all(
        {a, b} == {"NIKON D750", "dng"} for a, b in zip(cameras[::2], cameras[1::2], strict=True)
    )
    assert len(set(cameras[::2])) == 2
    for record in report.records:
        frame = rawisp.open_raw(tmp_path / "out" / record["output"])
        assert frame.exposure.model == body_named(record["camera"]).model
        assert record["output"].endswith(body_named(record["camera"]).suffix)


def test_copies_are_different_nights_with_ids_of_their_own(tmp_path: Path) -> None:
    rectangle(tmp_path / "in" / "a.png", (80, 60), (20, 10, 16, 8))
    images = [{"id": 5, "file_name": "a.png", "width": 80, "height": 60}]
    labels = coco(tmp_path / "labels.json", images, {5: [(20, 10, 16, 8)]})
    out = tmp_path / "out"
    for copies in (2, 3):  # the second run adds one
        settings = SynthSettings(copies=copies)
        report = synth_folder(tmp_path / "in", out, settings, annotations=labels, options=ONE)
    assert [record["status"] for record in report.records] == ["skipped", "skipped", "done"]
    assert [record["output"] for record in report.records] == [
        "a_night1.ARW", "a_night2.ARW", "a_night3.ARW",
    ]  # fmt: skip
    assert len({(out / record["output"]).read_bytes() for record in report.records}) == 3
    document = json.loads((out / "annotations.json").read_text())
    assert [image["id"] for image in document["images"]] == [5001, 5002, 5003]
    assert [a["image_id"] for a in document["annotations"]] == [5001, 5002, 5003]
    assert report.annotations["boxes"] == 3


def test_the_manifest_is_enough_to_make_a_file_again_or_anew(
    photographs: Path, tmp_path: Path
) -> None:
    settings = SynthSettings(cameras=("NIKON D750", "DSC-RX100M7"), seed=7)
    synth_folder(photographs, tmp_path / "out", settings, options=TWO)
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == 6
    for record in map(json.loads, lines):
        rgb = read_photograph(record["source"])
        night = NightSettings.from_record(record["settings"])
        body = body_named(record["camera"])
        rng = night_generator(record["settings"]["seed"], record["name"], record["number"])
        mosaic, drawn = night_mosaic(rgb, body, night, rng)
        written = rawisp.open_raw(tmp_path / "out" / record["output"])
        assert (mosaic == written.mosaic).all() and drawn.record() == record["night"]
        later = night_generator(record["settings"]["seed"], record["name"], 1000)
        assert (night_mosaic(rgb, body, night, later)[0] != mosaic).mean() > 0.9


def test_a_broken_photograph_fails_alone(photographs: Path, tmp_path: Path) -> None:
    whole = (photographs / "a" / "0.jpg").read_bytes()
    (photographs / "a" / "0.jpg").write_bytes(whole[: len(whole) // 2])
    (photographs / "b" / "1.jpg").write_bytes(b"")
    Image.new("RGB", (3, 3)).save(photographs / "b" / "tiny.png")
    report = synth_folder(photographs, tmp_path / "out", options=TWO)
    failed = [record for record in report.records if record["status"] == "failed"]
    reasons = {Path(record["source"]).name: record["reason"] for record in failed}
    assert set(reasons) == {"0.jpg", "1.jpg", "tiny.png"} and report.count("done") == 4
    assert reasons["0.jpg"].startswith("is damaged or no photograph")
    assert reasons["tiny.png"] == (
        "would become a mosaic of 6x6; no side of a RAW file is below 22; raise --scale"
    )
    assert report.exit_code == 1


def test_a_mosaic_beyond_the_limit_is_refused(photographs: Path, tmp_path: Path) -> None:
    settings = SynthSettings(max_megapixels=0.001)
    report = synth_folder(photographs, tmp_path / "out", settings, options=ONE)
    assert report.count("failed") == 6 and "lower --scale" in report.records[0]["reason"]


def test_what_is_done_is_skipped_and_other_settings_are_refused(
    photographs: Path, tmp_path: Path
) -> None:
    synth_folder(photographs, tmp_path / "out", options=TWO)
    assert synth_folder(photographs, tmp_path / "out", options=ONE).count("skipped") == 6
    for changed in (SynthSettings(seed=1), SynthSettings(night=NightSettings(stops=(3, 4)))):
        with pytest.raises(OutputError, match="was made with other settings"):
            synth_folder(photographs, tmp_path / "out", changed, options=ONE)
    again = RunOptions(workers=1, overwrite=True)
    assert synth_folder(photographs, tmp_path / "out", options=again).count("done") == 6


def test_a_dry_run_writes_nothing(photographs: Path, tmp_path: Path) -> None:
    report = synth_folder(photographs, tmp_path / "out", options=RunOptions(dry_run=True))
    assert report.count("planned") == 6 and not (tmp_path / "out").exists()


def test_boxes_that_come_later_are_placed_all_the_same(tmp_path: Path) -> None:
    box = (20, 10, 16, 8)
    for name in "ab":
        rectangle(tmp_path / "in" / f"{name}.png", (80, 60), box)
    synth_folder(tmp_path / "in", tmp_path / "out", options=ONE)
    images = [
        {"id": 1, "file_name": "a.png", "width": 80, "height": 60},
        {"id": 2, "file_name": "b.png", "width": 8, "height": 6},
    ]
    labels = coco(tmp_path / "labels.json", images, {1: [box], 2: [(1, 1, 2, 2)]})
    report = synth_folder(tmp_path / "in", tmp_path / "out", annotations=labels, options=ONE)
    assert [record["status"] for record in report.records] == ["skipped", "failed"]
    assert report.annotations["boxes"] == 1


def test_annotations_of_others_are_never_lost(tmp_path: Path) -> None:
    rectangle(tmp_path / "in" / "a.png", (80, 60), (20, 10, 16, 8))
    images = [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}]
    out = tmp_path / "out"
    out.mkdir()
    labels = coco(tmp_path / "labels.json", images, {1: [(20, 10, 16, 8)]})
    target = coco(out / "annotations.json", images, {})
    before = target.read_bytes()
    with pytest.raises(OutputError, match=r"is not rawisp's; choose another -o"):
        synth_folder(tmp_path / "in", out, annotations=labels, options=ONE)
    with pytest.raises(OutputError, match="holds the annotations that are read"):
        synth_folder(tmp_path / "in", out, annotations=target, options=RunOptions(overwrite=True))
    assert target.read_bytes() == before and list(out.iterdir()) == [target]


def test_annotations_must_fit_and_say_how_well(tmp_path: Path) -> None:
    for name in "ab":
        rectangle(tmp_path / "in" / f"{name}.png", (80, 60), (20, 10, 16, 8))
    images = [{"id": 1, "file_name": "z.png", "width": 80, "height": 60}]
    labels = coco(tmp_path / "labels.json", images, {})
    with pytest.raises(AnnotationError, match="none of its 1 images is called like any"):
        synth_folder(tmp_path / "in", tmp_path / "out", annotations=labels, options=ONE)
    images += [{"id": 2, "file_name": "a.jpg", "width": 80, "height": 60}]
    labels = coco(tmp_path / "labels.json", images, {})
    notes: list[str] = []
    synth_folder(
        tmp_path / "in",
        tmp_path / "out",
        annotations=labels,
        options=ONE,
        on_event=lambda event: notes.append(event.text) if event.kind == "note" else None,
    )
    assert notes == [
        f"{labels}: 1 of 2 photographs have an entry, 1 of 2 entries have no photograph"
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"cameras": ()}, "no camera"), ({"cameras": ("X",)}, "camera 'X' is none of"),
     ({"copies": 0}, "copies 0"), ({"seed": -1}, "seed -1")],
)  # fmt: skip
def test_settings_that_are_none_are_refused(changes: Json, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SynthSettings(**changes)


def test_a_folder_without_photographs_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(NothingToDoError, match=r"holds no JPEG or PNG files, only 1 .txt"):
        synth_folder(tmp_path, tmp_path / "out")


def test_another_cameras_files_do_not_go_beside_the_first_ones(
    photographs: Path, tmp_path: Path
) -> None:
    synth_folder([photographs], tmp_path / "nights", options=ONE)
    before = sorted((tmp_path / "nights").rglob("*"))
    with pytest.raises(OutputError, match=r"0\.ARW: is there already, and NIKON D750 would add "):
        synth_folder(
            [photographs], tmp_path / "nights", SynthSettings(("NIKON D750",)), options=ONE
        )
    assert sorted((tmp_path / "nights").rglob("*")) == before
