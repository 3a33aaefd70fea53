"""Writes rawisp/checkpoint/shipped/classic.ts, the hand-set staged ISP that ships as `classic`.

    python benchmarks/make_classic.py

The same PyTorch writes the same bytes.
"""

from pathlib import Path

from rawisp.checkpoint.metadata import CheckpointMetadata
from rawisp.checkpoint.torchscript import save_module
from rawisp.isp.staged import CLASSIC, StagedIsp, classic_config

TARGET = Path(__file__).parent.parent / "rawisp" / "checkpoint" / "shipped" / "classic.ts"


def main() -> None:
    metadata = CheckpointMetadata(
        name="classic",
        isp="staged",
        input_color="xyz",
        config=classic_config(),
        provenance={
            "training": "none; parameters set by hand",
            "what": "percentile exposure, grey-world balance, mild saturation, sRGB-like curve",
        },
    )
    save_module(StagedIsp(CLASSIC), str(TARGET), metadata)
    print(TARGET)


if __name__ == "__main__":
    main()
