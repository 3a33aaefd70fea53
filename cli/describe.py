"""`rawisp describe`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Literal

import typer

from rawisp.cli import completion


def describe(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CKPT",
            help="A file, or a shipped name.",
            autocompletion=completion.checkpoints,
        ),
    ],
    raw: Annotated[
        str | None,
        typer.Argument(metavar="[RAW]", help="A RAW file, to show the operators predicted for it."),
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
