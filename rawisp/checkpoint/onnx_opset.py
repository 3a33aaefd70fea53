"""From ONNX's opset 18, the oldest that PyTorch's exporter writes, to 17, which TensorRT 8 reads.

ONNX's own converter has no way from 18 to 17 for Pad, and leaves an attribute behind in reductions.
Between the two versions (onnx/docs/Changelog.md) the operators of our graphs differ in this:

    ReduceMax, ReduceMean, ReduceMin...     axes became an input, and noop_with_empty_axes came
    Pad, Resize                             axes came, as an input and an attribute
    Resize                                  antialias and keep_aspect_ratio_policy came
    Split                                   num_outputs came

The caller runs the result against the original, so what this overlooks is not written.
"""

from __future__ import annotations

from typing import Any

from rawisp.errors import UsageError

# ReduceSum has had its axes as an input since 13.
_REDUCTIONS = {
    f"Reduce{kind}"
    for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
}
# Attributes that 17 does not have, and the value with which they say nothing; None: none does.
_NEW: dict[str, dict[str, Any]] = {
    "Resize": {"antialias": 0, "keep_aspect_ratio_policy": b"stretch", "axes": None},
    "Split": {"num_outputs": None},
}
# Operators that came with 18.
_NEWER = {"BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "CenterCropPad", "Col2Im",
          "GroupNormalization", "Mish", "OptionalGetElement", "OptionalHasElement"}  # fmt: skip


def to_opset_17(model: Any) -> Any:
    """`model` (an onnx.ModelProto of opset 18), changed in place. UsageError where it cannot be."""
    import onnx
    from onnx import numpy_helper

    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if value is not None:
                constants[node.output[0]] = numpy_helper.to_array(value)
    for node in model.graph.node:
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
               for a in node.attribute):  # fmt: skip
            raise _impossible(f"{node.op_type}, which has a graph inside")
        if node.op_type in _NEWER:
            raise _impossible(node.op_type)
        if node.op_type in _REDUCTIONS:
            _reduce(node, constants)
        if node.op_type == "Pad" and len(node.input) > 3 and node.input[3]:
            raise _impossible("Pad over some axes")
        for name, silent in _NEW.get(node.op_type, {}).items():
            _drop(node, name, silent)
    for one in model.opset_import:
        if one.domain == "":
            one.version = 17
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)
    return model


def _reduce(node: Any, constants: dict[str, Any]) -> None:
    """The axes as an attribute."""
    from onnx import helper

    axes = None
    if len(node.input) > 1 and node.input[1]:
        if node.input[1] not in constants:
            raise _impossible(f"{node.op_type} over axes that are computed")
        axes = constants[node.input[1]].tolist()
    noop = [a for a in node.attribute if a.name == "noop_with_empty_axes"]
    if axes is None and any(a.i for a in noop):
        raise _impossible(f"{node.op_type} over no axes")
    for attribute in noop:
        node.attribute.remove(attribute)
    del node.input[1:]
    if axes is not None:
        node.attribute.append(helper.make_attribute("axes", axes))


def _drop(node: Any, name: str, silent: Any) -> None:
    for attribute in [a for a in node.attribute if a.name == name]:
        if silent is None or (attribute.s or attribute.i) != silent:
            raise _impossible(f"{node.op_type} with {name}")
        node.attribute.remove(attribute)


def _impossible(what: str) -> UsageError:
    return UsageError(
        f"opset 17 has no {what}, which this ISP needs; leave --opset away to have 18"
    )
