"""`rawisp describe`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Literal

import typer

from rawisp.cli import completion


def describe(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="CKPT",
            help="A file, or a shipped name.",
            autocompletion=completion.checkpoints,
        ),
    ] = None,
    raw: Annotated[
        str | None,
        typer.Argument(metavar="[RAW]", help="A RAW file, to show the operators predicted for it."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Instead of a checkpoint, a recipe of `rawisp train`: each setting, whether it "
            "follows its source, and what the source says.",
        ),
    ] = None,
    input_color: Annotated[
        Literal["xyz", "camera", "xyz-uninverted"] | None,
        typer.Option(help="What a checkpoint that does not say was trained on."),
    ] = None,
    safe: Annotated[bool, typer.Option("--safe", help="Only files that are safe to open.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a checkpoint is: metadata, parameters, multiply-accumulates, predicted operators.

    Example: `rawisp describe classic DSC01316.ARW`
    """
    if recipe is not None:
        _recipe(recipe, checkpoint, as_json=as_json)
        return
    if checkpoint is None:
        from rawisp.errors import UsageError

        raise UsageError("name a checkpoint, or a recipe with --recipe")
    from rawisp.checkpoint import describe_checkpoint, load_isp
    from rawisp.checkpoint.describe import described, predicted_for_raw

    archive, _ = describe_checkpoint(checkpoint, input_color=input_color, safe=safe)
    notice = archive.trust_notice()
    if notice is not None:
        sys.stderr.write(f"{notice}\n")
    isp = load_isp(checkpoint, device="cpu", input_color=input_color, safe=safe)
    result = described(isp)
    if raw is not None:
        result["predicted"] = predicted_for_raw(isp, raw)
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
        return
    for name, value in result.items():
        sys.stdout.write(f"{name:<18} {_text(value)}\n")


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value)


def _recipe(name: str, checkpoint: str | None, *, as_json: bool) -> None:
    from rawisp.errors import UsageError
    from rawisp.train.recipes import describe_recipe

    if checkpoint is not None:
        raise UsageError("describe shows a checkpoint or a --recipe, not both")
    recipe = describe_recipe(name)
    if as_json:
        sys.stdout.write(json.dumps(recipe.record()) + "\n")
        return
    sys.stdout.write(f"{recipe.name}: {recipe.what}\n")
    values = [_text(one.value) if one.value is not None else "none" for one in recipe.settings]
    width = min(40, max(len(value) for value in values))
    for one, value in zip(recipe.settings, values, strict=True):
        mark = " " if one.follows else "*"
        sys.stdout.write(f"{mark} {one.name:<18} {value:<{width}}  {one.source}\n")
    sys.stdout.write("* differs from the source: what stands behind it is what the source does\n")
    for text in recipe.left_out:
        sys.stdout.write(f"- {text}\n")
