"""Timing and reporting that all benchmarks share: medians, ratios, machine, versions."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("rawisp", "numpy", "numba", "rawpy", "torch", "tifffile")


def seconds(run: Callable[[], object], repeats: int) -> list[float]:
    """Wall times of `run`, after one call that does not count."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def interleaved(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Wall times by name, the runs taking turns, so that a drifting machine hits all alike."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def summary(times: list[float]) -> dict[str, float]:
    """Median, minimum and maximum in milliseconds."""
    return {
        "median_ms": round(1000 * statistics.median(times), 3),
        "min_ms": round(1000 * min(times), 3),
        "max_ms": round(1000 * max(times), 3),
        "repeats": len(times),
    }


def median(times: list[float]) -> float:
    return statistics.median(times)


def _without_folders(arguments: list[str]) -> list[str]:
    """Paths by their last part: where they lay says something of one machine only."""
    return [Path(one).name if "/" in one else one for one in arguments]


def report(name: str, result: dict[str, Any], *, dry_run: bool) -> None:
    """Prints `result` and, unless this is a dry run, writes it to results/`name`.json."""
    text = json.dumps({"benchmark": name, **result, **circumstances()}, indent=1)
    print(text)
    if not dry_run:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(text + "\n")


def circumstances() -> dict[str, Any]:
    """Machine, versions and commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    ).stdout.strip()
    return {
        "command": shlex.join(
            [
                "python",
                "-m",
                f"benchmarks.{Path(sys.argv[0]).stem}",
                *_without_folders(sys.argv[1:]),
            ]
        ),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "versions": {package: version(package) for package in PACKAGES},
        "commit": commit or "unknown",
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
