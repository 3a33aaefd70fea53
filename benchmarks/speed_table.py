"""Writes the README's speed table from benchmarks/results: python -m benchmarks.speed_table"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- speed -->\n).*?(<!-- /speed -->)", re.DOTALL)


def load(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def table() -> str:
    """The rows, each with the reference it was measured against."""
    kernel, folder, start = load("pack_kernel"), load("pack_folder"), load("start_up")
    height, width = kernel["mosaic"]
    mosaic = f"{width}x{height}"
    help_s = start["times"]["help"]["median_ms"] / 1000
    pack_s = start["times"]["pack_one_file"]["median_ms"] / 1000
    train = load("train_speed")["isps"]["staged"]
    rate = train["samples_per_s"]["ours"]
    planar, interleaved = kernel["times"]["chw"], kernel["times"]["hwc"]
    rows = [
        "| what | reference in the same run | ratio |",
        "|---|---|---|",
        f"| `pack_bayer` planar, {mosaic}: {planar['median_ms']:.1f} ms "
        f"| NumPy float64 einsum | {kernel['chw_times_faster_than_einsum']:.0f} times faster |",
        "| | memcpy of the same bytes, one thread / all threads "
        f"| {kernel['chw_share_of_memcpy_bandwidth']:.2f} / "
        f"{kernel['chw_share_of_memcpy_bandwidth_all_threads']:.2f} of its bandwidth |",
        f"| `pack_bayer` interleaved: {interleaved['median_ms']:.1f} ms "
        f"| NumPy float64 einsum | {kernel['hwc_times_faster_than_einsum']:.0f} times faster |",
        f"| `rawisp pack`, {folder['files']} files of 24 MP: {folder['files_per_second']:.0f} "
        f"files/s | bare rawpy + `np.save` loop, {folder['processes']} processes "
        f"| {folder['wall_time_ratio_to_bare_loop']:.2f} of its wall time |",
        f"| `rawisp pack` of one 24 MP file, start to end: {pack_s:.2f} s "
        f"| `rawisp --help`: {help_s:.2f} s | |",
        f"| `rawisp train`, `staged` with `tiny`, 600x400: {rate:.1f} images/s "
        f"| a loop that decodes and learns image by image | {train['ratio']:.1f} times faster |",
    ]
    return "\n".join(rows) + "\n"


def with_table(text: str) -> str:
    return BLOCK.sub(lambda found: found[1] + table() + found[2], text)


def updated() -> bool:
    """Whether the README says what the results say."""
    return with_table(README.read_text()) == README.read_text()


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
    print(README.name)
