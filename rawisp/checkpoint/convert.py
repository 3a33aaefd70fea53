"""From weights that published code has written to our own format, where they can be mapped."""

from __future__ import annotations

import itertools
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors.torch import save

from rawisp.checkpoint.converters import adaptive_isp, genisp, ta_isp
from rawisp.checkpoint.converters.matching import Converted
from rawisp.checkpoint.converters.weights import Weights, read_weights
from rawisp.checkpoint.load import load_isp
from rawisp.checkpoint.metadata import DEFAULT_FIT, CheckpointMetadata
from rawisp.checkpoint.native import save_native
from rawisp.color import COLORS, InputColor
from rawisp.errors import CheckpointError, UsageError, display_path
from rawisp.geometry import Fit
from rawisp.isp.base import Isp

Family = Literal["adaptive-isp", "genisp", "ta-isp"]
VALUE_KEY = "rawisp-value"  # in the metadata of a value network's safetensors file

# What the published training scaled its images down to.
_FITS: dict[str, Fit] = {"adaptive-isp": (512, 512), "genisp": DEFAULT_FIT, "ta-isp": (667, 400)}
_FITS_OF_LAYOUT: dict[str, Fit] = {"GenISP, jptolen": (256, 256)}
# What it fed. capsar is not here: it fed pictures that had been developed already.
_COLORS: dict[str, InputColor] = {
    adaptive_isp.AGENT: "camera",
    ta_isp.LAYOUT: "camera",
    "GenISP, paper": "xyz",
    "GenISP, revilla": "xyz-uninverted",
    "GenISP, jptolen": "xyz-uninverted",
}
_SETTINGS_OF = {
    "adaptive-isp": ("value",),
    "genisp": ("preset", "pools", "pre_gain", "channels"),
    "ta-isp": ("weight_range",),
}


@dataclass(frozen=True)
class Settings:
    """What the weights do not say of themselves; each belongs to one family.

    preset, pools, pre_gain, channels: genisp, see `converters.genisp.convert`. weight_range:
    ta-isp, the range of its exponents, which has to be given. value: adaptive-isp, a file that
    holds its value network, which may be the file of weights itself.
    """

    preset: genisp.Preset | None = None
    pre_gain: float | None = None
    channels: genisp.Channels | None = None
    weight_range: tuple[float, float] | None = None
    value: str | None = None
    pools: genisp.Pools | None = None


def convert_checkpoint(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    isp: Family,
    settings: Settings | None = None,
    *,
    input_color: InputColor | None = None,
    fit: Fit | Literal["published"] | None = "published",
) -> dict[str, Any]:
    """Writes the weights of published code as a checkpoint of rawisp, which `load_isp` takes.

    path: a safetensors file, or a state dict that torch.save wrote; nothing in it is executed.
    out: ends in .safetensors, and is replaced if it is there. isp: whose weights they are.
    input_color, fit: what the weights were trained on, by default what the published training
    used. A value network goes to a file beside `out` that ends in .value.safetensors. The
    checkpoint is loaded and tried on two sizes before it gets its name.

    Returns {"path", "isp", "sha256", "input_color", "found_in", "tensors_used", "tensors_ignored",
    "ignored", "value"}: sha256 of the written file, some names of what was left out, and the path
    of the value network or None. Raises CheckpointError, UsageError; then nothing is written.
    """
    source, target = os.fspath(path), os.fspath(out)
    chosen = settings or Settings()
    beside = str(Path(target).with_suffix(".value.safetensors"))
    _check(isp, chosen, target, input_color)
    if chosen.value is None:
        _check_paths([source], [target])
    else:
        _check_paths([source, chosen.value], [target, beside])
    weights = adaptive_isp.read_agent(source) if isp == "adaptive-isp" else read_weights(source)
    converted = _converted(weights, isp, chosen)
    metadata = CheckpointMetadata(
        name=Path(target).stem,
        isp=isp,
        input_color=input_color or _published_color(weights, converted),
        fit=_FITS_OF_LAYOUT.get(converted.layout, _FITS[isp]) if fit == "published" else fit,
        provenance=_provenance(weights, converted, chosen),
    )
    value = None
    if chosen.value is not None:
        of_value = adaptive_isp.read_value(chosen.value)
        value = (of_value, _finite(of_value, adaptive_isp.convert_value(of_value)))
    sha256 = _write(target, beside, converted, metadata, value)
    return {
        "path": target,
        "isp": isp,
        "sha256": sha256,
        "input_color": metadata.input_color,
        "found_in": weights.found_in,
        "tensors_used": len(converted.used),
        "tensors_ignored": len(converted.ignored),
        "ignored": list(converted.ignored[:5]),
        "value": beside if value else None,
    }


