"""Which tensor of a file is which: by name behind any prefix, or by shape and neighbourhood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from rawisp.checkpoint.converters.weights import Weights
from rawisp.errors import CheckpointError, printable

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Converted:
    """module: with the weights. layout: whose. used, ignored: names of the file's tensors."""

    module: nn.Module
    layout: str
    used: frozenset[str]
    ignored: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight with its bias. name: without ".weight". place: among the file's tensors."""

    name: str
    place: int
    weight: Tensor
    bias: Tensor

    @property
    def shape(self) -> Shape:
        """Of the weight."""
        return tuple(self.weight.shape)


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first few of `names`, for a message."""
    listed = [printable(name) for name in names]
    return ", ".join(listed[:limit]) + (", ..." if len(listed) > limit else "")


def by_name(weights: Weights, wanted: Mapping[str, Shape], what: str) -> tuple[str, list[str]]:
    """The prefix behind which all `wanted` names stand, such as "module.", and what is ignored.

    Names outside the prefix, such as a detector's, are ignored. CheckpointError when the names
    stand behind several prefixes, when some are missing or have other shapes, or when there are
    unknown ones behind the same prefix, as the file is then another network's.
    """
    prefix = _prefix(weights, wanted, what)
    inside = {n.removeprefix(prefix): t for n, t in weights.tensors.items() if n.startswith(prefix)}
    missing = [name for name in wanted if name not in inside]
    unknown = [name for name in inside if name not in wanted]
    misshapen = [
        f"{name} is {_size(inside[name].shape)}, not {_size(shape)}"
        for name, shape in wanted.items()
        if name in inside and tuple(inside[name].shape) != shape
    ]
    complaints = []
    if missing:
        complaints.append(f"{len(missing)} of its {len(wanted)} tensors missing ({some(missing)})")
    if unknown:
        complaints.append(f"{len(unknown)} unknown ({some(unknown)})")
    if misshapen:
        complaints.append(f"{len(misshapen)} of another shape ({some(misshapen)})")
    if complaints:
        raise CheckpointError(f"{weights.shown}: does not fit {what}: {', '.join(complaints)}")
    return prefix, [name for name in weights.tensors if not name.startswith(prefix)]


def _prefix(weights: Weights, wanted: Mapping[str, Shape], what: str) -> str:
    found: Counter[str] = Counter()
    for name in weights.tensors:
        parts = name.split(".")
        for n in range(len(parts)):
            if ".".join(parts[n:]) in wanted:
                found[".".join(parts[:n]) + ("." if n else "")] += 1
    if not found:
        raise CheckpointError(
            f"{weights.shown}: none of its {len(weights.tensors)} tensors "
            f"({some(weights.tensors)}) belongs to {what}"
        )
    best = [prefix for prefix, count in found.items() if count == max(found.values())]
    if len(best) > 1:
        behind = some(prefix or "no prefix" for prefix in best)
        raise CheckpointError(
            f"{weights.shown}: holds {what} more than once, behind {behind}; save one of them alone"
        )
    return best[0]


def layers_of(weights: Weights) -> list[Layer]:
    """All weights that have a bias beside them."""
    tensors = weights.tensors
    return [
        Layer(name.removesuffix("weight").removesuffix("."), place, tensor, tensors[bias])
        for place, (name, tensor) in enumerate(tensors.items())
        if name.rpartition(".")[2] == "weight"
        and (bias := name.removesuffix("weight") + "bias") in tensors
    ]


def closeness(a: Layer, b: Layer) -> int:
    """Larger for layers of the same module, and the deeper the module that both lie in."""
    one, other = (layer.name.split(".")[:-1] for layer in (a, b))
    common = 0
    while common < min(len(one), len(other)) and one[common] == other[common]:
        common += 1
    return 2 * common + int(one == other)


def closest(head: Layer, candidates: Iterable[Layer]) -> list[Layer]:
    """Those that are closest to `head`; several where names do not tell."""
    listed = list(candidates)
    most = max((closeness(head, one) for one in listed), default=0)
    return [one for one in listed if closeness(head, one) == most]


def parent_of(layers: Iterable[Layer]) -> str:
    """The module that all of them lie in, with its dot; "" for the file itself."""
    paths = [layer.name.split(".")[:-1] for layer in layers]
    common: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return "".join(f"{part}." for part in common)


def tensors_of(layer: Layer) -> list[str]:
    """The names of its tensors in the file."""
    start = f"{layer.name}." if layer.name else ""
    return [f"{start}weight", f"{start}bias"]


def _size(shape: Iterable[int]) -> str:
    return "x".join(str(int(side)) for side in shape) or "a single number"
