"""The table, the page and the picture."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from rawisp.errors import OutputError
from rawisp.evaluation import Comparison, Row
from rawisp.evaluation.average_precision import AveragePrecision
from rawisp.evaluation.curves import color_of, draw_curves
from rawisp.evaluation.report import check_folder, markdown, tables, write_report

NAN = float("nan")


def numbers(ap50: float, boxes: int) -> dict[str, float]:
    return {"ap": ap50 / 2, "ap50": ap50, "ap75": ap50 / 3, "ar": ap50, "boxes": boxes}


def a_row(name: str, ap50: float) -> Row:
    curve = [1.0] * round(ap50 * 100) + [0.0] * (101 - round(ap50 * 100))
    precision = AveragePrecision(
        ap50 / 2, ap50, ap50 / 3, ap50, {}, {"person": curve, "car": curve}
    )
    by_class = {"person": numbers(ap50, 7), "car": numbers(ap50, 3)}
    return Row(
        name, "staged", "xyz", "ab" * 32, precision, (ap50 - 0.1, ap50 + 0.05), by_class,
        {"small": numbers(ap50, 9)}, 0.01234, 0.5,
    )  # fmt: skip


COMPARISON = Comparison(
    rows=[
        a_row("good", 0.8),
        a_row("worse|\n", 0.25),
        replace(a_row("failed", 0.5), precision=AveragePrecision(NAN, NAN, NAN, NAN),
                interval=(NAN, NAN), by_class={}, by_attribute={}, render_s=NAN, detect_s=NAN,
                error="failed (why)"),
    ],
    split="test", fit=(600, 400), images=5, boxes=10, ignored=1, failed=0,
    categories=("person", "car"), left_out={},
    provenance={
        "data": "nights", "detector": "tiny", "detector_sha256": "cd" * 32, "device": "cpu",
    },
    notes=("failed: failed (why)",),
)  # fmt: skip


def test_the_table_has_a_line_for_each_rendering_and_one_of_boxes() -> None:
    (lines,) = tables(COMPARISON)
    assert lines[0] == [
        "rendering", "AP", "AP50", "±", "AP75", "AR", "AP50 person", "AP50 car", "AP50 small",
        "render s", "detect s",
    ]  # fmt: skip
    assert lines[1] == [
        "good", "0.400", "0.800", "0.075", "0.267", "0.800", "0.800", "0.800", "0.800", "0.0123",
        "0.5000",
    ]  # fmt: skip
    assert lines[3] == ["failed", *["-"] * 10]
    assert lines[4] == ["boxes", "10", "", "", "", "", "7", "3", "9", "", ""]


def test_many_classes_have_a_table_of_their_own_with_a_line_each() -> None:
    names = [f"class {n}" for n in range(20)]
    by_class = {name: numbers(n / 20, n) for n, name in enumerate(names)}
    rows = [replace(row, by_class=by_class) for row in COMPARISON.rows[:2]]
    many = replace(COMPARISON, rows=rows, categories=tuple(names))
    overall, by_name = tables(many)
    assert overall[0] == ["rendering", "AP", "AP50", "±", "AP75", "AR", "render s", "detect s"]
    assert overall[3] == ["boxes", "10", "", "", "", "", "", ""]
    assert by_name[0] == ["AP50", "boxes", "good", "worse|\\n"]
    assert by_name[1:3] == [["class 0", "0", *["0.000"] * 2], ["class 1", "1", *["0.050"] * 2]]
    assert by_name[-1] == ["small", "9", "0.800", "0.250"]
    page = markdown(many, curves=False)
    assert max(row.count("|") for row in page.splitlines()) == 10


def test_the_page_is_a_markdown_table_whatever_the_names() -> None:
    page = markdown(COMPARISON, curves=True)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) == 6
    assert {row.replace("\\|", "").count("|") for row in rows} == {12}
    assert "worse\\|\\n" in rows[3]
    assert "5 photographs of nights, split test, 10 boxes, at 600x400, under tiny on cpu." in page
    assert "![Precision over recall](curves.png)" in page
    assert "curves.png" not in markdown(COMPARISON, curves=False)


def test_files_are_written_whole_and_never_over_others(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    check_folder(out)
    assert not (tmp_path / "a").exists()  # until there is something to put in it
    paths = write_report(COMPARISON, out)
    assert sorted(os.listdir(out)) == ["curves.png", "evaluation.json", "evaluation.md"]
    assert [os.path.basename(path) for path in paths] == [
        "evaluation.json", "evaluation.md", "curves.png",
    ]  # fmt: skip
    document = json.loads((out / "evaluation.json").read_text())
    assert document["rows"][2]["ap50"] is None and document["rows"][2]["error"] == "failed (why)"
    assert document["rows"][0]["ap50_interval"] == pytest.approx([0.7, 0.85])
    with pytest.raises(OutputError, match=r"evaluation\.json: is there already"):
        check_folder(out)
    check_folder(out, overwrite=True)
    nothing = replace(COMPARISON, rows=COMPARISON.rows[2:])
    write_report(nothing, out)
    assert not (out / "curves.png").exists()  # it would be an earlier evaluation's
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file: is no folder"):
        check_folder(tmp_path / "file" / "out")


def test_the_picture_has_every_rendering_in_its_colour() -> None:
    picture = draw_curves(COMPARISON)
    assert picture is not None and picture.mode == "RGB"
    colors = {color for _, color in picture.getcolors(1 << 20)}
    assert {color_of(0), color_of(1)} <= colors and color_of(2) not in colors
    assert draw_curves(replace(COMPARISON, rows=COMPARISON.rows[2:])) is None


def test_panels_are_laid_out_in_a_grid() -> None:
    def size(classes: int) -> tuple[int, int]:
        names = [f"class {n}" for n in range(classes)]
        curves = {name: [0.5] * 101 for name in names}
        rows = [
            replace(row, precision=replace(row.precision, curves=curves))
            for row in COMPARISON.rows[:2]
        ]
        picture = draw_curves(replace(COMPARISON, rows=rows, categories=tuple(names)))
        assert picture is not None
        return picture.size

    (w1, h1), (w2, h2), (w3, h3), (w4, h4) = size(1), size(2), size(3), size(4)
    assert (w2, w3, w4) == (2 * w1, 3 * w1, 3 * w1)
    assert h1 == h2 == h3 < h4
    assert size(80)[0] < 5000


def test_a_curve_is_where_the_numbers_say() -> None:
    """Precision 1 up to recall 0.8 in the first panel, nothing to the right of it."""
    picture = draw_curves(replace(COMPARISON, rows=COMPARISON.rows[:1]))
    assert picture is not None
    panel = picture.crop((62, 34, 62 + 261, 34 + 261))  # the axes' inside
    blue = [(x, y) for x in range(261) for y in range(261) if panel.getpixel((x, y)) == color_of(0)]
    assert max(x for x, _ in blue) == pytest.approx(0.79 * 260, abs=2)
    top = [x for x, y in blue if y <= 2]
    assert min(top) <= 2 and len(set(top)) > 200


def test_the_colours_differ() -> None:
    assert len({color_of(n) for n in range(40)}) == 40


def test_a_picture_that_is_written_can_be_read(tmp_path: Path) -> None:
    check_folder(tmp_path / "out")
    write_report(COMPARISON, tmp_path / "out")
    with Image.open(tmp_path / "out" / "curves.png") as picture:
        assert picture.format == "PNG"
        picture.load()