def _check(isp: str, settings: Settings, target: str, input_color: str | None) -> None:
    """UsageError for what cannot work, before anything is opened."""
    if isp not in get_args(Family):
        raise UsageError(
            f"--isp {isp!r}: only weights of {', '.join(get_args(Family))} can be converted"
        )
    for family, names in _SETTINGS_OF.items():
        for name in names:
            if family != isp and getattr(settings, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} is for {family}; leave it away for {isp}")
    for option, value, known in (
        ("--preset", settings.preset, get_args(genisp.Preset)),
        ("--channels", settings.channels, get_args(genisp.Channels)),
        ("--input-color", input_color, COLORS),
    ):
        if value is not None and value not in known:
            raise UsageError(f"{option} {value!r} is none of {', '.join(known)}")
    gain = settings.pre_gain
    if gain is not None and not (math.isfinite(gain) and gain > 0.0):
        raise UsageError(f"--pre-gain {gain} is not a number above 0")
    if Path(target).suffix.lower() != ".safetensors":
        raise UsageError(f"{display_path(target)}: name it .safetensors")


def _check_paths(sources: list[str], targets: list[str]) -> None:
    """UsageError where a target is a folder, or a source would be replaced by it."""
    for target in targets:
        if os.path.isdir(target):
            raise UsageError(f"{display_path(target)}: is a folder; give --out another name")
    for source, target in itertools.product(sources, targets):
        there = os.path.exists(target) and os.path.exists(source)
        if there and os.path.samefile(source, target):
            raise UsageError(
                f"{display_path(target)}: would replace the weights that are read; give --out "
                "another name"
            )


def _converted(weights: Weights, isp: str, settings: Settings) -> Converted:
    """The ISP with the weights. CheckpointError where they do not fit or are no numbers."""
    if isp == "adaptive-isp":
        converted = adaptive_isp.convert_agent(weights)
    elif isp == "ta-isp":
        converted = ta_isp.convert(weights, settings.weight_range)
    else:
        converted = genisp.convert(
            weights,
            settings.preset,
            settings.pre_gain,
            settings.channels or "rgb",
            settings.pools,
        )
    return _finite(weights, converted)


def _finite(weights: Weights, converted: Converted) -> Converted:
    """The same. CheckpointError naming the first tensor that is not all floating-point numbers."""
    for name in sorted(converted.used):
        tensor = weights.tensors[name]
        if tensor.dim() > 0 and not tensor.is_floating_point():  # 0: BatchNorm's count of batches
            raise CheckpointError(
                f"{weights.shown}: {name} is {tensor.dtype}; take the weights before quantisation"
            )
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{weights.shown}: {name} holds NaN or infinite values; use an earlier checkpoint"
            )
    return converted


def _published_color(weights: Weights, converted: Converted) -> InputColor:
    color = _COLORS.get(converted.layout)
    if color is None:
        raise CheckpointError(
            f"{weights.shown}: the published training of {converted.layout} fed developed "
            "pictures, not linear RAW; say what these weights were trained on with --input-color "
            f"{'|'.join(COLORS)}"
        )
    return color


def _provenance(weights: Weights, converted: Converted, settings: Settings) -> dict[str, Any]:
    given = {name: value for name, value in asdict(settings).items() if value is not None}
    given.pop("value", None)  # a path of somebody's machine
    return {
        "source": Path(weights.path).name,
        "source_sha256": weights.sha256,
        "found_in": weights.found_in,
        "layout": converted.layout,
        "settings": given,
        "tensors_used": len(converted.used),
        "tensors_ignored": len(converted.ignored),
    }


def _write(
    target: str,
    beside: str,
    converted: Converted,
    metadata: CheckpointMetadata,
    value: tuple[Weights, Converted] | None,
) -> str:
    """Writes all files under temporary names, tries the ISP, renames. The ISP's sha256."""
    temporary = {name: f"{name}.rawisp-tmp" for name in (target, beside)}
    try:
        assert isinstance(converted.module, Isp)
        save_native(converted.module, temporary[target], metadata)
        if value is not None:
            text = json.dumps(_provenance(*value, Settings()), sort_keys=True)
            data = save(value[1].module.state_dict(), metadata={VALUE_KEY: text})
            Path(temporary[beside]).write_bytes(data)
        sha256 = _tried(temporary[target], str(metadata.provenance["source"]))
        if value is not None:
            os.replace(temporary[beside], beside)
        os.replace(temporary[target], target)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{display_path(target)}: cannot be written ({reason})") from None
    finally:
        for name in temporary.values():
            Path(name).unlink(missing_ok=True)
    return sha256


def _tried(written: str, source: str) -> str:
    try:
        return load_isp(written, device="cpu").sha256
    except CheckpointError as error:
        reason = str(error).removeprefix(f"{display_path(written)}: ")
        raise CheckpointError(
            f"{display_path(source)}: its weights make no usable ISP, it {reason}"
        ) from None
