"""Disks that are full and folders that cannot be written: a sentence, and no half-written file."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MakeRaw = Callable[..., Path]
ReadLines = Callable[[Path], list[dict[str, Any]]]
RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]
# 200x300 gives 180 kB of float32; a PNG of it has some 40 kB.
FILES = 8


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, make_raw: MakeRaw) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for n in range(FILES):
        make_raw(folder / f"{n}.ARW", n, 200, 300)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """small_disk("size=500k") -> a tmpfs; skipped where mounting is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
        )
        if done.returncode:
            pytest.skip("mounting a tmpfs is not permitted here")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)


def no_half_files(out: Path) -> None:
    for path in out.rglob("*"):
        assert not path.name.endswith(".rawisp-tmp"), path
        if path.suffix == ".npy" and path.is_file():
            assert np.load(path).shape == (100, 150, 3)


@pytest.mark.parametrize("form", ["npy", "tiff"])
def test_a_full_disk_stops_the_run_with_a_sentence(
    photos: Path, small_disk: Callable[[str], Path], run_rawisp: RunCommand, form: str
) -> None:
    disk = small_disk("size=600k")
    arguments = ["pack", photos, "-o", disk / "out", "--format", form, "--workers", "1"]
    done = run_rawisp(*arguments)
    assert done.returncode == 1
    assert "no space left" in done.stderr and "Traceback" not in done.stderr
    assert "not attempted" in done.stderr, "going on would fail every file"
    no_half_files(disk / "out")
    for path in (disk / "out").glob(f"*.{form}"):
        assert path.stat().st_size > 180_000
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    assert run_rawisp(*arguments).returncode == 0
    assert len(list((disk / "out").glob(f"*.{form}"))) == FILES


def test_a_disk_without_room_for_a_picture_keeps_manifest_and_exit_code(
    photos: Path, small_disk: Callable[[str], Path], run_rawisp: RunCommand
) -> None:
    disk = small_disk("size=12k")
    done = run_rawisp("pack", photos, "-o", disk / "out")
    assert done.returncode == 1, done.stderr
    assert "no space left" in done.stderr and "Traceback" not in done.stderr
    no_half_files(disk / "out")


def test_a_full_disk_stops_enhance(
    photos: Path, small_disk: Callable[[str], Path], run_rawisp: RunCommand
) -> None:
    disk = small_disk("size=150k")
    done = run_rawisp("enhance", photos, "-o", disk / "out", "--format", "tiff")
    assert done.returncode == 1
    assert "no space left" in done.stderr and "Traceback" not in done.stderr
    no_half_files(disk / "out")


@pytest.mark.parametrize("form", ["npy", "tiff"])
@pytest.mark.parametrize("limit", [60_000, 150_000])
def test_a_limit_on_file_sizes_is_told_apart_from_a_bad_photo(
    photos: Path, tmp_path: Path, run_rawisp: RunCommand, limit: int, form: str
) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = run_rawisp("pack", photos, "-o", tmp_path / "out", "--format", form, preexec_fn=limited)
    assert done.returncode == 1
    assert "file too large" in done.stderr.lower() and "Traceback" not in done.stderr
    no_half_files(tmp_path / "out")


def test_an_output_that_is_a_file_is_a_usage_error(
    photos: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    (tmp_path / "out").write_text("mine")
    done = run_rawisp("pack", photos, "-o", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("out", ["/proc/rawisp-out", "/dev/null/out"])
def test_an_output_folder_that_cannot_be_made_is_a_usage_error(
    photos: Path, run_rawisp: RunCommand, out: str
) -> None:
    done = run_rawisp("pack", photos, "-o", out)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("verb", ["pack", "enhance"])
def test_a_folder_that_may_not_be_written_is_a_usage_error(
    photos: Path,
    tmp_path: Path,
    small_disk: Callable[[str], Path],
    run_rawisp: RunCommand,
    verb: str,
) -> None:
    """A read-only file system when the tests run as root, whom no permission stops."""
    if os.geteuid() == 0:
        out = small_disk("size=1m")
        subprocess.run(["mount", "-o", "remount,ro", str(out)], check=True)
    else:
        out = tmp_path / "out"
        out.mkdir(mode=0o555)
    done = run_rawisp(verb, photos, "-o", out)
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr and done.stderr.count("\n") == 1


def test_one_output_that_cannot_be_written_fails_alone(
    photos: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    (tmp_path / "out" / "3.npy").mkdir(parents=True)
    done = run_rawisp("pack", photos, "-o", tmp_path / "out", "--overwrite")
    assert done.returncode == 1
    assert "3.npy: cannot be written" in done.stderr
    assert len([p for p in (tmp_path / "out").glob("*.npy") if p.is_file()]) == FILES - 1
    no_half_files(tmp_path / "out")


def test_a_user_folder_that_stands_where_an_output_goes_is_refused(
    photos: Path, tmp_path: Path, run_rawisp: RunCommand
) -> None:
    (tmp_path / "out" / "3.npy").mkdir(parents=True)
    done = run_rawisp("pack", photos, "-o", tmp_path / "out")
    assert done.returncode == 2 and "not written by rawisp" in done.stderr
