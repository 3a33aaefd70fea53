"""`rawisp train`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from rawisp.cli import completion, options


def train(
    data: options.Data,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="RUN", help="The run's folder; see --resume.")
    ],
    isp: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="One of `rawisp list isps`. [default: genisp]",
            autocompletion=completion.isps,
        ),
    ] = None,
    isp_config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A setting of the ISP; may be given several times."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="CKPT", help="A safetensors checkpoint of the same ISP to begin with."
        ),
    ] = None,
    recipe: Annotated[
        Literal["genisp", "ta-isp", "staged", "adaptive-isp"] | None,
        typer.Option(help="A paper's schedule and losses, which other options override."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="TOML with these options' names as keys. Options here go before RAWISP_TRAIN_* "
            "variables, these before the file, the file before the recipe.",
        ),
    ] = None,
    annotations: options.Annotations = None,
    annotation_frame: options.AnnotationFrame = None,
    exclude: options.Exclude = None,
    follow_links: options.FollowLinks = False,
    val: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the photographs held out, where the data have no split of their own.",
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|MODULE:FACTORY",
            autocompletion=completion.detectors,
            help="The guide: tiny, one of torchvision's or transformers' detectors, or your own. "
            "[default: retinanet_resnet50_fpn]",
        ),
    ] = None,
    detector_weights: options.DetectorWeights = None,
    detector_classes: options.DetectorClasses = None,
    detector_size: options.DetectorSize = None,
    box_loss_beta: Annotated[
        float | None,
        typer.Option(min=1e-6, metavar="BETA", help="Of smooth_l1. [default: 1/9]"),
    ] = None,
    box_loss: Annotated[
        Literal["own", "smooth_l1"] | None, typer.Option(help="Of a RetinaNet.")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Of the whole run where a recipe has two phases, else of the first; with --resume "
            "how many the run shall have in all. [default: 15]",
        ),
    ] = None,
    phase2: Annotated[
        int | None,
        typer.Option(
            "--phase2",
            min=0,
            metavar="EPOCHS",
            help="Then joint epochs, detector and ISP together. [default: 0]",
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, metavar="N", help="[default: 8]")] = None,
    accumulate: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Batches in a step. [default: 1]")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. [default: 0.001]")] = None,
    optimizer: Annotated[Literal["adam", "adamw", "sgd"] | None, typer.Option()] = None,
    color_weight: Annotated[
        float | None, typer.Option(help="Of the grey-world term on the output. [default: 0]")
    ] = None,
    reinforce: Annotated[
        Literal["terminal", "td", "greedy"] | None,
        typer.Option(
            help="How adaptive-isp learns: from whole renderings, as its paper says, or as its "
            "code does. [default: terminal]"
        ),
    ] = None,
    runtime_penalty: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="WEIGHT",
            help="Per millisecond of adaptive-isp's operators; the paper tries up to 0.1. "
            "[default: 0]",
        ),
    ] = None,
    day_weight: Annotated[
        float | None,
        typer.Option(
            help="Of the difference from the well-lit photograph, for nights that `rawisp synth` "
            "made. [default: 0]"
        ),
    ] = None,
    day_response: Annotated[
        float | None,
        typer.Option(
            help="Of the difference between the detector's responses to rendering and well-lit "
            "photograph, likewise. [default: 0]"
        ),
    ] = None,
    input_color: Annotated[
        Literal["xyz", "camera", "xyz-uninverted"] | None,
        typer.Option(help="What the ISP is fed. [default: xyz]"),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(metavar="1333x800|none", help="Limits of the images. [default: 1333x800]"),
    ] = None,
    amp: Annotated[
        bool | None, typer.Option("--amp/--no-amp", help="Detector and U-Nets in bfloat16.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="[default: 0]")] = None,
    device: Annotated[str | None, typer.Option(metavar="auto|cpu|cuda[:N]")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Loading threads. [default: 2]")
    ] = None,
    cache: options.Cache = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run in RUN; with a larger --epochs beyond its end."
        ),
    ] = False,
    extended_lr: Annotated[
        Literal["restart", "constant"] | None,
        typer.Option(
            help="Beyond its end the learning rate's schedule begins anew, or the last rate "
            "stays. [default: restart]"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check everything, and print the plan.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per epoch on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only failures on stderr.")] = False,
) -> None:
    """Learn an ISP on annotated RAW files, under the guidance of a frozen detector.

    What is going to be done is printed first. RUN gets isp.safetensors and isp.ts of the best
    epoch, metrics.jsonl, metrics.csv, previews and the state to continue from. Exit code 1 when
    photographs could not be used; the checkpoint is written all the same. On several GPUs:
    `torchrun --nproc-per-node N -m rawisp train ...`.

    Example: `rawisp train night_photos/ -o run/ --isp staged --detector tiny --fit 600x400`
    """
    from rawisp.cli.train_report import TrainReporter, show_plan
    from rawisp.geometry import parse_fit
    from rawisp.train import resolve_config
    from rawisp.train.preflight import check_paths

    flags: dict[str, Any] = {
        "isp": isp,
        "isp_config": _settings(isp_config),
        "start": start,
        "recipe": recipe,
        "annotation_frame": annotation_frame,
        "val": val,
        "detector": detector,
        "detector_weights": detector_weights,
        "detector_classes": options.names(detector_classes),
        "detector_size": parse_fit(detector_size) if detector_size else None,
        "box_loss_beta": box_loss_beta,
        "box_loss": box_loss,
        "epochs": epochs,
        "extended_lr": extended_lr,
        "phase2_epochs": phase2,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "lr": lr,
        "optimizer": optimizer,
        "color_weight": color_weight,
        "day_weight": day_weight,
        "day_response": day_response,
        "reinforce": reinforce,
        "runtime_penalty": runtime_penalty,
        "input_color": input_color,
        "amp": amp,
        "seed": seed,
        "device": device,
        "workers": workers,
    }
    if fit is not None:
        flags["fit"] = parse_fit(fit) or "none"
    base = None
    if resume:
        from rawisp.train import saved_config

        base = saved_config(out)
    settings = resolve_config(flags, file=config, base=base)
    check_paths(data, out, settings, cache)  # before torch is imported, which takes seconds
    from rawisp.train import plan_training
    from rawisp.train import train as run

    where: dict[str, Any] = {
        "annotations": annotations or (),
        "cache": cache,
        "resume": resume,
        "search": options.search(exclude, follow_links),
    }
    if dry_run:
        show_plan(plan_training(data, out, settings, **where).record(), as_json=as_json)
        return
    with TrainReporter(as_json=as_json, quiet=quiet) as reporter:
        result = run(data, out, settings, **where, on_event=reporter)
        reporter.finish(result)
    if result.left_out.failed:
        raise typer.Exit(1)


def _settings(texts: list[str] | None) -> dict[str, Any] | None:
    """NAME=VALUE, the value as in TOML; plain words need no quotes. UsageError without a "="."""
    import tomllib

    from rawisp.errors import UsageError

    if not texts:
        return None
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--isp-config {text!r} is not of the form NAME=VALUE")
        try:
            found[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name.strip()] = value.strip()
    return found
