"""`rawisp validate`: the table, the summary, exit codes, pictures."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def night(sample_data: Path, tmp_path: Path) -> Path:
    """Two photographs of the night set, one of them a portrait, with their own annotations."""
    folder = tmp_path / "night"
    folder.mkdir()
    names = ("DSC02799", "DSC01316")
    for name in names:
        shutil.copy(sample_data / "Sony" / f"{name}.ARW", folder)
    document = json.loads((sample_data / "annotations.json").read_text())
    document["images"] = [i for i in document["images"] if i["id"] in names]
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] in names]
    (folder / "labels.json").write_text(json.dumps(document))
    return folder


def change(folder: Path, **keys: Any) -> None:
    """Other values in the first annotation."""
    document = json.loads((folder / "labels.json").read_text())
    document["annotations"][0].update(keys)
    (folder / "labels.json").write_text(json.dumps(document))


def test_nothing_wrong(night: Path, run_rawisp: RunCommand) -> None:
    done = run_rawisp("validate", night, "--val", "0.5")
    assert (done.returncode, done.stdout) == (0, "")
    said = done.stderr.splitlines()
    assert said[0] == f"COCO annotations found: {night / 'labels.json'}"
    assert "2 annotated photographs (" in said[1] and "0 of them without boxes" in said[1]
    assert said[2] == "0 RAW files without an entry, 0 entries without a RAW file"
    assert "person" in said[3] and said[-1] == "0 problems, 0 mended"


def test_a_problem_is_a_line_with_file_place_and_phrase(
    night: Path, run_rawisp: RunCommand
) -> None:
    change(night, bbox=[5, 5, -1, 2])
    done = run_rawisp("validate", night)
    assert done.returncode == 1 and done.stdout.count("\n") == 1
    file, place, what = done.stdout.strip().split("  ", 2)
    assert (file, place) == (str(night / "labels.json"), "annotations[0]")
    assert what == "its box [5, 5, -1, 2] has a negative width or height"
    assert done.stderr.splitlines()[-1] == "1 problem, 0 mended"


def test_what_was_mended_fails_with_strict_only(night: Path, run_rawisp: RunCommand) -> None:
    change(night, bbox=[5, 5, 0, 2])
    done = run_rawisp("validate", night)
    assert done.returncode == 0
    assert "  mended: its box [5, 5, 0, 2] has no area; left out" in done.stdout
    assert run_rawisp("validate", night, "--strict").returncode == 1


def test_json_is_one_object(night: Path, run_rawisp: RunCommand) -> None:
    change(night, category_id=10**9)
    done = run_rawisp("validate", night, "--json", "--annotations", night / "labels.json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["problems"] == [
        {
            "file": str(night / "labels.json"),
            "place": "annotations[0]",
            "what": "its category_id 1000000000 is not among the categories listed",
            "mended": False,
        }
    ]
    assert found["counts"]["photographs"] == 2
    assert found["annotations"] == [{"path": str(night / "labels.json"), "format": "COCO"}]
    assert found["overlays"] == [] and found["data"] == str(night)


def test_a_frame_that_does_not_fit_and_a_file_that_cannot_be_read(
    night: Path, run_rawisp: RunCommand
) -> None:
    document = json.loads((night / "labels.json").read_text())
    first, second = document["images"]
    first["width"] = 601
    (night / "labels.json").write_text(json.dumps(document))
    (night / second["file_name"]).write_bytes(b"II*\0")
    done = run_rawisp("validate", night)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    frame = next(line for line in lines if "images[0]" in line)
    assert "the annotations say 601x400, which is no frame of this file" in frame
    assert "--annotation-frame" in frame
    assert any(line.startswith(str(night / second["file_name"])) for line in lines)


def test_pictures_to_look_at(night: Path, tmp_path: Path, run_rawisp: RunCommand) -> None:
    done = run_rawisp("validate", night, "--overlays", tmp_path / "look", "--count", "5")
    assert done.returncode == 0, done.stderr
    pictures = sorted(path.name for path in (tmp_path / "look").iterdir())
    assert pictures == ["DSC01316.boxes.png", "DSC02799.boxes.png"]
    assert f"2 pictures written, the first: {tmp_path / 'look'}" in done.stderr


def test_a_box_is_drawn_where_the_annotations_say(
    night: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    from PIL import Image

    document = json.loads((night / "labels.json").read_text())
    upright = next(i for i in document["images"] if i["id"] == "DSC01316")
    box = [120, 80, 240, 160]
    document["annotations"] = [
        {"id": 1, "image_id": key, "category_id": 1, "bbox": box}
        for key in ("DSC01316", "DSC02799")
    ]
    (night / "labels.json").write_text(json.dumps(document))
    run_rawisp("validate", night, "--overlays", tmp_path / "look")
    assert (upright["width"], upright["height"]) == (600, 400)
    orange = (230, 159, 0)
    with Image.open(tmp_path / "look" / "DSC01316.boxes.png") as picture:
        assert picture.size == (900, 600)  # 300x200, times 3
        for x, y in ((181, 300), (539, 300), (360, 121), (360, 359)):
            assert picture.getpixel((x, y)) == orange
        assert picture.getpixel((360, 240)) != orange
    with Image.open(tmp_path / "look" / "DSC02799.boxes.png") as picture:
        # A quarter turn clockwise: x = 400 - y, y = x, in sensor pixels, then times 1.5.
        assert picture.size == (600, 900)
        for x, y in ((241, 360), (479, 360), (360, 181), (360, 539)):
            assert picture.getpixel((x, y)) == orange


def test_relative_boxes_ask_for_their_frame(
    night: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    (night / "labels.json").unlink()
    for name in ("DSC01316", "DSC02799"):
        (night / f"{name}.txt").write_text("0 .5 .5 .2 .2\n")
    done = run_rawisp("validate", night)  # the portrait's upright frame is another one
    assert done.returncode == 1 and done.stdout.count("its boxes are relative") == 1
    assert run_rawisp("validate", night, "--annotation-frame", "visible").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["gone"], 2, "gone: is no folder"),
        (["empty"], 3, "empty: holds no camera RAW files"),
        (["night", "--annotations", "gone.json"], 2, "gone.json: there is no such annotation"),
        (["night", "--val", "2"], 2, "--val 2 is no share"),
        (["night", "--list", "night/labels.json"], 2, "must say train, val or test"),
    ],
)
def test_what_cannot_work_is_one_sentence(
    night: Path, run_rawisp: RunCommand, arguments: list[str], code: int, words: str
) -> None:
    (night.parent / "empty").mkdir()
    done = run_rawisp("validate", *arguments, cwd=night.parent)
    assert done.returncode == code and done.stdout == ""
    assert words in done.stderr and done.stderr.count("\n") == 1


def test_the_pages_command_runs_as_written(
    repository: Path, sample_data: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    shutil.copytree(sample_data, tmp_path / "night_photos")
    (tmp_path / "night_photos" / "annotations.json").rename(tmp_path / "instances.json")
    page = (repository / "docs" / "data.md").read_text()
    (command,) = re.findall(r"^rawisp (.*)$", page, re.MULTILINE)
    done = run_rawisp(*shlex.split(command), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert len(list((tmp_path / "look").rglob("*.png"))) == 12


def test_a_picture_that_cannot_be_written(night: Path, run_rawisp: RunCommand) -> None:
    done = run_rawisp("validate", night, "--overlays", night / "labels.json")
    assert done.returncode == 2 and "cannot be written" in done.stderr.splitlines()[-1]


def test_damage_is_found_unless_headers_alone_are_read(night: Path, run_rawisp: RunCommand) -> None:
    first, second = sorted(night.rglob("*.ARW"))[:2]
    content = bytearray(first.read_bytes())
    content[200_000:260_000] = bytes(60_000)
    first.write_bytes(content)
    second.write_bytes(second.read_bytes()[:-1000])
    done = run_rawisp("validate", night)
    assert done.returncode == 1
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "looks damaged: rows " in lines[str(first)]
    assert "is cut short: its picture ends at byte" in lines[str(second)]
    done = run_rawisp("validate", night, "--headers-only")
    assert (done.returncode, done.stdout) == (0, "")
