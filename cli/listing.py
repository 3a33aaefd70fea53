"""`rawisp list`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Literal

import typer


def list_(
    what: Annotated[
        Literal["isps", "checkpoints"], typer.Argument(metavar="isps|checkpoints")
    ] = "isps",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List the ISPs that can be created and trained, or the checkpoints that ship with rawisp.

    Example: `rawisp list isps`
    """
    if what == "isps":
        from rawisp.isp.registry import described_isps

        rows = described_isps()
    else:
        from rawisp.checkpoint.load import shipped_checkpoints

        rows = shipped_checkpoints()
    for row in rows:
        if as_json:
            sys.stdout.write(json.dumps(row) + "\n")
        else:
            sys.stdout.write(f"{row['name']:<14} {row['what']}\n")
