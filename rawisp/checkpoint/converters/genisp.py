"""GenISP, of which the authors published nothing: three reproductions, "revilla" among them.

capsar's tensors are called conv_wb.1.{0,3,6} and conv_wb.2, conv_cc the same, shallow_conv_net.
{0,3,6}, and image_to_parameter.{0,3,6} for a third trunk that nothing uses. revilla keeps three
modules, whose names nobody has to know: in any file, networks are told apart by the shapes of their
layers and by the modules that these lie in. Detectors in the same file are left out.

jptolen's layers have the shapes of capsar's, but its pools are 4, 3, 2. Pools have no weights, so
no file tells them: only capsar's names, all of them, are taken for capsar's pools; otherwise the
preset has to be said.

revilla and capsar multiply row vectors by the predicted matrix. What they call M is our C
transposed, so the nine outputs of the last layer change places, and the picture stays the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from rawisp.checkpoint.converters.matching import (
    Converted,
    Layer,
    closeness,
    closest,
    layers_of,
    parent_of,
    some,
    tensors_of,
)
from rawisp.checkpoint.converters.weights import Weights
from rawisp.errors import CheckpointError, UsageError
from rawisp.isp.genisp import PRESETS, GenIsp, GenIspConfig

Preset = Literal["paper", "capsar", "jptolen", "revilla"]
Pools = tuple[int, int, int]
Channels = Literal["rgb", "bgr"]
_TRUNK: tuple[tuple[int | None, ...], ...] = ((16, 3, 7, 7), (32, 16, 5, 5), (None, 32, 3, 3))
# capsar's own names, from which its pools are known.
_CAPSARS_NAMES = (
    *(f"conv_wb.1.{n}" for n in (0, 3, 6)),
    "conv_wb.2",
    *(f"conv_cc.1.{n}" for n in (0, 3, 6)),
    "conv_cc.2",
    *(f"shallow_conv_net.{n}" for n in (0, 3, 6)),
)
# Presets whose pixels are row vectors.
_ROW_VECTORS = ("revilla", "capsar")
# revilla's training fed its networks 8-bit numbers as they are.
_PRE_GAINS = {"revilla": 255.0}


@dataclass(frozen=True)
class _Predictor:
    """ConvWB or ConvCC: three convolutions, perhaps a hidden linear layer, and the last one."""

    trunk: tuple[Layer, Layer, Layer]
    hidden: Layer | None
    last: Layer

    @property
    def layers(self) -> list[Layer]:
        return [*self.trunk, *([self.hidden] if self.hidden else []), self.last]

    @property
    def width(self) -> int:
        """Channels of the third convolution."""
        return self.trunk[2].shape[0]

    @property
    def cells(self) -> int:
        """Cells a side of the average pool in front of the linear layers; 0 where none fits."""
        features = (self.hidden or self.last).shape[1]
        side = math.isqrt(features // self.width)
        return side if self.width * side * side == features else 0


def convert(
    weights: Weights,
    preset: Preset | None = None,
    pre_gain: float | None = None,
    channels: Channels = "rgb",
    pools: Pools | None = None,
) -> Converted:
    """GenISP with the weights of a reproduction.

    preset: what the shapes do not tell: padding, pools, resizing; by default what the layout tells.
    pools: kernel and stride of the three maximum pools, where they are not the preset's.
    pre_gain: how many times 0..1 the network was fed in training, by default 255 for revilla, else
    1. channels: the order in which it was fed them; outputs stay as they are. Raises
    CheckpointError.
    """
    layers = layers_of(weights)
    balance = _predictor(weights, layers, 3, "ConvWB")
    color = _predictor(weights, layers, 9, "ConvCC")
    if {layer.name for layer in balance.layers} & {layer.name for layer in color.layers}:
        raise _ambiguous(weights, "ConvWB and ConvCC", [*balance.layers, *color.layers])
    shallow, norms = _shallow(weights, layers)
    named = preset or _preset_of(weights, balance, color, shallow)
    config = _config(weights, named, balance, color, bool(norms), pre_gain, pools)
    state = _state(balance, color, shallow, norms)
    if named in _ROW_VECTORS:
        _transpose(state)
    if channels == "bgr":
        _reverse_channels(state)
    isp = GenIsp(config)
    isp.load_state_dict(state)
    used = _used(weights, [balance.layers, color.layers, [*shallow, *norms]])
    ignored = tuple(name for name in weights.tensors if name not in used)
    return Converted(isp, f"GenISP, {named}", used, ignored)


def _predictor(weights: Weights, layers: list[Layer], outputs: int, what: str) -> _Predictor:
    """The network of so many outputs. CheckpointError when there is none, or more than one."""
    heads = [one for one in layers if len(one.shape) == 2 and one.shape[0] == outputs]
    found = [one for last in heads if (one := _with_trunk(last, layers)) and one.cells]
    # A detector may have a linear layer of these shapes, but not in one module with such a trunk.
    most = max((closeness(one.last, one.trunk[0]) for one in found), default=0)
    close = [one for one in found if closeness(one.last, one.trunk[0]) == most]
    if len(close) == 1:
        return close[0]
    firsts = _shaped(layers, _TRUNK[0])
    if close or (heads and len(firsts) > 1):
        raise _ambiguous(weights, what, [*heads, *firsts])
    raise _absent(
        weights, what, f"16x3x7x7, 32x16x5x5 and Nx32x3x3, and a linear layer to {outputs}"
    )


def _with_trunk(last: Layer, layers: list[Layer]) -> _Predictor | None:
    """The network that ends in `last`; None where no three convolutions certainly belong to it."""
    options = [closest(last, _shaped(layers, shape)) for shape in _TRUNK]
    if not all(options) or len({closeness(last, one[0]) for one in options}) > 1:
        return None
    trunk = [one[0] for one in options]
    if any(len(one) > 1 for one in options):
        # Several in one module: it registers layers, and so writes them, as they are applied.
        before = [[layer for layer in one if layer.place < last.place] for one in options]
        if not all(before):
            return None
        trunk = [one[-1] for one in before]
        since = [layer for one in before for layer in one if layer.place >= trunk[0].place]
        if since != trunk or not trunk[0].place < trunk[1].place < trunk[2].place:
            return None
    first, second, third = trunk
    if last.shape[1] % third.shape[0] == 0:
        return _Predictor((first, second, third), None, last)
    hidden = closest(last, _shaped(layers, (last.shape[1], None)))
    return _Predictor((first, second, third), hidden[0], last) if len(hidden) == 1 else None


def _shallow(weights: Weights, layers: list[Layer]) -> tuple[list[Layer], list[Layer]]:
    """The three convolutions of the shallow network, and its two normalisations if they learn."""
    seconds = _shaped(layers, (64, 16, 3, 3))
    found = []
    for second in seconds:
        options = [closest(second, _shaped(layers, s)) for s in ((16, 3, 3, 3), (3, 64, 1, 1))]
        if all(options) and len({closeness(second, one[0]) for one in options}) == 1:
            found.append([*options[0], second, *options[1]])
    if not found:
        raise _absent(weights, "shallow network", "16x3x3x3, 64x16x3x3 and 3x64x1x1")
    most = max(closeness(one[0], one[-1]) for one in found)
    close = [one for one in found if closeness(one[0], one[-1]) == most]
    if len(close) > 1 or len(close[0]) > 3:
        raise _ambiguous(weights, "the shallow network", [one for each in close for one in each])
    convolutions = close[0]
    parent = parent_of(convolutions)
    beside = [layer for layer in layers if layer.name.rpartition(".")[0] == parent.rstrip(".")]
    norms = [layer for width in (16, 64) for layer in _shaped(beside, (width,))]
    if norms and [layer.shape for layer in norms] != [(16,), (64,)]:
        raise _ambiguous(weights, "the shallow network's normalisations", norms)
    return convolutions, norms


def _shaped(layers: Iterable[Layer], shape: tuple[int | None, ...]) -> list[Layer]:
    """The layers of that shape; None stands for any number."""
    return [
        layer
        for layer in layers
        if len(layer.shape) == len(shape)
        and all(wanted in (None, own) for own, wanted in zip(layer.shape, shape, strict=True))
    ]


def _absent(weights: Weights, what: str, convolutions: str) -> CheckpointError:
    return CheckpointError(
        f"{weights.shown}: has no {what} (convolutions {convolutions}, each with a bias) among its "
        f"{len(weights.tensors)} tensors ({some(weights.tensors)})"
    )


def _ambiguous(weights: Weights, what: str, layers: Iterable[Layer]) -> CheckpointError:
    names = some(dict.fromkeys(layer.name for layer in layers), 8)
    return CheckpointError(
        f"{weights.shown}: it is not clear which layers are {what}: {names}; save only the "
        "networks of GenISP, each in a module of its own"
    )


def _preset_of(
    weights: Weights, balance: _Predictor, color: _Predictor, shallow: list[Layer]
) -> Preset:
    """The reproduction whose layout it is: revilla's shapes or capsar's names."""
    if color.width == PRESETS["revilla"]["third_width"] and color.hidden is not None:
        return "revilla"
    names = [layer.name for layer in (*balance.layers, *color.layers, *shallow)]
    if len(names) == len(_CAPSARS_NAMES) and all(
        f".{name}".endswith(f".{known}") for name, known in zip(names, _CAPSARS_NAMES, strict=True)
    ):
        return "capsar"
    raise CheckpointError(
        f"{weights.shown}: its shapes do not tell padding, pools and resizing; say which GenISP it "
        f"is with --preset {'|'.join(get_args(Preset))}"
    )


def _config(
    weights: Weights,
    preset: Preset,
    balance: _Predictor,
    color: _Predictor,
    affine: bool,
    pre_gain: float | None,
    pools: Pools | None,
) -> GenIspConfig:
    """The preset, with the sizes that the file has. UsageError for pools that cannot be."""
    if balance.width != color.width or balance.hidden is not None:
        raise CheckpointError(
            f"{weights.shown}: its ConvWB and ConvCC are of a kind that genisp does not have "
            f"({some(layer.name for layer in balance.layers + color.layers)})"
        )
    try:
        return GenIspConfig(
            preset=preset,
            pools=pools,
            third_width=color.width,
            average_pool_wb=balance.cells,
            average_pool_cc=color.cells,
            hidden_cc=color.hidden.shape[0] if color.hidden else 0,
            norm_affine=affine,
            pre_gain=_PRE_GAINS.get(preset, 1.0) if pre_gain is None else pre_gain,
            pre_gain_percentile=0.0,  # ours; no reproduction has it
        )
    except ValueError as error:
        raise UsageError(f"--pools: {error}") from None


def _used(weights: Weights, groups: list[list[Layer]]) -> frozenset[str]:
    """All tensors of the networks. CheckpointError when a module of one has others too."""
    used = frozenset(name for group in groups for one in group for name in tensors_of(one))
    for group in groups:
        parent = parent_of(group)
        others = [one.name for other in groups if other is not group for one in other]
        if any(name.startswith(parent) for name in others):
            continue  # not a module of its own, so that it may hold a detector as well
        unknown = [n for n in weights.tensors if n.startswith(parent) and n not in used]
        if unknown:
            raise CheckpointError(
                f"{weights.shown}: is another network, as genisp does not know {len(unknown)} of "
                f"the tensors in {parent.rstrip('.')} ({some(unknown)})"
            )
    return used


def _state(
    balance: _Predictor, color: _Predictor, shallow: list[Layer], norms: list[Layer]
) -> dict[str, Tensor]:
    """By the names of our tensors."""
    named: dict[str, Layer] = {}
    for part, predictor in (("conv_wb", balance), ("conv_cc", color)):
        for n, layer in enumerate(predictor.trunk):
            named[f"{part}.trunk.{3 * n}"] = layer
    named["conv_wb.head"] = balance.last
    if color.hidden is None:
        named["conv_cc.head"] = color.last
    else:
        named |= {"conv_cc.head.0": color.hidden, "conv_cc.head.1": color.last}
    named |= {f"conv{n + 1}": layer for n, layer in enumerate(shallow)}
    named |= {f"norm{n + 1}": layer for n, layer in enumerate(norms)}
    return {
        f"{name}.{leaf}": tensor
        for name, layer in named.items()
        for leaf, tensor in (("weight", layer.weight), ("bias", layer.bias))
    }


def _last_of_color(state: dict[str, Tensor]) -> str:
    return "conv_cc.head.1" if "conv_cc.head.1.weight" in state else "conv_cc.head"


def _transpose(state: dict[str, Tensor]) -> None:
    """x M of row vectors to C x of columns: the outputs of C are those of M transposed."""
    order = torch.arange(9).view(3, 3).T.flatten()
    last = _last_of_color(state)
    for leaf in ("weight", "bias"):
        state[f"{last}.{leaf}"] = state[f"{last}.{leaf}"][order]


def _reverse_channels(state: dict[str, Tensor]) -> None:
    """The same network for red, green, blue, where it was trained on blue, green, red.

    Reversing rows and columns of a 3x3 matrix reverses its nine numbers.
    """
    for name in ("conv_wb.trunk.0.weight", "conv_cc.trunk.0.weight", "conv1.weight"):
        state[name] = state[name].flip(1)
    for last in ("conv_wb.head", _last_of_color(state)):
        for leaf in ("weight", "bias"):
            state[f"{last}.{leaf}"] = state[f"{last}.{leaf}"].flip(0)
