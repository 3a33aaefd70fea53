"""What a checkpoint says of itself: one JSON object, format version 1."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from rawisp.color import COLORS, InputColor
from rawisp.errors import CheckpointError, display_path
from rawisp.geometry import Fit

FORMAT_VERSION = 1
# The only normalisation so far: (sample - black) / (white - black), unclipped; rawisp.packing.
BLACK_WHITE = "black-white"
DEFAULT_FIT: Fit = (1333, 800)


@dataclass(frozen=True)
class CheckpointMetadata:
    """name: what to call it. isp, config: how it was built. input_color: what it eats.

    fit: the (long, short) limits that images were scaled down to in training, None for none.
    provenance: whatever its maker recorded (data, detector, commit, metrics).
    """

    name: str
    isp: str
    input_color: InputColor
    normalisation: str = BLACK_WHITE
    fit: Fit | None = DEFAULT_FIT
    config: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The JSON text stored in a checkpoint; keys sorted, so equal metadata is equal bytes."""
        return json.dumps(
            {"format_version": FORMAT_VERSION, **asdict(self)}, sort_keys=True, indent=1
        )

    @staticmethod
    def from_json(text: str, path: str) -> CheckpointMetadata:
        """The inverse of `to_json`. CheckpointError naming `path` and what is wrong."""
        try:
            return _parsed(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(
                f"{display_path(path)}: its rawisp metadata is not usable ({error}); "
                "export the checkpoint again"
            ) from None


def _parsed(values: dict[str, Any]) -> CheckpointMetadata:
    version = values["format_version"]
    if version != FORMAT_VERSION:
        raise ValueError(f"format version {version}, this rawisp reads {FORMAT_VERSION}")
    if values["input_color"] not in COLORS:
        raise ValueError(f"input_color {values['input_color']!r}")
    if values["normalisation"] != BLACK_WHITE:
        raise ValueError(f"normalisation {values['normalisation']!r}")
    fit = values["fit"]
    if fit is not None:
        long, short = (int(v) for v in fit)
        if not 0 < short <= long:
            raise ValueError(f"fit {fit!r}")
        fit = (long, short)
    return CheckpointMetadata(
        name=str(values["name"]),
        isp=str(values["isp"]),
        input_color=values["input_color"],
        fit=fit,
        config=dict(values["config"]),
        provenance=dict(values["provenance"]),
    )
