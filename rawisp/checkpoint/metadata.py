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
_AS_FIT: Fit = (0, 0)


@dataclass(frozen=True)
class CheckpointMetadata:
    """name: what to call it. isp, config: how it was built. input_color: what it eats.

    fit: the (long, short) limits that images are scaled down to before this ISP unless the user
    says otherwise, None for none. training_fit: the limits that it was trained at, which are those
    of `fit` unless said; a checkpoint can be meant for another size than it was trained at.
    provenance: whatever its maker recorded (data, detector, commit, metrics).
    """

    name: str
    isp: str
    input_color: InputColor
    normalisation: str = BLACK_WHITE
    fit: Fit | None = DEFAULT_FIT
    config: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    training_fit: Fit | None = _AS_FIT

    def __post_init__(self) -> None:
        if self.training_fit == _AS_FIT:
            object.__setattr__(self, "training_fit", self.fit)

    def to_json(self) -> str:
        """The JSON text stored in a checkpoint; keys sorted, so equal metadata is equal bytes."""
        values = asdict(self)
        if self.training_fit == self.fit:
            del values["training_fit"]
        return json.dumps({"format_version": FORMAT_VERSION, **values}, sort_keys=True, indent=1)

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
    fit = _fit("fit", values["fit"])
    provenance = dict(values["provenance"])
    # Before there was a key of its own, a checkpoint for another size than it was trained at kept
    # the latter among its provenance.
    earlier = provenance.get("trained_at_fit", values["fit"])
    return CheckpointMetadata(
        name=str(values["name"]),
        isp=str(values["isp"]),
        input_color=values["input_color"],
        fit=fit,
        config=dict(values["config"]),
        provenance=provenance,
        training_fit=_fit("training_fit", values.get("training_fit", earlier)),
    )


def _fit(name: str, value: Any) -> Fit | None:
    if value is None:
        return None
    long, short = (int(v) for v in value)
    if not 0 < short <= long:
        raise ValueError(f"{name} {value!r}")
    return long, short
