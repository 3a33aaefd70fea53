"""Pictures of a data set with its boxes, and the frames of many files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from rawisp.batch.validate import FramesOfFiles, draw_overlays
from rawisp.data import DataSet, find_dataset
from rawisp.errors import CorruptFileError, UnreadableFileError
from rawisp.raw import read_frames

MakeRaw = Callable[..., Path]


@pytest.fixture
def dataset(tmp_path: Path, make_raw: MakeRaw) -> DataSet:
    """Four photographs, two of them of one name, one of them broken."""
    names = ["one/a.ARW", "two/a.ARW", "two/b.ARW", "c.ARW"]
    for name in names:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        make_raw(tmp_path / "data" / name)
    visible = read_frames(tmp_path / "data" / "c.ARW")["visible"]
    images = [
        {"id": n, "file_name": name, "width": visible.width, "height": visible.height}
        for n, name in enumerate(names)
    ]
    document = {
        "images": images,
        "categories": [{"id": 1, "name": "a name\nof two lines and of many, many letters " * 3}],
        "annotations": [
            {"image_id": n, "category_id": 1, "bbox": [2, 2, visible.width - 4, 8]}
            for n in range(len(names))
        ],
    }
    (tmp_path / "data" / "x.json").write_text(json.dumps(document))
    broken = tmp_path / "data" / "two" / "b.ARW"
    broken.write_bytes(broken.read_bytes()[:200])
    return find_dataset(tmp_path / "data")


def test_pictures_mirror_the_tree_and_failures_are_problems(
    dataset: DataSet, tmp_path: Path
) -> None:
    written, problems = draw_overlays(dataset, tmp_path / "look", count=10)
    names = ["c.boxes.png", "one/a.boxes.png", "two/a.boxes.png"]
    assert sorted(written) == sorted(str(tmp_path / "look" / name) for name in names)
    (problem,) = problems
    assert problem.file.endswith("two/b.ARW") and not problem.mended
    for path in written:
        with Image.open(path) as picture:
            assert picture.mode == "RGB" and max(picture.size) > 500
    again, _ = draw_overlays(dataset, tmp_path / "look", count=10)
    assert again == written


def test_the_choice_of_pictures_is_the_seeds(dataset: DataSet, tmp_path: Path) -> None:
    one, _ = draw_overlays(dataset, tmp_path, count=1, seed=3)
    same, _ = draw_overlays(dataset, tmp_path, count=1, seed=3)
    assert one == same and len(one) <= 1


def test_frames_of_many_files(dataset: DataSet, tmp_path: Path) -> None:
    good = tmp_path / "data" / "c.ARW"
    gone = tmp_path / "gone.ARW"
    broken = tmp_path / "data" / "two" / "b.ARW"
    frames_of = FramesOfFiles([str(good), str(gone), str(broken)], workers=1)
    assert frames_of(str(good)) == read_frames(good)
    with pytest.raises(UnreadableFileError, match="does not exist"):
        frames_of(str(gone))
    with pytest.raises(CorruptFileError):
        frames_of(str(broken))
