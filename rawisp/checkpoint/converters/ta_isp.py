"""TA-ISP: sixteen tensors, on their own or inside a detector's checkpoint.

The released code's names are those below, behind "backbone.TAISP." or "TAISP." in checkpoints of
whole detectors. Under other names the eight layers are told apart by their shapes. The range of the
exponents is a constant of the program, another one for each experiment, and in no file.
"""

from __future__ import annotations

import math

from torch import Tensor

from rawisp.checkpoint.converters.matching import Converted, by_name, layers_of, some, tensors_of
from rawisp.checkpoint.converters.weights import Weights
from rawisp.errors import CheckpointError, UsageError
from rawisp.isp.ta_isp import TaIsp, TaIspConfig

LAYOUT = "TA-ISP"
# ours: theirs
_LAYERS = {
    "gain_mlp.0": "gain_mlp.0",
    "gain_mlp.2": "gain_mlp.2",
    "attention3": "attn.branch_convs.0",
    "attention5": "attn.branch_convs.1",
    "gate": "attn.gate_proj",
    "mask_head": "mask_head",
    "weight_mlp.0": "weight_mlp.0",
    "weight_mlp.2": "weight_mlp.2",
}
_RANGES = "2,4 for LOD, 1,4 or 2,4 for PASCAL RAW, 1,3 for ADE20K-RAW, 5,9 or 3,6 for ROD"


def convert(weights: Weights, weight_range: tuple[float, float] | None) -> Converted:
    """TA-ISP with 16 masks and the given range of exponents. CheckpointError if it does not fit."""
    if weight_range is None:
        raise CheckpointError(
            f"{weights.shown}: does not hold the range of TA-ISP's exponents, and would render "
            f"wrongly under another; give its training's as --weight-range LOW,HIGH ({_RANGES})"
        )
    low, high = weight_range
    if not 0.0 < low <= high < math.inf:
        raise UsageError(f"--weight-range {low:g},{high:g} is not a range of numbers above 0")
    isp = TaIsp(TaIspConfig(w_min=low, w_max=high))
    names = _published_names(weights, isp) or _names_by_shape(weights, isp)
    own = isp.state_dict()
    # Their gate is a 1x1 convolution, ours the linear layer that it amounts to.
    isp.load_state_dict({n: weights.tensors[names[n]].reshape(own[n].shape) for n in own})
    used = frozenset(names.values())
    ignored = tuple(name for name in weights.tensors if name not in used)
    return Converted(isp, LAYOUT, used, ignored)


def _shapes(isp: TaIsp) -> dict[str, tuple[int, ...]]:
    """By the names of our tensors, the shapes that theirs have."""
    shapes = {name: tuple(tensor.shape) for name, tensor in isp.state_dict().items()}
    shapes["gate.weight"] += (1, 1)
    return shapes


def _published_names(weights: Weights, isp: TaIsp) -> dict[str, str] | None:
    """Ours to theirs; None where the file does not have the published names."""
    tail = "attn.gate_proj.weight"
    if not any(name == tail or name.endswith(f".{tail}") for name in weights.tensors):
        return None
    _refuse_four_channels(weights)
    shapes = _shapes(isp)
    prefix, _ = by_name(weights, {_theirs(ours): shapes[ours] for ours in shapes}, LAYOUT)
    return {ours: prefix + _theirs(ours) for ours in shapes}


def _theirs(ours: str) -> str:
    layer, _, leaf = ours.rpartition(".")
    return f"{_LAYERS[layer]}.{leaf}"


def _refuse_four_channels(weights: Weights) -> None:
    for name, tensor in weights.tensors.items():
        if name.endswith("mask_head.weight") and tuple(tensor.shape[1:]) == (4, 3, 3):
            raise CheckpointError(
                f"{weights.shown}: is the TA-ISP of four channels (R, G1, G2, B), and checkpoints "
                "here take three; convert one that was trained on R, G, B"
            )


def _names_by_shape(weights: Weights, isp: TaIsp) -> dict[str, str]:
    """Ours to theirs, each layer the only one of its shape. CheckpointError if it is not."""
    layers = layers_of(weights)
    shapes = _shapes(isp)
    names: dict[str, str] = {}
    for ours in _LAYERS:
        shape = shapes[f"{ours}.weight"]
        found = [layer for layer in layers if _same(layer.weight, shape)]
        if len(found) != 1:
            size = "x".join(map(str, shape))
            count = f"{len(found)} layers" if found else "no layer"
            which = f" ({some(layer.name for layer in found)})" if found else ""
            raise CheckpointError(
                f"{weights.shown}: has {count} of {size} with a bias{which}, where TA-ISP has one, "
                f"{_LAYERS[ours]}; it has {len(weights.tensors)} tensors ({some(weights.tensors)})"
            )
        names[f"{ours}.weight"], names[f"{ours}.bias"] = tensors_of(found[0])
    return names


def _same(weight: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether it has that shape, trailing ones aside."""
    own = tuple(weight.shape)
    return own == shape or (*own, 1, 1) == shape
