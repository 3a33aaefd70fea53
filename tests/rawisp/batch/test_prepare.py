"""The cache of training and evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from rawisp.batch.prepare import Prepared, prepare
from rawisp.data.folder import find_dataset


def data_set(folder: Path, photograph: Path) -> Path:
    """One photograph under a name that other data sets have too, with one box."""
    folder.mkdir()
    shutil.copy(photograph, folder / f"one{photograph.suffix}")
    document = {
        "images": [{"id": 1, "file_name": f"one{photograph.suffix}", "width": 600, "height": 400}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [100, 100, 200, 300]}],
        "categories": [{"id": 1, "name": "person"}],
    }
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


def test_data_sets_with_equal_names_share_a_cache(sample_data: Path, tmp_path: Path) -> None:
    photographs = sorted((sample_data / "Sony").glob("*.ARW"))[:2]
    folders = [data_set(tmp_path / f"d{n}", p) for n, p in enumerate(photographs)]

    def prepared(folder: Path) -> Prepared:
        found = find_dataset(folder)
        return prepare(found, str(tmp_path / "cache"), color="xyz", fit=(150, 100), workers=1)

    first, second = (prepared(folder) for folder in folders)
    assert first.failed == second.failed == 0
    (a,), (b,) = first.images[""], second.images[""]
    assert a.array != b.array
    assert not np.array_equal(a.load(), b.load())
    written = Path(a.array).stat().st_mtime_ns
    (again,) = prepared(folders[0]).images[""]
    assert again.array == a.array and Path(a.array).stat().st_mtime_ns == written
