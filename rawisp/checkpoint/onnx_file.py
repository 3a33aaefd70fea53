"""The one place that knows ONNX: written for other programs, never applied by rawisp itself.

Needs the extra "onnx". Heights and widths are free; input and output are named in the file, and
its metadata lie under METADATA_KEY.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import torch

from rawisp.checkpoint.exported import example_and_sides
from rawisp.checkpoint.metadata import CheckpointMetadata
from rawisp.errors import UsageError
from rawisp.extras import install_advice

METADATA_KEY = "rawisp"
INPUT, OUTPUT = "raw_image", "rendered_image"


def save_onnx(module: torch.nn.Module, path: str, metadata: CheckpointMetadata) -> None:
    """Exports `module` (eval mode, CPU), float32 (1, 3, H, W) to (1, 3, H, W), weights inside.

    UsageError when the extra is not installed; otherwise whatever PyTorch's exporter raises.
    """
    _required()
    import onnx

    example, sides = example_and_sides()
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
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:  # the exporter writes down where the source lies
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    Path(path).write_bytes(model.SerializeToString())


class OnnxModule(torch.nn.Module):
    """An ONNX file as a module for CPU tensors, run by ONNX Runtime."""

    def __init__(self, path: str) -> None:
        super().__init__()
        _required()
        import onnxruntime

        onnxruntime.set_default_logger_severity(4)  # it logs to stderr what it also raises
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(1, 3, H, W) from (1, 3, H, W)."""
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
