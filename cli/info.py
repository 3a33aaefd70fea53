"""`rawisp info`."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import Annotated, Any

import typer

from rawisp.cli import options
from rawisp.errors import display_path


def info(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="RAW files, or folders of them.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    exclude: options.Exclude = None,
    follow_links: options.FollowLinks = False,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Decoding processes.")] = 1,
    timeout: options.Timeout = 120.0,
    max_megapixels: options.MaxMegapixels = 200.0,
    matrix: options.Matrix = None,
    black: options.Black = None,
    white: options.White = None,
) -> None:
    """Show what a RAW file says: pattern, levels, matrices, frames, exposure, sample statistics.

    Example: `rawisp info DSC01316.ARW`
    """
    from rawisp.batch import info_files

    read = options.read_settings(max_megapixels, matrix, black, white)
    failed = False
    records = info_files(
        files,
        read,
        workers=workers,
        timeout_s=timeout,
        search=options.search(exclude, follow_links),
        on_note=lambda text: sys.stderr.write(f"{text}\n"),
    )
    with closing(records):  # the workers end here, also when stdout's reader has gone
        for record in records:
            if as_json:
                sys.stdout.write(json.dumps(record) + "\n")
            elif record["status"] != "failed":
                _show(record)
            if record["status"] == "failed":
                failed = True
                sys.stderr.write(f"{display_path(record['source'])}: {record['reason']}\n")
    if failed:
        raise typer.Exit(1)


def _show(record: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(display_path(record["source"]), style="bold", markup=False)
    for name, value in _lines(record):
        for number, line in enumerate(value.splitlines()):
            console.print(f"  {name if number == 0 else '':<20}{line}", markup=False)
    samples = Table("samples", "min", "median", "max", "clipped", box=None, pad_edge=False)
    samples.padding = (0, 2, 0, 2)
    for color, s in record["samples"].items():
        samples.add_row(
            color,
            f"{s['min']}",
            f"{s['median']}",
            f"{s['max']}",
            f"{100 * s['clipped_share']:.3f} %",
        )
    console.print(samples)
    for warning in (*record["warnings"], *record["suspicions"]):
        console.print(f"  warning: {warning}", markup=False)
    console.print()


def _lines(record: dict[str, Any]) -> list[tuple[str, str]]:
    from rawisp.raw.names import camera_name

    camera, exposure = record["camera"], record["exposure"]
    return [
        ("camera", camera_name(camera["make"], camera["model"])),
        ("lens", camera["lens"] or "unknown"),
        ("exposure", _exposure(exposure)),
        ("captured", exposure["captured_at"] or "unknown"),
        ("pattern", record["pattern"]),
        ("black R G1 B G2", f"{_numbers(record['black'])}  ({record['levels_source']})"),
        ("white R G1 B G2", _numbers(record["white"])),
        *_matrices(record),
        ("gains as shot", _numbers(record["white_balance"])),
        ("gains in daylight", _numbers(record["daylight_balance"])),
        ("orientation", f"EXIF {record['exif_orientation']}, LibRaw {record['flip_libraw']}"),
        *(
            (f"frame {name}", f"{f['width']}x{f['height']}{_offset(f['to_visible'])}")
            for name, f in record["frames"].items()
        ),
    ]


def _matrices(record: dict[str, Any]) -> list[tuple[str, str]]:
    if record["xyz_to_camera"] is None:
        return [
            ("XYZ to camera", "none known: pack needs --matrix (generic is one), or --color camera")
        ]
    return [
        ("XYZ to camera", f"{_matrix(record['xyz_to_camera'])}  ({record['matrix_source']})"),
        ("camera to XYZ", _matrix(record["camera_to_xyz"])),
    ]


def _exposure(e: dict[str, Any]) -> str:
    shutter = e["shutter_s"]
    parts = [
        f"ISO {e['iso']:g}" if e["iso"] else None,
        (f"1/{1 / shutter:.0f} s" if shutter < 0.3 else f"{shutter:g} s") if shutter else None,
        f"f/{e['aperture_f']:g}" if e["aperture_f"] else None,
        f"{e['focal_length_mm']:g} mm" if e["focal_length_mm"] else None,
    ]
    return ", ".join(part for part in parts if part) or "unknown"


def _numbers(values: list[float] | None) -> str:
    return " ".join(f"{v:.5g}" for v in values) if values else "unknown"


def _matrix(rows: list[list[float]]) -> str:
    return "\n".join(" ".join(f"{v:8.5f}" for v in row) for row in rows)


def _offset(to_visible: list[list[float]]) -> str:
    (xx, _, x0), (_, yy, y0) = to_visible
    if (xx, yy) == (1, 1) and (x0 or y0):
        return f", its corner at ({x0:+g}, {y0:+g}) of visible"
    return ""
