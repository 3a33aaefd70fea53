"""Writes the checkpoints without learned weights that ship with the package.

    python -m benchmarks.make_shipped

The same version of safetensors writes the same bytes.
"""

from pathlib import Path

from rawisp.checkpoint.metadata import CheckpointMetadata
from rawisp.checkpoint.native import save_native
from rawisp.isp.registry import create_isp

FOLDER = Path(__file__).parent.parent / "rawisp" / "checkpoint" / "shipped"
WHAT = {
    "classic": "percentile exposure, grey-world balance, mild saturation, sRGB-like curve",
    "rawpy-default": "LibRaw's rendering with default options",
}


def main(folder: Path = FOLDER) -> None:
    for name, what in WHAT.items():
        target = folder / f"{name}.safetensors"
        provenance = {"training": "none; a fixed pipeline", "what": what}
        metadata = CheckpointMetadata(name=name, isp=name, input_color="xyz", provenance=provenance)
        save_native(create_isp(name), str(target), metadata)
        print(target)


if __name__ == "__main__":
    main()
