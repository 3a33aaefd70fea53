"""Writes the tables of docs/results.md from benchmarks/results/*.json.

    python -m benchmarks.results_table [--check]

With --check nothing is written; exit code 1 if the page says something else.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "results.md"


def streets(result: dict[str, Any]) -> str:
    """AP50 of each rendering; learned ones as mean and range over seeds."""
    best = max(row["ap50"] for row in result["baselines"].values())
    lines = ["| rendering | AP50 | AP | over the best non-learned |", "|---|---|---|---|"]
    for name, row in result["baselines"].items():
        lines.append(f"| `{name}` | {100 * row['ap50']:.1f} | {100 * row['ap']:.1f} | |")
    if "default" in result:
        row = result["default"]
        shown = f"{100 * row['ap50']:.1f} | {100 * row['ap']:.1f}"
        gain = f"{100 * (row['ap50'] / best - 1):+.0f} %"
        lines.append(f"| `night`, the default, as it is | {shown} | {gain} |")
    for name, row in result["learned"].items():
        values = [100 * seed["ap50"] for seed in row["seeds"]]
        mean_ap = sum(100 * seed["ap"] for seed in row["seeds"]) / len(row["seeds"])
        shown = f"{sum(values) / len(values):.1f}"
        if len(values) > 1:
            shown += f" ({min(values):.1f} to {max(values):.1f})"
        gain = sum(values) / len(values) / (100 * best) - 1
        lines.append(f"| `{name}`, learned | {shown} | {mean_ap:.1f} | {100 * gain:+.0f} % |")
    return "\n".join(lines)


def coco_nights(result: dict[str, Any]) -> str:
    """AP50 of each rendering, and how much of what darkness costs is recovered."""
    rows = result["rows"]
    plain = {n: r for n, r in rows.items() if n in ("demosaic", "rawpy-default", "classic")}
    best = max(row["ap50"] for row in plain.values())
    lit = rows["well-lit"]["ap50"]
    head = "| rendering | AP50 | AP | over the best non-learned | recovered |"
    lines = [head, "|---|---|---|---|---|"]
    for name, row in rows.items():
        cells = ["", ""]
        if name not in plain and name != "well-lit":
            cells = [
                f"{100 * (row['ap50'] / best - 1):+.0f} %",
                f"{100 * (row['ap50'] - best) / (lit - best):.0f} %",
            ]
        shown = f"{100 * row['ap50']:.1f} | {100 * row['ap']:.1f}"
        lines.append(f"| {name} | {shown} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def cameras(result: dict[str, Any]) -> str:
    """AP50 on both cameras by the camera trained on, over seeds; what the other camera costs."""
    lines = ["| ISP | fed | trained on | Sony | Nikon | lost on the other |"]
    lines.append("|---|---|---|---|---|---|")
    mean = {
        (row["isp"], row["color"], row["trained_on"], camera): statistics.mean(row[camera])
        for row in result["rows"]
        for camera in ("Sony", "Nikon")
    }
    for row in result["rows"]:
        ours, key = row["trained_on"], (row["isp"], row["color"])
        other = {"Sony": "Nikon", "Nikon": "Sony"}[ours]
        lost = round(100 * (mean[*key, other, other] - mean[*key, ours, other]), 1) + 0.0  # no -0.0
        fed = {"xyz": "XYZ", "camera": "camera RGB"}[row["color"]]
        cells = " | ".join(_spread(row[camera]) for camera in ("Sony", "Nikon"))
        lines.append(f"| {row['isp']} | {fed} | {ours} | {cells} | {lost:.1f} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    """Mean (lowest to highest) in percent."""
    shown = f"{100 * statistics.mean(values):.1f}"
    if len(values) == 1:
        return shown
    return f"{shown} ({100 * min(values):.1f} to {100 * max(values):.1f})"


TABLES = {"streets": streets, "coco_nights": coco_nights, "cameras": cameras}


def circumstances(result: dict[str, Any]) -> str:
    """Where a table comes from, in one line."""
    machine = result["machine"]
    versions = ", ".join(f"{n} {v}" for n, v in result["versions"].items() if n in ("torch",))
    command = re.sub(r" +", " ", result["command"])
    where = f"{machine['cores']} cores of {machine['processor']}, {versions}"
    return f"*`{command}`, {result['epochs']} epochs; {where}, commit {result['commit']}.*"


def main() -> None:
    text = PAGE.read_text()
    for name, table in TABLES.items():
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        before, _, rest = text.partition(f"<!-- {name} -->")
        after = rest.partition(f"<!-- /{name} -->")[2]
        body = f"{table(result)}\n\n{circumstances(result)}"
        text = f"{before}<!-- {name} -->\n{body}\n<!-- /{name} -->{after}"
    if "--check" in sys.argv:
        sys.exit(text != PAGE.read_text())
    PAGE.write_text(text)
    print(PAGE)


if __name__ == "__main__":
    main()
