"""AdaptiveISP v1.0: the agent's 120 tensors, and the value network's 32.

The released checkpoints are dicts {iter, agent_model, value_model, agent_optimizer,
value_optimizer}. The agent's names, and ours:

    feature_extractor.layers.N          policy.parameter_trunk.N
    action_selection.layers.N           policy.choice_trunk.N
    KEY.fc1, KEY.fc_filter, KEY.fc_mask policy.heads.M, M the number of the operator's KEY
    fc1, fc2                            policy.choice.0, policy.choice.2

and the value network's: feature_extractor.layers.N is trunk.N; fc1 and fc2 are head.0 and head.2.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from rawisp.checkpoint.converters.matching import Converted, by_name
from rawisp.checkpoint.converters.weights import ENTRIES, Weights, read_weights
from rawisp.isp.adaptive.adaptive_isp import AdaptiveConfig, AdaptiveIsp
from rawisp.isp.adaptive.operators import KEYS
from rawisp.isp.adaptive.policy import ValueNetwork

AGENT, VALUE = "AdaptiveISP v1.0", "AdaptiveISP's value network"
_CHOICE = {"0": "fc1", "2": "fc2"}


def read_agent(path: str) -> Weights:
    """The file's tensors, the agent's if it has several networks."""
    return read_weights(path, ("agent_model", *ENTRIES))


def read_value(path: str) -> Weights:
    """The file's tensors, the value network's if it has several."""
    return read_weights(path, ("value_model", *ENTRIES))


def convert_agent(weights: Weights) -> Converted:
    """AdaptiveISP as published (`parity=True`, five steps). CheckpointError if it does not fit."""
    isp = AdaptiveIsp(AdaptiveConfig(parity=True))
    return _filled(isp, weights, _agent_name, AGENT)


def convert_value(weights: Weights) -> Converted:
    """The value network that goes with an agent. CheckpointError if it does not fit."""
    return _filled(ValueNetwork(), weights, _value_name, VALUE)


def _agent_name(ours: str) -> str:
    _, part, rest = ours.split(".", 2)
    number, _, leaf = rest.partition(".")
    if part == "heads":
        return f"{KEYS[int(number)]}.{leaf}"
    if part == "choice":
        return f"{_CHOICE[number]}.{leaf}"
    trunk = "feature_extractor" if part == "parameter_trunk" else "action_selection"
    return f"{trunk}.layers.{rest}"


def _value_name(ours: str) -> str:
    part, number, leaf = ours.split(".", 2)
    if part == "trunk":
        return f"feature_extractor.layers.{number}.{leaf}"
    return f"{_CHOICE[number]}.{leaf}"


def _filled(
    module: nn.Module, weights: Weights, published: Callable[[str], str], what: str
) -> Converted:
    """`module` with the file's tensors. published: their name of each of our tensors."""
    names = {ours: published(ours) for ours in module.state_dict()}
    shapes = {names[ours]: tuple(own.shape) for ours, own in module.state_dict().items()}
    prefix, ignored = by_name(weights, shapes, what)
    state = {ours: weights.tensors[prefix + theirs] for ours, theirs in names.items()}
    module.load_state_dict(state)
    used = frozenset(prefix + theirs for theirs in names.values())
    return Converted(module, what, used, tuple(ignored))
