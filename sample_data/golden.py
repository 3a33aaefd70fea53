"""Reference facts of the sample data as text, so that a change is read and not only noticed.

python -m sample_data.golden        (make golden; then read the diff)
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from rawisp import open_raw

NIGHT = Path(__file__).parent / "night"
TARGET = Path(__file__).parent / "golden.json"


def golden_facts(path: Path) -> dict[str, Any]:
    """Camera, levels, pattern, matrix, orientation, hash of the mosaic, mean XYZ (6 digits)."""
    frame = open_raw(path)
    facts = frame.facts()
    kept = ("camera", "exposure", "pattern", "black", "white", "xyz_to_camera", "matrix_source")
    return {
        **{key: facts[key] for key in (*kept, "exif_orientation")},
        "size": list(frame.visible_size),
        "mosaic_sha256": hashlib.sha256(frame.mosaic.tobytes()).hexdigest(),
        "mean_xyz": [round(float(v), 6) for v in frame.pack().mean(axis=(0, 1), dtype="float64")],
    }


def all_facts() -> dict[str, Any]:
    """By path below sample_data/night."""
    files = sorted(p for p in NIGHT.rglob("*") if p.suffix in (".ARW", ".NEF"))
    return {str(path.relative_to(NIGHT)): golden_facts(path) for path in files}


if __name__ == "__main__":
    TARGET.write_text(json.dumps(all_facts(), indent=1) + "\n")
    print(TARGET.name)
