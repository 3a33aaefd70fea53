"""`rawisp enhance`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from rawisp.cli import completion, options


def enhance(
    sources: options.Sources,
    out: options.Out,
    ckpt: Annotated[
        str,
        typer.Option(
            metavar="PATH|NAME",
            autocompletion=completion.checkpoints,
            help="A shipped name, one of rawisp's safetensors files, or a TorchScript or .pt2 file "
            "(which are programs).",
        ),
    ] = "night",
    device: options.Device = "auto",
    format: Annotated[Literal["png", "jpg", "tiff"], typer.Option(help="8-bit RGB.")] = "png",
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="1333x800|none",
            help="Scale down, before the ISP, to within these limits of the long and the short "
            "side. [default: as the checkpoint says]",
        ),
    ] = None,
    orient: Annotated[
        Literal["upright", "sensor"],
        typer.Option(help="Turned as the orientation flag says, or as the sensor saw it."),
    ] = "upright",
    highlights: Annotated[
        Literal["neutral", "as-is"],
        typer.Option(help="Whether clipped colours become the scene's white before the ISP."),
    ] = "neutral",
    annotations: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="COCO, VOC or YOLO (as for `validate`); comes out in DIR in the same format, in "
            "output pixels: DIR/annotations.json, or, given several times, DIR/annotations/FILE; "
            "DIR/Annotations/; DIR/data.yaml and DIR/labels/.",
        ),
    ] = None,
    annotations_format: Annotated[
        Literal["coco", "voc", "yolo"] | None,
        typer.Option(help="Write another format. [default: that of the annotations]"),
    ] = None,
    annotation_frame: Annotated[
        Literal["auto", "visible", "crop", "upright", "upright-crop", "raw", "center", "packed"],
        typer.Option(help="What the annotations were drawn on, where their size does not tell."),
    ] = "auto",
    only_annotated: Annotated[
        bool, typer.Option("--only-annotated", help="Leave out inputs without an entry.")
    ] = False,
    input_color: Annotated[
        Literal["xyz", "camera", "xyz-uninverted"] | None,
        typer.Option(help="What a checkpoint that does not say was trained on."),
    ] = None,
    safe: Annotated[
        bool, typer.Option("--safe", help="Accept only checkpoints that are safe to open.")
    ] = False,
    expect_sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Refuse a checkpoint with another hash.")
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
    """Render RAW (or packed) files with a learned ISP to images that a detector can read.

    Decodes, packs, scales down, applies the checkpoint, writes 8-bit RGB without an orientation
    tag, and moves boxes along.

    Example: `rawisp enhance night_photos/ -o out/ --annotations instances.json`
    """
    from rawisp.batch import EnhanceSettings, enhance_folder
    from rawisp.cli.report import Reporter
    from rawisp.geometry import parse_fit

    settings = EnhanceSettings(
        checkpoint=ckpt,
        device=device,
        format=format,
        fit="checkpoint" if fit is None else parse_fit(fit),
        orient=orient,
        input_color=input_color,
        safe=safe,
        expect_sha256=expect_sha256,
        annotation_frame=annotation_frame,
        highlights=highlights,
        read=options.read_settings(max_megapixels, matrix, black, white, strict=strict),
    )
    with Reporter("enhance", as_json=as_json, quiet=quiet, verbose=verbose) as reporter:
        report = enhance_folder(
            sources,
            out,
            settings,
            annotations=annotations or (),
            annotations_format=annotations_format,
            only_annotated=only_annotated,
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
