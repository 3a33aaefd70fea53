"""The cache of training and evaluation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rawisp.batch.events import Event
from rawisp.batch.prepare import Prepared, prepare
from rawisp.batch.supervisor import Outcome, Supervisor
from rawisp.data.folder import find_dataset
from rawisp.errors import OutputError, OutputFullError


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


def test_what_cannot_be_packed_is_named_with_its_reason(sample_data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sample_data, tmp_path / "night")
    (folder / "Sony" / "DSC01316.ARW").write_bytes(b"")
    first, second = sorted((folder / "Nikon").glob("*.NEF"))[:2]
    first.write_bytes(b"")
    events: list[Event] = []
    prepared = prepare(
        find_dataset(folder),
        str(tmp_path / "cache"),
        color="xyz",
        fit=(60, 40),
        workers=1,
        on_event=events.append,
    )
    assert prepared.failed == 2 and len(prepared.images[""]) == 12
    assert set(prepared.failures) == {str(first), str(folder / "Sony" / "DSC01316.ARW")}
    assert str(prepared.left_out).startswith("12 photographs used, 2 left out: ")
    assert second.stem not in str(prepared.left_out)
    failed = [e.record["source"] for e in events if e.record.get("status") == "failed"]
    assert set(failed) == set(prepared.failures)


def test_a_full_cache_disk_ends_the_run(
    sample_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of 14 are packed when it happens; nothing may be trained on these two."""
    real = Supervisor.run

    def full_after_two(self: Supervisor, *arguments: Any) -> Iterator[Outcome]:
        for number, outcome in enumerate(real(self, *arguments)):
            error = OutputFullError("no space left on device") if number >= 2 else None
            yield replace(outcome, error=error or outcome.error)

    monkeypatch.setattr(Supervisor, "run", full_after_two)
    with pytest.raises(OutputFullError, match=r"cache's disk is full, 12 of 14 .* --cache"):
        prepare(
            find_dataset(sample_data), str(tmp_path / "c"), color="xyz", fit=(60, 40), workers=1
        )


def test_a_cache_that_cannot_be_made_is_named(sample_data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file.*name another folder with --cache"):
        prepare(find_dataset(sample_data), str(tmp_path / "file" / "c"), color="xyz", fit=(60, 40))


def test_what_looks_damaged_is_used_and_said(sample_data: Path, tmp_path: Path) -> None:
    """Also by a later run that finds everything in the cache."""
    folder = shutil.copytree(sample_data, tmp_path / "night")
    path = folder / "Sony" / "DSC01316.ARW"
    content = bytearray(path.read_bytes())
    content[200_000:260_000] = bytes(60_000)
    path.write_bytes(content)
    for _ in range(2):
        found = find_dataset(folder)
        prepared = prepare(found, str(tmp_path / "cache"), color="xyz", fit=(150, 100), workers=1)
        assert (prepared.failed, prepared.left_out.used) == (0, 14)
        assert list(prepared.suspects) == [str(path)]
        said = str(prepared.left_out)
        assert "14 photographs used, none left out; looking damaged, used all the same: " in said
        assert "Sony/DSC01316.ARW: rows " in said
        assert prepared.left_out.must_be_said
        (group,) = prepared.left_out.record()["suspect"]
        assert (group["count"], group["failed"]) == (1, False)
