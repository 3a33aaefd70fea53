"""`rawisp export`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Literal

import typer

from rawisp.errors import display_path


def export(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CKPT", help="One of rawisp's safetensors files.")
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="Ends in .ts, .pt2 or .onnx.")
    ],
    to: Annotated[
        Literal["torchscript", "pt2", "onnx"] | None,
        typer.Option(help="The format. [default: what the suffix of FILE says]"),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(metavar="N", help="onnx: version of its operators; TensorRT 8 wants 17."),
    ] = None,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="onnx: any number of images, instead of one.")
    ] = False,
    half: Annotated[
        bool, typer.Option("--half", help="onnx: float16 inside; input and output stay float32.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Write a checkpoint for other programs; it is run against the original before it appears.

    Example: `rawisp export isp.safetensors -o isp.ts`
    """
    from rawisp.checkpoint.export import export_checkpoint

    result = export_checkpoint(
        checkpoint, out, to, opset=opset, dynamic_batch=dynamic_batch, half=half
    )
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
        return
    sys.stderr.write(
        f"{display_path(result['path'])}: {result['to']}, differs from the original by at most "
        f"{result['largest_difference']:.1g} on three sizes\n"
    )
