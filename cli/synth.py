"""`rawisp synth`."""

from __future__ import annotations

from typing import Annotated

import typer

from rawisp.cli import completion, options


def synth(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...", help="Photographs (JPEG, PNG), or folders that are searched."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Output folder; the tree of IMAGES is mirrored."
        ),
    ],
    annotations: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Boxes on the photographs as displayed: COCO, VOC or YOLO. DIR/annotations.json "
            "gets them in pixels of the RAW files.",
        ),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.cameras,
            help="DSC-RX100M7 (.ARW), 'NIKON D750' (.NEF) or dng (.DNG). May be given several "
            "times: each photograph takes one, by its name. [default: DSC-RX100M7]",
        ),
    ] = None,
    stops: Annotated[
        tuple[float, float],
        typer.Option(
            metavar="LOW HIGH", help="How far mid-tones fall below a normal exposure, drawn evenly."
        ),
    ] = (3.0, 7.0),
    scale: Annotated[
        float,
        typer.Option(
            min=0.05, max=8.0, help="Sensor pixels per photograph pixel and side; packing halves."
        ),
    ] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other nights.")] = 0,
    copies: Annotated[
        int, typer.Option(min=1, max=999, metavar="N", help="Nights of each photograph.")
    ] = 1,
    exclude: options.Exclude = None,
    follow_links: options.FollowLinks = False,
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    max_errors: options.MaxErrors = None,
    timeout: options.Timeout = 120.0,
    max_megapixels: options.MaxMegapixels = 200.0,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make night RAW files with boxes from annotated photographs.

    Tone curve and gamma are undone, the light is exchanged for a street's, the exposure dropped,
    lamps and their glare added; then the camera's matrix, mosaic, noise, 14 bits and container.
    OUT/manifest.jsonl tells what was drawn for each file. The same seed makes the same bytes.

    Example: `rawisp synth photographs/ -o nights/ --annotations instances.json --stops 3 5`
    """
    from rawisp.batch.synth import SynthSettings, synth_folder
    from rawisp.cli.report import Reporter
    from rawisp.data.synth import NightSettings

    settings = SynthSettings(
        cameras=tuple(camera or ["DSC-RX100M7"]),
        seed=seed,
        copies=copies,
        night=NightSettings(stops=stops, scale=scale),
        max_megapixels=max_megapixels,
    )
    with Reporter("synth", as_json=as_json, quiet=quiet, verbose=verbose) as reporter:
        report = synth_folder(
            images,
            out,
            settings,
            annotations=annotations,
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
