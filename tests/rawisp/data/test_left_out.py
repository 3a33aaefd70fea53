"""One line on what is not used: counted, grouped by reason, with a name to look at."""

from __future__ import annotations

from pathlib import Path

from rawisp.data import find_dataset
from rawisp.data.annotations.labels import Problem, said_of
from rawisp.data.left_out import Group, LeftOut, left_out_of

from .test_folder import coco, put


def test_the_line_groups_by_reason_and_names_one_of_each() -> None:
    failures = {
        "a.ARW": "is empty; copy it again",
        "b.ARW": "ends 5,000 bytes before its picture does; copy it again",
        "c.ARW": "ends 70 bytes before its picture does; copy it again",
    }
    found = left_out_of(9, [Group("has no entry", 1, "d.ARW")], failures)
    assert str(found) == (
        "9 photographs used, 4 left out: b.ARW and 1 more: ends 5,000 bytes before its picture "
        "does; a.ARW: is empty; d.ARW: has no entry"
    )
    assert (found.count, found.failed) == (4, 3)
    assert found.record()["left_out"][2] == {
        "why": "has no entry", "count": 1, "first": "d.ARW", "failed": False,
    }  # fmt: skip


def test_nothing_left_out_is_said_too() -> None:
    assert str(LeftOut(1)) == "1 photograph used, none left out"


def test_a_data_set_says_which_files_and_entries_have_no_partner(tmp_path: Path) -> None:
    put(tmp_path, "a.NEF", "sub/b.NEF", **{"x.json": coco(["a.NEF", "c.NEF", "d.NEF"])})
    found = find_dataset(tmp_path)
    assert found.left_out == (
        Group("has no usable entry in the annotations", 1, "sub/b.NEF"),
        Group("annotated, but no RAW file here", 2, "c"),
    )
    assert find_dataset(tmp_path, unannotated=True).left_out == found.left_out[1:]


def test_a_link_to_a_folder_is_named_where_photographs_are_missing(tmp_path: Path) -> None:
    put(tmp_path / "store", "c.NEF")
    root = put(tmp_path / "set", "a.NEF", **{"x.json": coco(["a.NEF", "c.NEF"])})
    (root / "more").symlink_to(tmp_path / "store")
    found = find_dataset(root)
    assert found.left_out[0].why.endswith(f"{root / 'more'} is a link, not followed")
    assert any("--follow-links" in note for note in found.notes)


def test_what_was_mended_is_said_with_the_first() -> None:
    problems = [
        Problem("a.json", "annotations[3]", "has no area; left out", mended=True),
        Problem("a.json", "annotations[5]", "has no bbox"),
        Problem("a.json", "annotations[9]", "reaches past the frame; cut", mended=True),
    ]
    assert said_of(problems) == [
        "1 annotations could not be used, the first: a.json, annotations[5]: has no bbox; rawisp "
        "validate lists them",
        "2 annotations were mended, the first: a.json, annotations[3]: has no area; left out",
    ]
    assert said_of([]) == []
