"""The committed night set: readable, annotated, small, and made by the committed generator."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rawisp import open_raw


@pytest.fixture(scope="module")
def regenerated(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two fresh runs of the generator."""
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "sample_data.generate", str(folder)],
            cwd=repository,
            stdout=subprocess.DEVNULL,
        )
        for folder in folders
    ]
    assert [process.wait() for process in running] == [0, 0]
    return folders


def raw_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix in (".ARW", ".NEF"))


def test_the_generator_writes_the_same_bytes_each_time(regenerated: list[Path]) -> None:
    first, second = ([p.read_bytes() for p in sorted(f.rglob("*.*"))] for f in regenerated)
    assert first == second


def test_the_committed_files_come_from_the_committed_generator(
    regenerated: list[Path], sample_data: Path
) -> None:
    """Samples may differ by a count where another processor rounds a last bit differently."""
    names = [p.relative_to(sample_data) for p in raw_files(sample_data)]
    assert names == [p.relative_to(regenerated[0]) for p in raw_files(regenerated[0])]
    for name in names:
        ours, fresh = open_raw(sample_data / name), open_raw(regenerated[0] / name)
        assert ours.facts() == fresh.facts()
        difference = np.abs(ours.mosaic.astype(int) - fresh.mosaic.astype(int))
        assert (difference > 0).mean() < 1e-3
        assert difference.max() <= 8
    fresh_labels = (regenerated[0] / "annotations.json").read_text()
    assert (sample_data / "annotations.json").read_text() == fresh_labels


def test_facts_are_the_golden_ones(repository: Path) -> None:
    """`make golden` writes the file again; a missing golden file is a failure."""
    golden = json.loads((repository / "sample_data" / "golden.json").read_text())
    code = "import json; from sample_data.golden import all_facts; print(json.dumps(all_facts()))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, check=True
    )
    facts = json.loads(answer.stdout)
    assert facts.keys() == golden.keys()
    for name, values in golden.items():
        means = facts[name].pop("mean_xyz")
        np.testing.assert_allclose(means, values.pop("mean_xyz"), atol=2e-6)
        assert facts[name] == values, name


def test_annotations_have_the_shape_of_raw_nod(sample_data: Path) -> None:
    document = json.loads((sample_data / "annotations.json").read_text())
    assert [(c["id"], c["name"]) for c in document["categories"]] == [
        (1, "person"),
        (2, "bicycle"),
        (3, "car"),
    ]
    stems = {p.stem: p.name for p in raw_files(sample_data)}
    assert {i["id"]: i["file_name"] for i in document["images"]} == stems
    assert all(isinstance(image["id"], str) for image in document["images"])
    sizes = {image["id"]: (image["width"], image["height"]) for image in document["images"]}
    for path in raw_files(sample_data):
        assert sizes[path.stem] == open_raw(path).visible_size
    seen = set()
    for annotation in document["annotations"]:
        x, y, width, height = annotation["bbox"]
        frame = sizes[annotation["image_id"]]
        assert 0 <= x < x + width <= frame[0]
        assert 0 <= y < y + height <= frame[1]
        assert annotation["area"] == width * height
        seen.add(annotation["category_id"])
    assert seen == {1, 2, 3}
    assert {a["image_id"] for a in document["annotations"]} == set(stems)


def test_the_set_is_at_most_eight_megabytes(sample_data: Path) -> None:
    assert sum(p.stat().st_size for p in sample_data.rglob("*") if p.is_file()) <= 8_000_000


def test_scenes_are_night_scenes(sample_data: Path) -> None:
    """Dark in the median, clipped only in lamps, noisy in the shadows."""
    with_lamps = 0
    for path in raw_files(sample_data):
        packed = open_raw(path).pack("camera")
        assert np.median(packed) < 0.03, path
        assert (packed >= 0.98).mean() < 0.1, path
        assert (packed < 0).any(), path
        with_lamps += bool((packed >= 0.98).any())
    assert with_lamps >= 10
