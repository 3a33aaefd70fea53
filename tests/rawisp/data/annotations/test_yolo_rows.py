"""Rows of YOLO files that have as many values as a polygon and are none; photographs without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rawisp.data import LabelSet, find_dataset, read_annotations
from rawisp.errors import AnnotationError

from ..test_folder import found, put

BOX = "0 0.5 0.5 0.2 0.4"


def read(folder: Path, *rows: str, **others: str) -> LabelSet:
    put(folder, **{"a.txt": "\n".join(rows), "classes.txt": "person\ncar\n", **others})
    return read_annotations(folder)


@pytest.mark.parametrize("identity", ["0", "1", "17"])
def test_a_trackers_row_is_refused(tmp_path: Path, identity: str) -> None:
    labels = read(tmp_path, BOX, f"1 0.3 0.3 0.1 0.2 0.87 {identity}")
    (problem,) = labels.problems
    assert "tracker's class, x, y, width, height, confidence and id" in problem.what
    assert not problem.mended and len(labels.images[0].boxes) == 1


def test_a_triangle_is_a_polygon(tmp_path: Path) -> None:
    labels = read(tmp_path, BOX, "1 0.3 0.3 0.5 0.3 0.4 0.75")
    assert labels.problems == ()
    assert labels.images[0].boxes[1].tolist() == pytest.approx([0.3, 0.3, 0.2, 0.45])


def pose(rng: np.random.Generator, points: int, flags: bool) -> str:
    size = rng.uniform(0.1, 0.4, 2)
    centre = rng.uniform(size / 2, 1 - size / 2)
    values = [*centre, *size]
    for _ in range(points):
        values += [*(centre + rng.uniform(-0.5, 0.5, 2) * size), *([rng.integers(0, 2)] * flags)]
    return "0 " + " ".join(f"{value:g}" for value in values)


@pytest.mark.parametrize(
    ("points", "flags", "shape"),
    [(4, True, "[4, 3]"), (24, True, "[24, 3]"), (12, False, "[12, 2]"), (3, False, "[3, 2]")],
)
def test_poses_without_a_kpt_shape_are_no_polygons(
    tmp_path: Path, points: int, flags: bool, shape: str
) -> None:
    rng = np.random.default_rng(points)
    rows = [pose(rng, points, flags) for _ in range(20)]
    with pytest.raises(AnnotationError, match="box and keypoints") as caught:
        read(tmp_path / "wrong", *rows)
    assert f"write kpt_shape: {shape} into data.yaml" in str(caught.value)
    yaml = f"names: [person, car]\ntrain: .\nkpt_shape: {shape}\n"
    put(tmp_path / "right", **{"a.txt": "\n".join(rows), "data.yaml": yaml})
    (image,) = read_annotations(tmp_path / "right" / "data.yaml").images
    assert len(image.boxes) == 20 and (image.boxes[:, 2:] >= 0.1 - 1e-6).all()


def outline(rng: np.random.Generator, points: int, size: float) -> str:
    angles = np.arange(points) / points * 2 * np.pi
    centre = rng.uniform(size, 1 - size, 2)
    corners = centre + size * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return "0 " + " ".join(f"{value:.6f}" for value in corners.ravel())


@pytest.mark.parametrize("points", [3, 4, 5, 12, 27])
@pytest.mark.parametrize("size", [0.02, 0.1, 0.4])
def test_outlines_of_equal_length_are_polygons(tmp_path: Path, points: int, size: float) -> None:
    """Oriented boxes are four points in each row, a model's outlines may have as many each."""
    rng = np.random.default_rng(points)
    labels = read(tmp_path, *(outline(rng, points, size) for _ in range(30)))
    assert len(labels.images[0].boxes) == 30 and labels.problems == ()
    assert (labels.images[0].boxes[:, 2:] <= 2 * size + 1e-6).all()


def test_photographs_beside_labels_that_have_none_show_nothing(tmp_path: Path) -> None:
    put(tmp_path, "images/dogs/1.ARW", "images/dogs/2.ARW", "elsewhere/3.ARW")
    labels = {"labels__dogs__1.txt": BOX, "labels__classes.txt": "dog\n"}
    dataset = find_dataset(put(tmp_path, **labels))
    assert found(dataset) == {
        "images/dogs/1.ARW": (None, ["dog"]),
        "images/dogs/2.ARW": (None, []),
    }
    (note,) = [text for text in dataset.notes if "without a label file" in text]
    assert "1 photographs" in note and "images/dogs/2" in note


