"""`rawisp eval`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from rawisp.cli import completion, options


def evaluate(
    data: options.Data,
    ckpt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="A checkpoint; can be given several times.",
            autocompletion=completion.checkpoints,
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.baselines,
            help="An ISP without parameters: classic, rawpy-default or demosaic; can be given "
            "several times.",
        ),
    ] = None,
    detector: Annotated[
        str,
        typer.Option(
            metavar="NAME|MODULE:FACTORY",
            autocompletion=completion.detectors,
            help="tiny, one of torchvision's or transformers', or your own; it need not be the "
            "guide of the training.",
        ),
    ] = "retinanet_resnet50_fpn",
    detector_weights: options.DetectorWeights = None,
    detector_classes: options.DetectorClasses = None,
    detector_size: options.DetectorSize = None,
    split: Annotated[
        Literal["test", "val", "train", "all"] | None,
        typer.Option(help="[default: test if DATA has it, else val, else all]"),
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Hold out what `rawisp train --val SHARE` held out."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of that training, for --val.")] = 0,
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="1333x800|none",
            help="Limits of the images, for all renderings. [default: as the first --ckpt "
            "says, else 1333x800]",
        ),
    ] = None,
    annotations: options.Annotations = None,
    annotation_frame: options.AnnotationFrame = None,
    exclude: options.Exclude = None,
    follow_links: options.FollowLinks = False,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="For evaluation.json, evaluation.md and curves.png. [default: nothing is written]",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier evaluation in DIR.")
    ] = False,
    fail_under: Annotated[
        float | None,
        typer.Option(
            metavar="AP50",
            min=0.0,
            max=1.0,
            help="Exit code 1 if the last --ckpt is below this, 0 to 1.",
        ),
    ] = None,
    input_color: Annotated[
        Literal["xyz", "camera", "xyz-uninverted"] | None,
        typer.Option(help="What checkpoints that do not say were trained on."),
    ] = None,
    safe: Annotated[
        bool, typer.Option("--safe", help="Accept only checkpoints that are safe to open.")
    ] = False,
    cache: options.Cache = None,
    device: options.Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Decoding processes. [default: one per core]"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, instead of the table.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only failures on stderr.")] = False,
) -> None:
    """Compare renderings: COCO's average precision of each under the same detector.

    Exit code 1 when a photograph or a rendering failed, or --fail-under is not reached. Packed
    images are kept, so that the next evaluation begins at once.

    Example: `rawisp eval night_photos/ --baseline classic --ckpt run/isp.safetensors -o eval/`
    """
    from rawisp.cli.evaluate_report import EvaluationReporter, show
    from rawisp.detect.settings import GuideSettings
    from rawisp.evaluation import evaluate as run
    from rawisp.evaluation.report import check_folder, exit_code, write_report
    from rawisp.geometry import parse_fit

    if out is not None:
        check_folder(out, overwrite=overwrite)
    settings = GuideSettings(
        detector,
        detector_weights,
        options.names(detector_classes),
        None if detector_size is None else parse_fit(detector_size),
    )
    with EvaluationReporter(quiet=quiet) as reporter:
        comparison = run(
            data,
            [*(baseline or ()), *(ckpt or ())],
            settings,
            annotations=annotations or (),
            annotation_frame=annotation_frame or "auto",
            split=split,
            val=val,
            seed=seed,
            fit="checkpoint" if fit is None else parse_fit(fit),
            cache=cache,
            device=device,
            workers=workers,
            input_color=input_color,
            safe=safe,
            search=options.search(exclude, follow_links),
            on_event=reporter,
        )
        written = write_report(comparison, out) if out is not None else []
        reporter.finish(comparison, written, fail_under)
    show(comparison, as_json=as_json)
    code = exit_code(comparison, fail_under)
    if code:
        raise typer.Exit(code)
