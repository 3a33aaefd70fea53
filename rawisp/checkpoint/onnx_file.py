"""The one place that knows ONNX: written for other programs, never applied by rawisp itself.

Needs the extra "onnx". Heights and widths are free; input and output are named in the file, and
its metadata lie under METADATA_KEY.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rawisp.checkpoint.exported import example_and_sides
from rawisp.checkpoint.metadata import CheckpointMetadata
from rawisp.checkpoint.onnx_opset import to_opset_17
from rawisp.errors import UsageError
from rawisp.extras import install_advice

METADATA_KEY = "rawisp"
INPUT, OUTPUT = "raw_image", "rendered_image"
# PyTorch writes from 18 on; `rawisp.checkpoint.onnx_opset` goes to 17.
OLDEST_OPSET, NEWEST_OPSET = 17, 23


@dataclass(frozen=True)
class OnnxOptions:
    """What other programs need of an ONNX file.

    opset: the version of ONNX's operators, None for the exporter's own; TensorRT 8 and Jetsons want
    17. dynamic_batch: whether the first dimension is free, 1 to 1024, instead of 1. half: whether
    weights and arithmetic are float16; input and output stay float32.
    """

    opset: int | None = None
    dynamic_batch: bool = False
    half: bool = False

    def __post_init__(self) -> None:
        if self.opset is not None and not OLDEST_OPSET <= self.opset <= NEWEST_OPSET:
            raise UsageError(
                f"opset {self.opset} cannot be written; {OLDEST_OPSET} to {NEWEST_OPSET} can"
            )


def save_onnx(
    module: torch.nn.Module,
    path: str,
    metadata: CheckpointMetadata,
    options: OnnxOptions | None = None,
) -> None:
    """Exports `module` (eval mode, CPU), float32 (B, 3, H, W) to (B, 3, H, W), weights inside.

    UsageError when the extra is not installed, or the opset cannot be had; otherwise whatever
    PyTorch's exporter raises.
    """
    _required()
    import onnx

    options = options or OnnxOptions()
    example, sides = example_and_sides()
    if options.dynamic_batch:  # two images, since one would be taken for a constant
        example = torch.cat([example, 0.5 * example])
        sides = {0: torch.export.Dim("batch", min=1, max=1024), **sides}
    said = io.StringIO()  # the exporter prints its steps
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(said):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval().cpu(),
            (example,),
            dynamo=True,
            dynamic_shapes=(sides,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
            opset_version=max(options.opset, 18) if options.opset else None,
        )
    assert program is not None
    model = program.model_proto
    if options.opset == 17:
        model = to_opset_17(model)
    written = {one.domain: one.version for one in model.opset_import}.get("")
    if options.opset is not None and written != options.opset:
        raise UsageError(
            f"the exporter writes opset {written} and cannot convert it to {options.opset}; "
            "ask for that one"
        )
    if options.half:
        model = _halved(model)
    for node in model.graph.node:  # the exporter writes down where the source lies
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    Path(path).write_bytes(model.SerializeToString())


def _halved(model: Any) -> Any:
    """The same in float16 with float32 at both ends; numbers beyond float16's range are cut to it.

    ONNX Runtime says on a logger what it cuts, which is what eps in denominators are for.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return convert_float_to_float16(model, keep_io_types=True)


class OnnxModule(torch.nn.Module):
    """An ONNX file as a module for CPU tensors, run by ONNX Runtime."""

    def __init__(self, path: str) -> None:
        super().__init__()
        _required()
        import onnxruntime

        onnxruntime.set_default_logger_severity(4)  # it logs to stderr what it also raises
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) from (B, 3, H, W)."""
        return torch.from_numpy(self.session.run([OUTPUT], {INPUT: x.numpy()})[0])


def _required() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"ONNX export needs the package {error.name}; {install_advice('onnx')}"
        ) from None
