"""A comparison as a table, as JSON and as files."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

from rawisp.batch.writer import write_atomically
from rawisp.errors import OutputError, display_path, printable
from rawisp.evaluation.compare import Comparison, Row, fit_text

JSON_FILE, TABLE_FILE, CURVES_FILE = "evaluation.json", "evaluation.md", "curves.png"
FORMAT_VERSION = 1
NOTHING = "-"
# Columns of classes and attributes that still fit beside the others on a page.
WIDEST = 8


def tables(comparison: Comparison) -> list[list[list[str]]]:
    """Headings, a line for each rendering, and one of how many boxes each column rests on.

    Of more classes and attributes than WIDEST a second table tells, a line for each.
    """
    attributes = list(dict.fromkeys(name for row in comparison.rows for name in row.by_attribute))
    classes = [c for c in comparison.categories if any(c in r.by_class for r in comparison.rows)]
    names = [*classes, *attributes]
    boxes: dict[str, float] = {}
    for row in comparison.rows:
        for name, numbers in _by_name(row).items():
            boxes.setdefault(name, numbers["boxes"])
    counts = {name: str(int(boxes[name])) for name in names}
    if len(names) <= WIDEST:
        return [_renderings(comparison, counts)]
    head = ["AP50", "boxes", *(printable(row.name) for row in comparison.rows)]
    lines = [
        [printable(name), counts[name], *(_cell(_ap50(row, name)) for row in comparison.rows)]
        for name in names
    ]
    return [_renderings(comparison, {}), [head, *lines]]


def _renderings(comparison: Comparison, counts: dict[str, str]) -> list[list[str]]:
    """The table with a line for each rendering; counts: of the names that have a column."""
    headings = ["rendering", "AP", "AP50", "±", "AP75", "AR"]
    headings += [f"AP50 {printable(name)}" for name in counts]
    lines = [_line(row, list(counts)) for row in comparison.rows]
    last = ["boxes", str(comparison.boxes), "", "", "", "", *counts.values(), "", ""]
    return [[*headings, "render s", "detect s"], *lines, last]


def _line(row: Row, names: list[str]) -> list[str]:
    p = row.precision
    half_width = (row.interval[1] - row.interval[0]) / 2
    numbers = [p.ap, p.ap50, half_width, p.ap75, p.ar, *(_ap50(row, name) for name in names)]
    seconds = [_cell(value, 4) for value in (row.render_s, row.detect_s)]
    return [printable(row.name), *map(_cell, numbers), *seconds]


def _by_name(row: Row) -> dict[str, dict[str, float]]:
    """By class and by attribute; a class goes before an attribute of the same name."""
    return {**row.by_attribute, **row.by_class}


def _ap50(row: Row, name: str) -> float:
    return _by_name(row).get(name, {}).get("ap50", float("nan"))


def _cell(value: float, digits: int = 3) -> str:
    return NOTHING if value != value else f"{value:.{digits}f}"


def record(comparison: Comparison) -> dict[str, Any]:
    """JSON values; NaN is null."""
    values = {**asdict(comparison), "photographs": comparison.photographs.record()}
    for row, before in zip(values["rows"], comparison.rows, strict=True):
        precision = row.pop("precision")
        numbers = {key: precision[key] for key in ("ap", "ap50", "ap75", "ar")}
        row.update(numbers, ap50_interval=row.pop("interval"), curves=precision["curves"])
        row["error"] = before.error or None
    cleaned: dict[str, Any] = _without_nan({"format_version": FORMAT_VERSION, **values})
    return cleaned


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


def markdown(comparison: Comparison, *, curves: bool) -> str:
    """A page: what was evaluated, the table, notes; curves: whether their picture lies beside."""
    about = comparison.provenance
    hashes = [
        f"- {printable(row.name)}: sha256 {row.sha256}" for row in comparison.rows if row.sha256
    ]
    notes = [f"- {printable(note)}" for note in comparison.notes]
    parts = [
        f"# {printable(about['data'])}, {comparison.split}",
        f"{summary(comparison)}.",
        *(_markdown_table(lines) for lines in tables(comparison)),
        "± is half the 95 % interval of AP50 over images (bootstrap); seconds are per image.",
        f"![Precision over recall]({CURVES_FILE})" if curves else "",
        "\n".join(notes),
        "\n".join([f"- {about['detector']}: sha256 {about['detector_sha256']}", *hashes]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(lines: list[list[str]]) -> str:
    head, *rest = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    alignment = [":---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, alignment, *rest))


def summary(comparison: Comparison) -> str:
    """One sentence: how many photographs and boxes, at which size, under which detector."""
    about = comparison.provenance
    failed = f" ({comparison.failed} could not be used)" if comparison.failed else ""
    return (
        f"{comparison.images} photographs of {printable(about['data'])}, split {comparison.split}"
        f"{failed}, {comparison.boxes} boxes, at {fit_text(comparison.fit)}, under "
        f"{printable(about['detector'])} on {about['device']}"
    )


def check_folder(folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Looks, before the work, whether results can be written. OutputError where they cannot."""
    for name in (JSON_FILE, TABLE_FILE, CURVES_FILE):
        path = os.path.join(folder, name)
        if os.path.lexists(path) and not overwrite:
            raise OutputError(
                f"{display_path(path)}: is there already; give --overwrite, or choose another -o"
            )
    there = os.path.abspath(folder)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise OutputError(f"{display_path(there)}: is no folder, so results cannot go there")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"{display_path(there)}: cannot be written to")


def write_report(comparison: Comparison, folder: str | os.PathLike[str]) -> list[str]:
    """evaluation.json, evaluation.md and curves.png in `folder`, each whole or not at all.

    Returns their paths. OutputError, OutputFullError.
    """
    from rawisp.evaluation.curves import draw_curves

    picture = draw_curves(comparison)
    text = json.dumps(record(comparison), indent=1, allow_nan=False) + "\n"
    page = markdown(comparison, curves=picture is not None)
    paths = [os.path.join(folder, name) for name in (JSON_FILE, TABLE_FILE, CURVES_FILE)]
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{display_path(folder)}: cannot be made ({error.strerror})") from None
    write_atomically(paths[0], lambda file: _write(file, text))
    write_atomically(paths[1], lambda file: _write(file, page))
    if picture is None:
        if os.path.lexists(paths[2]):  # of an earlier evaluation
            os.unlink(paths[2])
        return paths[:2]
    write_atomically(paths[2], lambda file: picture.save(file, format="PNG"))
    return paths


def _write(file: Any, text: str) -> None:
    file.write(text.encode("utf-8", "backslashreplace"))


def exit_code(comparison: Comparison, fail_under: float | None = None) -> int:
    """0; 1 if a photograph or a rendering failed, or the last AP50 is under `fail_under`."""
    failed = comparison.failed > 0 or comparison.photographs.failed > 0
    failed = failed or any(row.error for row in comparison.rows)
    return int(failed or (fail_under is not None and is_under(comparison, fail_under)))


def is_under(comparison: Comparison, ap50: float) -> bool:
    """Whether the last rendering's AP50 is below `ap50`, or is none."""
    # All found is 1 - 2e-16 in pycocotools' arithmetic.
    return not comparison.rows[-1].precision.ap50 >= ap50 - 1e-9
