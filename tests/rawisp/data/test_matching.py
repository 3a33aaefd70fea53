"""Which entry is which photograph: folders that are named must agree."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rawisp.data.matching import match_names, renamed_by_export
from rawisp.errors import AnnotationError


def pairs(
    entries: Sequence[str], files: Sequence[str], *, root: str = "/data/set", prefix: str = ""
) -> dict[str, str]:
    """File -> entry."""
    owners = match_names(
        entries,
        files,
        described=[f"entry {name}" for name in entries],
        roots=[root] * len(files),
        prefix=prefix,
    )
    return {files[file]: entries[entry] for file, entry in owners.items()}


# entries, files, which file has which entry
AGREE = {
    "fewer folders in the entry": (["a"], ["Sony/a"], {"Sony/a": "a"}),
    "fewer folders in the file": (["x/Sony/a"], ["Sony/a"], {"Sony/a": "x/Sony/a"}),
    "another machine's path": (
        ["/home/you/pictures/one/a", "/home/you/pictures/two/a"],
        ["raw/one/a", "raw/two/a"],
        {"raw/one/a": "/home/you/pictures/one/a", "raw/two/a": "/home/you/pictures/two/a"},
    ),
    "a renamed folder": (
        ["JPEGImages/a", "JPEGImages/b"],
        ["raw/a", "raw/b", "raw/c"],
        {"raw/a": "JPEGImages/a", "raw/b": "JPEGImages/b"},
    ),
    "the root's own name": (["set/Sony/a"], ["Sony/a"], {"Sony/a": "set/Sony/a"}),
    "case": (["SONY/A"], ["sony/a"], {"sony/a": "SONY/A"}),
}  # fmt: skip


@pytest.mark.parametrize("case", AGREE)
def test_folders_that_agree(case: str) -> None:
    entries, files, expected = AGREE[case]
    assert pairs(entries, files) == expected


CONTRADICT = {
    "the next folder of the camera": (["100MSDCF/DSC1"], ["101MSDCF/DSC1"]),
    "numbered folders": (["night1/a"], ["night2/a"]),
    "a class beside it": (
        ["labels/dogs/2", "labels/dogs/1"], ["images/not_dogs/2", "images/dogs/1"],
    ),
    "a class that has its own entries": (
        ["dogs/2", "not_dogs/3"], ["images/not_dogs/2", "images/not_dogs/3"],
    ),
    "a folder above the last": (["train/cam1/a", "val/cam1/b"], ["val/cam1/a", "val/cam1/b"]),
    "a name that comes twice": (["x/a"], ["y/a", "z/a"]),
    "hardly any partners": (
        [f"x/{n}" for n in range(9)], [*(f"y/{n}" for n in "abcdefgh"), "y/8"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTRADICT)
def test_folders_that_contradict(case: str) -> None:
    entries, files = CONTRADICT[case]
    found = pairs(entries, files)
    assert all(file == entry.replace("labels", "images") or file.endswith(entry)
               for file, entry in found.items()), found  # fmt: skip
    assert entries[0] not in found.values()


def test_both_folders_at_once_need_no_advice() -> None:
    """The file_names have folders, and the input's root is one of them."""
    entries = ["Sony/a", "Nikon/a"]
    assert pairs(entries, ["a"], root="/data/Sony") == {"a": "Sony/a"}
    assert pairs(entries, ["a"], root="/data/Nikon") == {"a": "Nikon/a"}
    assert pairs(["Nikon/a", "Sony/b"], ["a", "b"], root="/data/Sony") == {"b": "Sony/b"}
    assert pairs(["100MSDCF/a"], ["a"], root="/DCIM/101MSDCF") == {}
    assert pairs(["old/a"], ["a"], root="/data/new") == {"a": "old/a"}


def test_names_beside_their_photographs_are_these() -> None:
    files = ["train/2", "valid/1"]
    assert pairs(["1", "2"], files, prefix="train") == {"train/2": "2"}
    assert pairs(["1", "2"], files, prefix="annotations") == {"train/2": "2", "valid/1": "1"}


EXPORTED = {
    "a1b2c3d4-DSC1": "DSC1",
    "DSC1_jpg.rf.0123456789abcdef0123456789abcdef": "DSC1",
    "images/DSC1_ARW.rf.AbCdEf123456": "DSC1",
    "a1b2c3d4-DSC1_png.rf.0123456789abcdef": "DSC1",
}


@pytest.mark.parametrize("exported", EXPORTED)
def test_an_exports_marks_are_taken_off(exported: str) -> None:
    files = [f"Sony/{EXPORTED[exported]}"] if "/" not in exported else [EXPORTED[exported]]
    owners = match_names([exported], files, described=["e"])
    assert owners == {0: 0}
    assert renamed_by_export(owners, [exported], files) == [(exported, files[0])]


def test_a_photograph_that_is_called_so_goes_before_an_exports_mark() -> None:
    entries = ["a1b2c3d4-x", "x"]
    assert pairs(entries, ["x"]) == {"x": "x"}
    assert pairs(["a1b2c3d4-x"], ["a1b2c3d4-x", "x"]) == {"a1b2c3d4-x": "a1b2c3d4-x"}


def test_an_augmented_export_fits_twice() -> None:
    entries = ["x_jpg.rf.0123456789", "x_jpg.rf.abcdef0123"]
    with pytest.raises(AnnotationError, match="exported more than once"):
        pairs(entries, ["x"])


def test_the_name_of_before_is_taken_where_the_file_says_it() -> None:
    owners = match_names(
        ["0001", "0002"],
        ["b", "a"],
        described=["1", "2"],
        other_names=[("photos/a",), ("b",)],
    )
    assert owners == {1: 0, 0: 1}
