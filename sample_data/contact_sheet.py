"""One picture of a whole `enhance` run: what went in, what came out, boxes drawn.

    python -m sample_data.contact_sheet ENHANCED_FOLDER

Left of each pair: the RAW file as it was exposed (linear XYZ to sRGB, encoded, no gain). Right:
the image that rawisp wrote, with the boxes of its annotations.json. Written to
ENHANCED_FOLDER/contact_sheet.png.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from rawisp import open_raw
from rawisp.color import LINEAR_SRGB_FROM_XYZ

TILE = 300
GAP = 6
COLUMNS = 3  # pairs in a row
BOX_COLORS = {1: (255, 80, 80), 2: (90, 255, 90), 3: (90, 200, 255)}
LEGEND = "left: RAW as exposed   right: rawisp enhance   boxes: person, bicycle, car"


def as_exposed(path: Path) -> Image.Image:
    """The RAW file upright, its linear values encoded for a screen and nothing else."""
    linear = open_raw(path).pack("xyz", orient="upright") @ LINEAR_SRGB_FROM_XYZ.T
    encoded = np.clip(linear, 0, 1) ** (1 / 2.2)
    return Image.fromarray((encoded * 255 + 0.5).astype(np.uint8))


def with_boxes(path: Path, boxes: list[dict]) -> Image.Image:
    image = Image.open(path).convert("RGB")
    draw = ImageDraw.Draw(image)
    for box in boxes:
        x, y, width, height = box["bbox"]
        color = BOX_COLORS.get(box["category_id"], (255, 255, 0))
        draw.rectangle((x, y, x + width - 1, y + height - 1), outline=color)
    return image


def fitted(image: Image.Image) -> Image.Image:
    """Centred on a black tile."""
    image.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    tile = Image.new("RGB", (TILE, TILE * 2 // 3 if image.width > image.height else TILE))
    tile.paste(image, ((tile.width - image.width) // 2, (tile.height - image.height) // 2))
    return tile


def pairs(enhanced: Path) -> list[Image.Image]:
    manifest = [json.loads(line) for line in (enhanced / "manifest.jsonl").open()]
    labels = enhanced / "annotations.json"
    document = json.loads(labels.read_text()) if labels.exists() else {"images": []}
    ids = {image["file_name"]: image["id"] for image in document["images"]}
    found = []
    for record in manifest:
        if record["status"] != "done":
            continue
        image_id = ids.get(record["output"])
        boxes = [a for a in document.get("annotations", []) if a["image_id"] == image_id]
        left = fitted(as_exposed(Path(record["source"])))
        right = fitted(with_boxes(enhanced / record["output"], boxes))
        pair = Image.new("RGB", (2 * TILE, left.height))
        pair.paste(left, (0, 0))
        pair.paste(right, (TILE, 0))
        found.append(pair)
    return sorted(found, key=lambda pair: pair.height)


def sheet(tiles: list[Image.Image]) -> Image.Image:
    rows = [tiles[n : n + COLUMNS] for n in range(0, len(tiles), COLUMNS)]
    width = COLUMNS * (2 * TILE + GAP) + GAP
    height = sum(max(tile.height for tile in row) + GAP for row in rows) + 24
    page = Image.new("RGB", (width, height), (40, 40, 40))
    ImageDraw.Draw(page).text((GAP, 6), LEGEND, fill=(230, 230, 230))
    y = 24
    for row in rows:
        for column, tile in enumerate(row):
            page.paste(tile, (GAP + column * (2 * TILE + GAP), y))
        y += max(tile.height for tile in row) + GAP
    return page


def main() -> None:
    enhanced = Path(sys.argv[1])
    target = enhanced / "contact_sheet.png"
    sheet(pairs(enhanced)).save(target)
    print(f"look at {target}")


if __name__ == "__main__":
    main()
