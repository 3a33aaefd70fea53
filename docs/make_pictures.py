"""Makes the README's picture with the tool itself: python -m docs.make_pictures"""

from __future__ import annotations

import tempfile
from pathlib import Path

from rawisp import enhance_folder
from sample_data.contact_sheet import pairs, sheet

ROOT = Path(__file__).parent.parent
CHOSEN = ("DSC01316", "DSC02986", "DSC_1788", "DSC_1203", "DSC01345", "DSC04103")


def main() -> None:
    night = ROOT / "sample_data" / "night"
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        files = [path for stem in CHOSEN for path in night.rglob(f"{stem}.*")]
        enhance_folder(files, out, annotations=night / "annotations.json")
        target = ROOT / "docs" / "pictures" / "in_and_out.jpg"
        sheet(pairs(out)).save(target, quality=88, subsampling=0)
    print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
