"""`rawisp pack` on a folder of 24-megapixel files against a bare loop in as many processes.

    python -m benchmarks.pack_folder [--dry-run]

The bare loop is the least that any packer must do: spawned processes, each decoding its share with
rawpy and writing as many bytes per file with np.save. Both start cold processes and use the same
files, output format and disk; they take turns.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import interleaved, median, report, summary
from rawisp.raw.container import write_container

BARE_LOOP = """
import sys
import numpy as np
import rawpy

out, *paths = sys.argv[1:]
packed = None
for path in paths:
    with rawpy.imread(path) as raw:
        height, width = raw.raw_image_visible.shape
    if packed is None:
        packed = np.ones((height // 2, width // 2, 3), np.float32)
    np.save(f"{out}/{path.rsplit('/', 1)[1]}.npy", packed)
"""


def make_files(folder: Path, distinct: int, count: int, height: int, width: int) -> list[str]:
    """`count` names for `distinct` real files, so that the page cache can hold them all."""
    rng = np.random.default_rng(0)
    originals = folder / "originals"
    originals.mkdir()
    for number in range(distinct):
        mosaic = rng.integers(700, 3000, (height, width)).astype(np.uint16)
        write_container(originals / f"{number}.ARW", mosaic, make="SONY", model="DSC-RX100M7")
    (folder / "in").mkdir()
    paths = []
    for number in range(count):
        path = folder / "in" / f"DSC{number:05}.ARW"
        os.link(originals / f"{number % distinct}.ARW", path)
        paths.append(str(path))
    return paths


def empty(folder: Path) -> Path:
    """A new folder, what was in it removed."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.mkdir()
    return folder


def bare_loop(paths: list[str], out: Path, processes: int) -> None:
    empty(out)
    running = [
        subprocess.Popen([sys.executable, "-c", BARE_LOOP, str(out), *paths[n::processes]])
        for n in range(processes)
    ]
    if any(process.wait() for process in running):
        raise SystemExit("the bare loop failed")


def rawisp_pack(folder: Path, out: Path, processes: int) -> None:
    empty(out)
    command = [sys.executable, "-m", "rawisp", "pack", str(folder), "-o", str(out), "-q"]
    subprocess.run([*command, "--workers", str(processes)], check=True)


def main() -> None:
    dry_run = "--dry-run" in sys.argv
    distinct, count, size = (2, 4, (64, 96)) if dry_run else (6, 60, (4024, 6024))
    repeats = 1 if dry_run else 5
    processes = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="rawisp-bench-") as name:
        folder = Path(name)
        paths = make_files(folder, distinct, count, *size)
        times = interleaved(
            {
                "bare_loop": lambda: bare_loop(paths, folder / "bare", processes),
                "rawisp_pack": lambda: rawisp_pack(folder / "in", folder / "out", processes),
                "rawisp_pack_one_worker": lambda: rawisp_pack(folder / "in", folder / "out", 1),
            },
            repeats,
        )
        written = {
            kind: sum(p.stat().st_size for p in (folder / kind).glob("*.npy"))
            for kind in ("bare", "out")
        }
    ratios = [a / b for a, b in zip(times["rawisp_pack"], times["bare_loop"], strict=True)]
    report(
        "pack_folder",
        {
            "files": count,
            "mosaic": list(size),
            "processes": processes,
            "bytes_written": written,
            "times": {kind: summary(values) for kind, values in times.items()},
            "wall_time_ratio_to_bare_loop": round(median(ratios), 3),
            "times_faster_than_one_worker": round(
                median(times["rawisp_pack_one_worker"]) / median(times["rawisp_pack"]), 2
            ),
            "files_per_second": round(count / median(times["rawisp_pack"]), 1),
        },
        dry_run=dry_run,
    )


if __name__ == "__main__":
    main()
