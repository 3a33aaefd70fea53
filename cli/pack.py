"""`rawisp pack`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from rawisp.cli import options


def pack(
    sources: options.Sources,
    out: options.Out,
    format: Annotated[
        Literal["npy", "tiff"], typer.Option(help="TIFF carries the camera's facts along.")
    ] = "npy",
    dtype: Annotated[
        Literal["float32", "float16", "uint16"],
        typer.Option(help="uint16 holds (value + 2/3) * 24576: -0.667 to 2.0."),
    ] = "float32",
    color: Annotated[
        Literal["xyz", "camera", "xyz-uninverted"],
        typer.Option(
            help="CIE XYZ; camera RGB; or LibRaw's matrix applied forward, which is wrong but what "
            "some published checkpoints were trained on."
        ),
    ] = "xyz",
    orient: Annotated[
        Literal["sensor", "upright"],
        typer.Option(help="As the sensor saw it, or turned as the orientation flag says."),
    ] = "sensor",
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="1333x800",
            help="Scale down, antialiased, to within these limits of the long and the short side. "
            "[default: full size]",
        ),
    ] = None,
    exclude: options.Exclude = None,
    follow_links: options.FollowLinks = False,
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    max_errors: options.MaxErrors = None,
    timeout: options.Timeout = 120.0,
    max_megapixels: options.MaxMegapixels = 200.0,
    strict: options.Strict = False,
    matrix: options.Matrix = None,
    black: options.Black = None,
    white: options.White = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Pack RAW files to half-resolution linear XYZ, one (H/2, W/2, 3) file each.

    Black and white levels are applied per colour, greens averaged, nothing is clipped.
    OUT/manifest.jsonl tells for each file the camera's facts and where its pixels went.

    Example: `rawisp pack night_photos/ -o packed/ --dtype float16`
    """
    from rawisp.batch import PackSettings, pack_folder
    from rawisp.cli.report import Reporter
    from rawisp.geometry import parse_fit

    read = options.read_settings(max_megapixels, matrix, black, white, strict=strict)
    with Reporter("pack", as_json=as_json, quiet=quiet, verbose=verbose) as reporter:
        report = pack_folder(
            sources,
            out,
            PackSettings(format, dtype, color, orient, parse_fit(fit) if fit else None, read),
            options=options.run_options(
                workers,
                overwrite,
                dry_run,
                max_errors,
                timeout,
                options.search(exclude, follow_links),
            ),
            on_event=reporter,
        )
        reporter.finish(report)
