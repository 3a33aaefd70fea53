"""Options that several verbs share, and how their texts become values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rawisp.cli import completion
from rawisp.errors import UsageError

if TYPE_CHECKING:
    from rawisp.batch import RunOptions
    from rawisp.batch.tasks import ReadSettings
    from rawisp.raw.files import Search

Sources = Annotated[
    list[str],
    typer.Argument(metavar="SRC...", help="RAW files, or folders that are searched for them."),
]
Out = Annotated[
    str,
    typer.Option("--out", "-o", metavar="DIR", help="Output folder; the tree of SRC is mirrored."),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Decoding processes. [default: one per core]"),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        help="Pass over files and folders so called, or whose path below the folder is so; may be "
        "given several times.",
    ),
]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Enter links to folders, each real folder once.")
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite/--skip-existing",
        help="Make everything again, or only what is missing or has changed.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only print what would be done, a line per file.")
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON object per file on stdout, as in the manifest.")
]
MaxErrors = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Stop after N failed files; those under way are finished. [default: never]",
    ),
]
Timeout = Annotated[
    float, typer.Option(min=0.1, metavar="SECONDS", help="Limit for one file; then it fails.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only failures on stderr.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="A line per file, and details of failures.")
]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda[:N]", autocompletion=completion.devices)
]
MaxMegapixels = Annotated[
    float,
    typer.Option(min=0.001, metavar="MP", help="Refuse larger files before decoding them."),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Files that look damaged fail, instead of being rendered and reported."
    ),
]
Matrix = Annotated[
    str | None,
    typer.Option(
        metavar="'M11,M12,...,M33'|generic",
        help="XYZ-to-camera matrix, row by row as DNG's ColorMatrix, instead of the file's; or "
        "generic, a stand-in for those files whose camera's matrix nobody knows.",
    ),
]
Black = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL[,G1,B,G2]", help="Black level (one, or R,G1,B,G2), instead of the file's."
    ),
]
White = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL[,G1,B,G2]", help="White level (one, or R,G1,B,G2), instead of the file's."
    ),
]


Data = Annotated[
    str, typer.Argument(metavar="DATA", help="A folder of RAW files and their annotations.")
]
Annotations = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE", help="COCO, VOC or YOLO. [default: those found in DATA]"),
]
Frame = Literal["auto", "visible", "crop", "upright", "upright-crop", "raw", "center"]
AnnotationFrame = Annotated[
    Frame | None,
    typer.Option(
        help="What the annotations were drawn on, where their size does not tell. [default: auto]"
    ),
]
DetectorWeights = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Its weights. [default: COCO's, downloaded once]"),
]
DetectorClasses = Annotated[
    str | None,
    typer.Option(metavar="A,B,...", help="Its classes, where the file does not say."),
]
DetectorSize = Annotated[
    str | None,
    typer.Option(metavar="1333x800", help="To which it scales its input. [default: its own]"),
]
Cache = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Where packed images are kept. [default: $XDG_CACHE_HOME/rawisp/data, which is "
        "~/.cache/rawisp/data, below the data set's name]",
    ),
]


def names(text: str | None) -> tuple[str, ...] | None:
    """What commas part, without the blanks around it."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


def read_settings(
    max_megapixels: float,
    matrix: str | None,
    black: str | None,
    white: str | None,
    *,
    strict: bool = False,
) -> ReadSettings:
    """How RAW files are to be read. UsageError for texts that are no numbers."""
    from rawisp.batch.tasks import ReadSettings
    from rawisp.color import parse_matrix
    from rawisp.raw import Overrides

    return ReadSettings(
        max_megapixels,
        Overrides(
            matrix=parse_matrix(matrix) if matrix not in (None, "generic") else None,
            generic_matrix=matrix == "generic",
            black=_levels("--black", black),
            white=_levels("--white", white),
        ),
        strict,
    )


def run_options(
    workers: int | None,
    overwrite: bool,
    dry_run: bool,
    max_errors: int | None,
    timeout_s: float,
    search: Search | None = None,
) -> RunOptions:
    """The options of a folder run."""
    from rawisp.batch import RunOptions
    from rawisp.raw.files import Search

    return RunOptions(workers, overwrite, dry_run, max_errors, timeout_s, search or Search())


def search(exclude: list[str] | None, follow_links: bool) -> Search:
    """How folders are searched for files."""
    from rawisp.raw.files import Search

    return Search(tuple(exclude or ()), follow_links)


def _levels(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(float(v) for v in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 4):
        raise UsageError(f"{option} {text!r} is neither one number nor four (R,G1,B,G2)")
    return values
