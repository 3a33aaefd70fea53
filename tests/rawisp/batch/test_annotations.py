"""`enhance --annotations`: every box where its object is, by arithmetic of its own."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rawisp.batch import EnhanceSettings, RunOptions, enhance_folder
from rawisp.raw import open_raw
from rawisp.raw.container import CAMERA_BODIES, dng_tags, write_container

Json = dict[str, Any]
Point = tuple[float, float]
RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]
TWO = RunOptions(workers=2)
WIDTH, HEIGHT = 200, 120  # sensor pixels
LAMP = (136, 36, 8, 8)  # x, y, width, height of the planted lamp, on the sensor
BOXES = [LAMP, (0, 0, 200, 120), (10.5, 20.25, 33, 41.5), (-20, 100, 60, 60)]


def turn(point: Point, exif: int, width: float, height: float) -> Point:
    """Where a point of a `width` x `height` frame is after turning it upright."""
    x, y = point
    w, h = width, height
    return {
        1: (x, y),
        2: (w - x, y),
        3: (w - x, h - y),
        4: (x, h - y),
        5: (y, x),
        6: (h - y, x),
        7: (h - y, w - x),
        8: (y, w - x),
    }[exif]


def turn_back(point: Point, exif: int, width: float, height: float) -> Point:
    """The inverse; width and height are those before turning."""
    inverse = {6: 8, 8: 6}.get(exif, exif)
    w, h = (height, width) if exif >= 5 else (width, height)
    return turn(point, inverse, w, h)


def expected_box(
    box: tuple[float, ...], exif: int, *, drawn: str, orient: str, fit: tuple[int, int] | None
) -> list[float]:
    """x, y, width, height in output pixels of a box drawn on the visible or upright frame."""
    packed_w, packed_h = WIDTH // 2, HEIGHT // 2
    out_w, out_h = output_size(exif, orient, fit)
    turned_w, turned_h = (
        (packed_h, packed_w) if orient == "upright" and exif >= 5 else (packed_w, packed_h)
    )
    corners = []
    for corner in ((box[0], box[1]), (box[0] + box[2], box[1] + box[3])):
        x, y = corner
        if drawn == "upright":
            x, y = turn_back((x, y), exif, WIDTH, HEIGHT)
        x, y = x / 2, y / 2
        if orient == "upright":
            x, y = turn((x, y), exif, packed_w, packed_h)
        x, y = x * out_w / turned_w, y * out_h / turned_h
        corners.append((min(max(x, 0), out_w), min(max(y, 0), out_h)))
    (x0, y0), (x1, y1) = corners
    return [min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)]


def output_size(exif: int, orient: str, fit: tuple[int, int] | None) -> tuple[int, int]:
    w, h = WIDTH // 2, HEIGHT // 2
    if orient == "upright" and exif >= 5:
        w, h = h, w
    scale = min(1.0, max(fit) / max(w, h), min(fit) / min(w, h)) if fit else 1.0
    return round(w * scale), round(h * scale)


def lamp_file(path: Path, exif: int) -> None:
    """A dark frame with a small bright lamp, not symmetric in any way."""
    rng = np.random.default_rng(exif)
    mosaic = rng.normal(900, 10, (HEIGHT, WIDTH))
    x, y, w, h = LAMP
    mosaic[y : y + h, x : x + w] = 15000
    body = CAMERA_BODIES["DSC-RX100M7"]
    write_container(
        path, mosaic.astype(np.uint16), make=body.make, model=body.model, exif_orientation=exif
    )


def labels(path: Path, files: dict[str, tuple[int, int]], boxes: Any = BOXES) -> Path:
    """A COCO file with the same boxes on each of `files` (name -> annotated size)."""
    images = [
        {"id": name, "file_name": f"{name}.ARW", "width": w, "height": h}
        for name, (w, h) in files.items()
    ]
    annotations = [
        {"id": f"{name}-{n}", "image_id": name, "category_id": 3, "bbox": list(box), "note": "x"}
        for name in files
        for n, box in enumerate(boxes)
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


@dataclass(frozen=True)
class Case:
    out: Path
    drawn: str
    orient: str
    fit: tuple[int, int] | None
    moved: Json
    manifest: dict[str, Json]

    def boxes(self, exif: int) -> dict[str, list[float]]:
        image_id = self.image(exif)["id"]
        return {
            a["original_id"]: a["bbox"]
            for a in self.moved["annotations"]
            if a["image_id"] == image_id
        }

    def image(self, exif: int) -> Json:
        (image,) = [i for i in self.moved["images"] if i["original_id"] == f"turned{exif}"]
        return image


CASES: dict[str, tuple[str, str, tuple[int, int] | None]] = {
    "sensor frame to upright": ("visible", "upright", None),
    "sensor frame to a small upright": ("visible", "upright", (61, 47)),
    "upright frame to upright": ("upright", "upright", (1333, 800)),
    "upright frame to a small sensor frame": ("upright", "sensor", (80, 40)),
}


@pytest.fixture(scope="module")
def lamps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lamps")
    for exif in range(1, 9):
        lamp_file(folder / f"turned{exif}.ARW", exif)
    return folder


@pytest.fixture(scope="module", params=CASES)
def case(
    request: pytest.FixtureRequest, lamps: Path, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    drawn, orient, fit = CASES[request.param]
    base = tmp_path_factory.mktemp("case")
    sizes = {
        f"turned{n}": (HEIGHT, WIDTH) if drawn == "upright" and n >= 5 else (WIDTH, HEIGHT)
        for n in range(1, 9)
    }
    settings = EnhanceSettings(
        orient=orient,  # type: ignore[arg-type]
        fit=fit,
        annotation_frame=drawn,
        format="tiff",
    )
    file = labels(base / "labels.json", sizes)
    report = enhance_folder(lamps, base / "out", settings, annotations=file, options=TWO)
    assert report.exit_code == 0, [r["reason"] for r in report.records]
    lines = (base / "out" / "manifest.jsonl").read_text().splitlines()
    return Case(
        base / "out",
        drawn,
        orient,
        fit,
        json.loads((base / "out" / "annotations.json").read_text()),
        {Path(r["output"]).stem: r for r in map(json.loads, lines)},
    )


@pytest.mark.parametrize("exif", range(1, 9))
def test_boxes_are_where_plain_arithmetic_puts_them(case: Case, exif: int) -> None:
    boxes = case.boxes(exif)
    for number, box in enumerate(BOXES):
        expected = expected_box(box, exif, drawn=case.drawn, orient=case.orient, fit=case.fit)
        if min(expected[2:]) <= 0:
            assert f"turned{exif}-{number}" not in boxes
        else:
            assert boxes[f"turned{exif}-{number}"] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("exif", range(1, 9))
def test_the_images_have_the_size_that_is_stated(case: Case, exif: int) -> None:
    image = case.image(exif)
    assert image["file_name"] == f"turned{exif}.tiff"
    with Image.open(case.out / image["file_name"]) as picture:
        assert picture.size == (image["width"], image["height"])
        assert picture.size == output_size(exif, case.orient, case.fit)


@pytest.mark.parametrize("exif", range(1, 9))
def test_the_lamp_is_in_its_box(case: Case, exif: int) -> None:
    """Box 0, where it was drawn on the sensor frame; else where it would have been."""
    with Image.open(case.out / f"turned{exif}.tiff") as picture:
        brightness = np.asarray(picture).astype(float).sum(axis=2)
    bright = np.argwhere(brightness > 0.9 * brightness.max()) + 0.5
    row, column = bright.mean(axis=0)
    x, y, w, h = expected_box(LAMP, exif, drawn="visible", orient=case.orient, fit=case.fit)
    if case.drawn == "visible":
        x, y, w, h = case.boxes(exif)[f"turned{exif}-0"]
    assert abs(x + w / 2 - column) < 1 and abs(y + h / 2 - row) < 1
    brightest = np.unravel_index(brightness.argmax(), brightness.shape)
    assert x - 1 <= brightest[1] + 0.5 <= x + w + 1 and y - 1 <= brightest[0] + 0.5 <= y + h + 1


@pytest.mark.parametrize("exif", range(1, 9))
def test_boxes_come_back_to_the_sensor_within_half_a_pixel(case: Case, exif: int) -> None:
    (xx, xy, x0), (yx, yy, y0) = case.manifest[f"turned{exif}"]["affine"]
    matrix = np.array([[xx, xy], [yx, yy]])
    x, y, w, h = case.boxes(exif)[f"turned{exif}-2"]
    corners = np.array([[x, y], [x + w, y + h]]) - (x0, y0)
    back = np.linalg.solve(matrix, corners.T).T
    box = BOXES[2]
    drawn = [(box[0], box[1]), (box[0] + box[2], box[1] + box[3])]
    if case.drawn == "upright":
        drawn = [turn_back(p, exif, WIDTH, HEIGHT) for p in drawn]
    assert np.abs(np.sort(back, axis=0) - np.sort(np.array(drawn), axis=0)).max() < 0.5


def test_fields_that_are_no_geometry_survive(case: Case) -> None:
    assert all(a["note"] == "x" and a["category_id"] == 3 for a in case.moved["annotations"])


CROP = (12, 6, 160, 100)  # left, top, width, height from the active area's corner
ACTIVE = (8, 16, 8 + 112, 16 + 176)  # top, left, bottom, right


def cropped_dng(path: Path, exif: int) -> None:
    rng = np.random.default_rng(exif)
    mosaic = rng.normal(900, 10, (128, 208)).astype(np.uint16)
    matrix = np.array(CAMERA_BODIES["DSC-RX100M7"].xyz_to_camera)
    tags = dng_tags(
        color_matrices=[(21, matrix)], black=(800,), white=16383, active_area=ACTIVE,
        default_crop=CROP,
    )  # fmt: skip
    write_container(
        path, mosaic, make="rawisp", model="synthetic", exif_orientation=exif, extra_tags=tags
    )


@pytest.fixture(scope="module")
def mixed(
    lamps: Path, tmp_path_factory: pytest.TempPathFactory, run_rawisp: RunCommand
) -> tuple[subprocess.CompletedProcess[str], dict[str, Json], Json, list[Json]]:
    """One run with --annotation-frame left at auto: (process, records, document, images)."""
    base = tmp_path_factory.mktemp("mixed")
    (base / "in").mkdir()
    for name, exif in {"plain": 1, "half": 3, "side": 6, "upright": 8, "wrong": 1}.items():
        (base / "in" / f"{name}.ARW").write_bytes((lamps / f"turned{exif}.ARW").read_bytes())
    (base / "in" / "unlabelled.ARW").write_bytes((lamps / "turned1.ARW").read_bytes())
    cropped_dng(base / "in" / "crop.dng", 1)
    cropped_dng(base / "in" / "turnedcrop.dng", 6)
    sizes = {
        "plain": (WIDTH, HEIGHT),
        "half": (WIDTH, HEIGHT),
        "side": (WIDTH, HEIGHT),
        "upright": (HEIGHT, WIDTH),
        "wrong": (WIDTH, HEIGHT + 1),
        "crop": CROP[2:],
        "turnedcrop": (CROP[3], CROP[2]),
        "absent": (90, 90),
    }
    file = labels(base / "labels.json", sizes, [(20, 30, 40, 20)])
    done = run_rawisp("enhance", base / "in", "-o", base / "out", "--annotations", file, "--json")
    records = {Path(r["source"]).stem: r for r in map(json.loads, done.stdout.splitlines())}
    moved = json.loads((base / "out" / "annotations.json").read_text())
    return done, records, moved, moved["images"]


def moved_box(moved: Json, name: str) -> list[float]:
    (image_id,) = [i["id"] for i in moved["images"] if i["original_id"] == name]
    (box,) = [a["bbox"] for a in moved["annotations"] if a["image_id"] == image_id]
    return list(box)


def test_frames_are_told_by_their_size(mixed: Any) -> None:
    _, records, moved, _ = mixed
    for name, exif, drawn in (
        ("plain", 1, "visible"),
        ("side", 6, "visible"),
        ("upright", 8, "upright"),
    ):
        assert records[name]["status"] == "done", records[name]["reason"]
        expected = expected_box((20, 30, 40, 20), exif, drawn=drawn, orient="upright", fit=None)
        assert moved_box(moved, name) == pytest.approx(expected, abs=1e-3)


def test_the_vendors_crop_is_offset(mixed: Any) -> None:
    """Visible 176x112, packed 88x56; the crop begins at (12, 6) of it."""
    _, records, moved, _ = mixed
    assert records["crop"]["status"] == "done", records["crop"]["reason"]
    assert records["crop"]["frames"]["crop"]["to_visible"] == [[1, 0, 12], [0, 1, 6]]
    assert moved_box(moved, "crop") == pytest.approx([16, 18, 20, 10])


def test_the_turned_crop_is_offset_and_turned(mixed: Any) -> None:
    """Drawn on the 100x160 upright crop: box x 20..60, y 30..50.

    Clockwise quarter turn, so on the crop x' = y: 30..50, y' = 100 - x: 40..80; on the visible
    frame 42..62 and 46..86; packed 21..31 and 23..43; upright again x = 56 - y: 13..33, y = x.
    """
    _, _, moved, _ = mixed
    assert moved_box(moved, "turnedcrop") == pytest.approx([13, 21, 20, 10])


def test_a_size_that_is_no_frame_is_named_with_the_frames(mixed: Any) -> None:
    done, records, _, images = mixed
    assert done.returncode == 1
    assert records["wrong"]["status"] == "failed"
    reason = records["wrong"]["reason"]
    assert "200x121" in reason and "visible 200x120" in reason and "upright" in reason
    assert "wrong" not in {image["original_id"] for image in images}
    assert not Path(records["wrong"]["output"]).exists()


def test_a_half_turn_asks_for_the_frame(mixed: Any) -> None:
    _, records, _, images = mixed
    assert records["half"]["status"] == "failed"
    assert "--annotation-frame" in records["half"]["reason"]
    assert "visible" in records["half"]["reason"] and "upright" in records["half"]["reason"]
    assert "half" not in {image["original_id"] for image in images}


def test_what_has_no_partner_is_counted(mixed: Any) -> None:
    done, records, _, images = mixed
    assert records["unlabelled"]["status"] == "done"
    assert {image["original_id"] for image in images} == {
        "plain", "side", "upright", "crop", "turnedcrop",
    }  # fmt: skip
    found = re.search(
        r"(\d+) of (\d+) inputs have an entry, (\d+) of (\d+) entries have no input", done.stderr
    )
    assert found is not None, done.stderr
    matched, inputs, unused, _ = map(int, found.groups())
    assert inputs - matched == 1, "the unlabelled one"
    assert unused == 1, "the one that is nowhere"


def test_the_sample_data_keeps_its_boxes(sample_data: Path, tmp_path: Path) -> None:
    """All 14 files, scaled down, against arithmetic from each file's EXIF orientation."""
    file = sample_data / "annotations.json"
    before = json.loads(file.read_text())
    report = enhance_folder(
        sample_data, tmp_path, EnhanceSettings(fit=(200, 150)), annotations=file, options=TWO
    )
    assert report.exit_code == 0, [r["reason"] for r in report.records]
    after = json.loads((tmp_path / "annotations.json").read_text())
    assert len(after["images"]) == len(before["images"]) == 14
    assert after["categories"] == before["categories"]
    moved = {a.get("original_id", a["id"]): a for a in after["annotations"]}
    images = {i["original_id"]: i for i in after["images"]}
    assert [type(i["id"]) for i in after["images"]] == [int] * 14
    sources = {Path(r["source"]).stem: r["source"] for r in report.records}
    for annotation in before["annotations"]:
        image = images[annotation["image_id"]]
        exif = open_raw(sources[str(annotation["image_id"])]).facts()["exif_orientation"]
        drawn = next(i for i in before["images"] if i["id"] == annotation["image_id"])
        x, y, w, h = annotation["bbox"]
        points = [(x, y), (x + w, y + h)]
        if exif >= 5 and (drawn["width"], drawn["height"]) == (600, 400):
            points = [turn(p, exif, 600, 400) for p in points]
        full = (400, 600) if exif >= 5 else (600, 400)
        scaled = [
            (p[0] * image["width"] / full[0], p[1] * image["height"] / full[1]) for p in points
        ]
        low, high = np.min(scaled, axis=0), np.max(scaled, axis=0)
        assert moved[annotation["id"]]["bbox"] == pytest.approx([*low, *(high - low)], abs=1e-3)
        assert moved[annotation["id"]]["category_id"] == annotation["category_id"]
    assert len(moved) == len(before["annotations"])
