"""Running again over a folder of tens of thousands of files: how much memory that takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MakeRaw = Callable[..., Path]

# A photograph of 24 megapixels with all that cameras write has a line of 3 to 4 kB.
LINE_BYTES = 3500
ALL, QUICK = 65_000, 4_000

PROGRAM = """
import re, sys, time
begin = time.perf_counter()
from rawisp.cli.app import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
print(int(peak[1]) // 1000, round(time.perf_counter() - begin, 2))
"""


def run_again(verb: str, folder: Path, *more: str) -> tuple[int, str]:
    """(peak memory of the whole process in MB, what it said)."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc to read a process's peak memory from")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, verb, str(folder / "in"), "-o", str(folder / "out"), *more],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    megabytes, seconds = done.stdout.splitlines()[-1].split()
    print(f"{verb}: {megabytes} MB, {seconds} s")
    return int(megabytes), done.stderr


def grown(folder: Path, line: dict[str, Any], count: int) -> None:
    """Makes `count` inputs, outputs and lines of the one that is there."""
    suffix = Path(line["output"]).suffix
    line = {**line, "warnings": ["w" * (LINE_BYTES - len(json.dumps(line)))]}
    with (folder / "out" / "manifest.jsonl").open("w") as manifest:
        for n in range(count):
            name = f"{n % 100:03}/IMG_{n:06}"
            source, output = folder / "in" / f"{name}.ARW", folder / "out" / f"{name}{suffix}"
            if n < 100:
                source.parent.mkdir()
                output.parent.mkdir()
            source.write_bytes(b"x")
            output.touch()
            stamp = source.stat()
            one = {
                **line,
                "source": str(source),
                "output": f"{name}{suffix}",
                "source_bytes": stamp.st_size,
                "source_modified_ns": stamp.st_mtime_ns,
            }
            manifest.write(json.dumps(one) + "\n")


def first_run(verb: str, folder: Path, make_raw: MakeRaw) -> dict[str, Any]:
    """The manifest's line of a real run, whose input and output are then removed."""
    make_raw(folder / "in" / "a.ARW")
    run_again(verb, folder)
    line: dict[str, Any] = json.loads((folder / "out" / "manifest.jsonl").read_text())
    (folder / "in" / "a.ARW").unlink()
    (folder / "out" / line["output"]).unlink()
    return line


@pytest.mark.parametrize("verb", ["pack", "enhance"])
def test_a_rerun_keeps_no_records_in_memory(verb: str, tmp_path: Path, make_raw: MakeRaw) -> None:
    """4,000 records as objects are 80 MB."""
    few, many = tmp_path / "few", tmp_path / "many"
    for folder, count in ((few, 1), (many, QUICK)):
        grown(folder, first_run(verb, folder, make_raw), count)
    base, _ = run_again(verb, few)
    peak, said = run_again(verb, many)
    assert f"0 done, {QUICK} skipped" in said
    assert peak - base < 20, (base, peak)


@pytest.mark.soak
@pytest.mark.parametrize("verb", ["pack", "enhance"])
def test_a_rerun_over_65000_files_takes_less_than_200_megabytes(
    verb: str, tmp_path: Path, make_raw: MakeRaw
) -> None:
    grown(tmp_path, first_run(verb, tmp_path, make_raw), ALL)
    peak, said = run_again(verb, tmp_path)
    assert f"0 done, {ALL} skipped" in said
    assert peak < 200
    (tmp_path / "out" / "000" / "IMG_000000").with_suffix(
        ".npy" if verb == "pack" else ".png"
    ).unlink()
    os.link(make_raw(tmp_path / "new.ARW"), tmp_path / "in" / "one_more.ARW")
    (tmp_path / "in" / "000" / "IMG_000000.ARW").unlink()
    peak, said = run_again(verb, tmp_path)
    assert f"1 done, {ALL - 1} skipped" in said
    assert peak < 200
    peak, _ = run_again(verb, tmp_path, "--json")
    assert peak < 200
    peak, said = run_again(verb, tmp_path, "--overwrite", "--dry-run")
    assert f"{ALL} planned" in said
    assert peak < 200
