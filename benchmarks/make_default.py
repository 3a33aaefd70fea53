"""Ships a trained run as the default checkpoint, `night`.

    python -m benchmarks.make_default RUN/isp.safetensors

Name and default fit become the package's; the fit of the training stays beside it, and what the run
recorded stays as provenance, without the paths of the machine that it ran on.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rawisp.checkpoint import describe_checkpoint, load_isp, save_native
from rawisp.checkpoint.metadata import DEFAULT_FIT

TARGET = Path(__file__).parent.parent / "rawisp" / "checkpoint" / "shipped" / "night.safetensors"


def main(source: str, target: Path = TARGET) -> None:
    _, metadata = describe_checkpoint(source, safe=True)
    what = f"{metadata.isp} trained on night RAW made from COCO photographs; docs/model_card.md"
    provenance: dict[str, Any] = {**metadata.provenance, "what": what}
    training = dict(provenance.get("training", {}))
    for key in ("detector_weights", "start"):
        if training.get(key):
            training[key] = Path(training[key]).name
    provenance["training"] = training
    isp: Any = load_isp(source, device="cpu").run
    metadata = replace(metadata, name="night", fit=DEFAULT_FIT, provenance=provenance)
    save_native(isp, str(target), metadata)
    print(target, target.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1])
