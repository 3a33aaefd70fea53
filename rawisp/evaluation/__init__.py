"""Average precision of renderings under a detector, and the table of them.

comparison = evaluate("night_photos", ["classic", "run/isp.safetensors"], "tiny")
for row in comparison.rows:
    print(row.name, row.precision.ap50)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rawisp.evaluation.compare import Comparison, Row, evaluate
    from rawisp.evaluation.events import EvaluationEvent
    from rawisp.evaluation.renderings import Rendering

_HOME = {
    "Comparison": "rawisp.evaluation.compare",
    "EvaluationEvent": "rawisp.evaluation.events",
    "Rendering": "rawisp.evaluation.renderings",
    "Row": "rawisp.evaluation.compare",
    "evaluate": "rawisp.evaluation.compare",
}

__all__ = ["Comparison", "EvaluationEvent", "Rendering", "Row", "evaluate"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'rawisp.evaluation' has no attribute {name!r}")
