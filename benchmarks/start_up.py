"""From starting a command to its end: `--help`, and `pack` of one file with a warm kernel cache.

python -m benchmarks.start_up [--dry-run]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import interleaved, report, summary
from rawisp.raw.container import write_container


def main() -> None:
    dry_run = "--dry-run" in sys.argv
    size = (64, 96) if dry_run else (4024, 6024)
    with tempfile.TemporaryDirectory(prefix="rawisp-bench-") as name:
        folder = Path(name)
        mosaic = np.random.default_rng(0).integers(700, 3000, size).astype(np.uint16)
        write_container(folder / "a.ARW", mosaic, make="SONY", model="DSC-RX100M7")

        def command(*arguments: str) -> None:
            subprocess.run(
                [sys.executable, "-m", "rawisp", *arguments],
                check=True,
                stdout=subprocess.DEVNULL,
            )

        pack = ("pack", str(folder / "a.ARW"), "-o", str(folder / "out"), "-q", "--overwrite")
        times = interleaved(
            {
                "python_alone": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
                "help": lambda: command("--help"),
                "pack_one_file": lambda: command(*pack),
            },
            2 if dry_run else 11,
        )
    report(
        "start_up",
        {"mosaic": list(size), "times": {k: summary(v) for k, v in times.items()}},
        dry_run=dry_run,
    )


if __name__ == "__main__":
    main()
