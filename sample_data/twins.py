"""More streets of the sample data's kind, each by day and by night, for training and measuring.

    python -m sample_data.twins OUT [--train 160] [--val 30] [--test 60] [--first-seed 1000]

OUT/day/{train,val,test}/*.png are the well-lit twins, half the sensor's size, with boxes for that
size; OUT/night/{train,val,test}/*.ARW|.NEF the same streets by night as the two cameras record
them, with boxes in sensor pixels. Annotations are COCO files beside the folders. Scenes are
numbered on from the first seed; the fourteen of the sample data have seeds below 100.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from rawisp.raw.container import CAMERA_BODIES, write_container

from .generate import CATEGORIES, HEIGHT, WIDTH, camera_mosaic
from .street import render_street

MODELS = tuple(CAMERA_BODIES)


def encoded(linear: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """A well-lit picture: the 97th percentile at 0.9, sRGB encoding, half size by 2x2 averages."""
    half = linear.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(1, 3))
    x = np.clip(half / max(float(np.percentile(half, 97)), 1e-6) * 0.9, 0.0, 1.0)
    srgb = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    return np.rint(srgb * 255).astype(np.uint8)


def make_pair(job: tuple[str, str, int, int]) -> list[dict[str, Any]]:
    """Writes one street twice. Returns its boxes, in sensor pixels."""
    out, split, seed, number = job
    street = render_street(seed, WIDTH, HEIGHT)
    body = CAMERA_BODIES[MODELS[number % len(MODELS)]]
    Image.fromarray(encoded(street.day)).save(Path(out) / "day" / split / f"S{seed:05}.png")
    write_container(
        Path(out) / "night" / split / f"S{seed:05}{body.suffix}",
        camera_mosaic(street.night, body, seed),
        make=body.make,
        model=body.model,
        iso=3200,
    )
    return [
        {"category": b.category, "bbox": [round(v) for v in (b.x, b.y, b.width, b.height)]}
        for b in street.boxes
    ]


def write_annotations(path: Path, names: list[str], boxes: list[Any], scale: float) -> None:
    """One COCO file; `scale` takes sensor pixels to those of the pictures."""
    size = {"width": int(WIDTH * scale), "height": int(HEIGHT * scale)}
    images = [{"id": n, "file_name": name, **size} for n, name in enumerate(names)]
    annotations = [
        {
            "id": 100 * n + k,
            "image_id": n,
            "category_id": CATEGORIES[box["category"]],
            "bbox": [v * scale for v in box["bbox"]],
            "area": box["bbox"][2] * box["bbox"][3] * scale**2,
            "iscrowd": 0,
        }
        for n, found in enumerate(boxes)
        for k, box in enumerate(found)
    ]
    categories = [{"id": number, "name": name} for name, number in CATEGORIES.items()]
    document = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(document))


def make_twins(out: Path, counts: dict[str, int], first_seed: int, processes: int = 2) -> None:
    """Writes everything below `out`; splits take the seeds one after the other."""
    seed = first_seed
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for split, count in counts.items():
            for kind in ("day", "night"):
                (out / kind / split).mkdir(parents=True, exist_ok=True)
            jobs = [(str(out), split, seed + n, n) for n in range(count)]
            boxes = list(pool.map(make_pair, jobs, chunksize=4))
            suffixes = [CAMERA_BODIES[MODELS[n % len(MODELS)]].suffix for n in range(count)]
            day = [f"{split}/S{seed + n:05}.png" for n in range(count)]
            night = [f"{split}/S{seed + n:05}{suffixes[n]}" for n in range(count)]
            write_annotations(out / "day" / f"{split}.json", day, boxes, 0.5)
            write_annotations(out / "night" / f"{split}.json", night, boxes, 1.0)
            seed += count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    for name, count in (("train", 160), ("val", 30), ("test", 60)):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--first-seed", type=int, default=1000)
    given = parser.parse_args()
    counts = {"train": given.train, "val": given.val, "test": given.test}
    make_twins(given.out, counts, given.first_seed)
    print(f"{sum(counts.values())} streets by day and by night in {given.out}")


if __name__ == "__main__":
    main()
