"""`rawisp convert`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Literal

import typer

from rawisp.errors import UsageError, display_path


def convert(
    weights: Annotated[
        str,
        typer.Argument(metavar="WEIGHTS", help="A state dict (.pt, .pth) or safetensors file."),
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="Ends in .safetensors; is replaced.")
    ],
    isp: Annotated[
        Literal["adaptive-isp", "genisp", "ta-isp"],
        typer.Option("--isp", help="Whose weights they are."),
    ],
    preset: Annotated[
        Literal["paper", "capsar", "jptolen", "revilla"] | None,
        typer.Option(help="genisp: which one. [default: what the layout of WEIGHTS tells]"),
    ] = None,
    pools: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="genisp: kernel and stride of the three maximum pools, such as 4,3,2, which no "
            "file holds. [default: the preset's]",
        ),
    ] = None,
    weight_range: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="ta-isp: the range of exponents in training, which no file holds; it must be "
            "given.",
        ),
    ] = None,
    value: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="adaptive-isp: also convert the value network in FILE, which may be WEIGHTS, to "
            "a file beside --out that ends in .value.safetensors.",
        ),
    ] = None,
    channels: Annotated[
        Literal["rgb", "bgr"] | None,
        typer.Option(help="genisp: the order of the input's channels in training. [default: rgb]"),
    ] = None,
    pre_gain: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            metavar="FACTOR",
            help="genisp: white in training, such as 255. [default: 255 for revilla, else 1]",
        ),
    ] = None,
    input_color: Annotated[
        Literal["xyz", "camera", "xyz-uninverted"] | None,
        typer.Option(help="What they were trained on. [default: what the published training used]"),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="1333x800|none",
            help="Limits of the long and the short side of images in training. "
            "[default: those of the published training]",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Turn weights of published code into a checkpoint of rawisp; nothing in them is executed.

    Example: `rawisp convert lod.pth -o ta.safetensors --isp ta-isp --weight-range 2,4`
    """
    from rawisp.checkpoint.convert import Settings, convert_checkpoint
    from rawisp.geometry import parse_fit

    result = convert_checkpoint(
        weights,
        out,
        isp,
        Settings(preset, pre_gain, channels, _range(weight_range), value, _pools(pools)),
        input_color=input_color,
        fit="published" if fit is None else parse_fit(fit),
    )
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
        return
    sys.stderr.write(
        f"{display_path(result['path'])}: {result['isp']} for {result['input_color']} input, "
        f"{result['tensors_used']} tensors used, {result['tensors_ignored']} ignored\n"
    )
    if result["value"]:
        sys.stderr.write(f"{display_path(result['value'])}: its value network\n")


def _pools(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    try:
        first, second, third = (int(v) for v in text.split(","))
    except ValueError:
        raise UsageError(
            f"--pools {text!r} is not three whole numbers; write it like 4,3,2"
        ) from None
    return first, second, third


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(v) for v in text.split(","))
    except ValueError:
        raise UsageError(f"--weight-range {text!r} is not two numbers; write it like 2,4") from None
    return low, high