def test_photographs_of_a_split_that_have_no_label_show_nothing(tmp_path: Path) -> None:
    put(tmp_path, "train/images/1.ARW", "train/images/2.ARW", "valid/images/3.ARW")
    files = {
        "data.yaml": "train: ../train/images\nval: ../valid/images\nnames: [dog]\n",
        "train__labels__1.txt": BOX,
        "valid__labels__3.txt": BOX,
    }
    dataset = find_dataset(put(tmp_path, **files))
    assert found(dataset) == {
        "train/images/1.ARW": ("train", ["dog"]),
        "train/images/2.ARW": ("train", []),
        "valid/images/3.ARW": ("val", ["dog"]),
    }


def test_elsewhere_a_photograph_without_a_label_is_not_annotated(tmp_path: Path) -> None:
    put(tmp_path, "1.ARW", "2.ARW", **{"1.txt": BOX, "classes.txt": "dog\n"})
    dataset = find_dataset(tmp_path)
    assert found(dataset) == {"1.ARW": (None, ["dog"])}
    assert dataset.files_without_entry == 1


def test_a_label_in_a_class_folder_stays_in_it(tmp_path: Path) -> None:
    """labels/dogs/2.txt is not images/not_dogs/2.ARW's."""
    put(tmp_path, "images/dogs/1.ARW", "images/not_dogs/2.ARW")
    files = {"labels__dogs__1.txt": BOX, "labels__dogs__2.txt": BOX, "classes.txt": "dog\n"}
    dataset = find_dataset(put(tmp_path, **files))
    boxes = {name: classes for name, (_, classes) in found(dataset).items()}
    assert boxes == {"images/dogs/1.ARW": ["dog"], "images/not_dogs/2.ARW": []}
    assert dataset.entries_without_file == 1


def test_labels_of_an_export_are_found(tmp_path: Path) -> None:
    put(tmp_path, "DSC1.ARW", **{"a1b2c3d4-DSC1.txt": BOX, "classes.txt": "dog\n"})
    dataset = find_dataset(tmp_path)
    assert found(dataset) == {"DSC1.ARW": (None, ["dog"])}
    (note,) = [text for text in dataset.notes if "names are an export's" in text]
    assert "1 names" in note and "a1b2c3d4-DSC1 is DSC1" in note


WORDS = "on off yes no y n true null ~ 1 010 1e3 2020-01-01 12:30 .5 0x1f".split()


@pytest.mark.parametrize("form", ["list", "table"])
def test_class_names_are_texts_whatever_yaml_makes_of_them(tmp_path: Path, form: str) -> None:
    names = f"[{', '.join(WORDS)}]"
    if form == "table":
        names = "".join(f"\n  {number}: {word}" for number, word in enumerate(WORDS))
    yaml = f"train: images\nval:\ntest: null\nnames: {names}\n"
    put(tmp_path, "images/a.ARW", **{"labels__a.txt": "1 .5 .5 .1 .1", "data.yaml": yaml})
    dataset = find_dataset(tmp_path)
    assert dataset.categories == tuple(WORDS)
    assert found(dataset) == {"images/a.ARW": ("train", ["off"])}
    assert [p for p in dataset.problems if not p.mended] == []


@pytest.mark.parametrize("named", [True, False], ids=["data.yaml with gaps", "no names at all"])
def test_gaps_in_the_numbers_of_classes_stay_gaps(tmp_path: Path, named: bool) -> None:
    files = {"labels/a.txt": f"{BOX}\n5 0.3 0.3 0.1 0.2\n"}
    if named:
        names = "names:\n  0: person\n  2: car\n  5: bus\n"
        put(tmp_path, **files, **{"data.yaml": f"{names}train: labels\n"})
        labels = read_annotations(tmp_path / "data.yaml")
        assert labels.categories == ("person", "1", "car", "3", "4", "bus")
    else:
        put(tmp_path, **files)
        labels = read_annotations(tmp_path / "labels")
        assert labels.categories == ("0", "1", "2", "3", "4", "5")
    assert labels.images[0].classes.tolist() == [0, 5]
    (problem,) = [p for p in labels.problems if "1, 3, 4" in p.what or "1, 2, 3, 4" in p.what]
    assert problem.mended and "called by its number" in problem.what
