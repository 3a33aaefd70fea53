"""Trained on one camera, tested on the other: what packing to XYZ is for.

    python -m benchmarks.results_cameras TWINS RUNS [--epochs 2] [--seeds 3] [--isps ...]

The night streets of `results_streets`, divided by camera: each ISP is trained on the Sony's files
and on the Nikon's, from XYZ and from camera RGB, and measured on both cameras' test streets. With a
grey-world balance, which undoes most of what distinguishes cameras, and without. Writes
benchmarks/results/cameras.json. What is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import report
from rawisp.batch.prepare import prepare
from rawisp.checkpoint import load_isp
from rawisp.data.folder import find_dataset
from rawisp.detect import create_guide, freeze
from rawisp.detect.categories import category_map
from rawisp.evaluation.run import evaluate_rendering
from rawisp.train import TrainConfig, train
from rawisp.train.recipes import STAGED_START

FIT = (600, 400)
SUFFIXES = {"Sony": ".ARW", "Nikon": ".NEF"}
ISPS: dict[str, dict[str, Any]] = {
    "staged": {"lr": 2e-2, "isp_config": STAGED_START},
    "staged, no grey world": {"lr": 2e-2, "isp_config": {**STAGED_START, "grey_world": False}},
    "genisp": {"lr": 2e-3, "isp_config": {}},
}


def divided(night: Path, runs: Path) -> None:
    """RUNS/Sony and RUNS/Nikon: links to one camera's files, and their annotations."""
    for camera, suffix in SUFFIXES.items():
        for split in ("train", "val", "test"):
            document = json.loads((night / f"{split}.json").read_text())
            images = [i for i in document["images"] if i["file_name"].endswith(suffix)]
            kept = {image["id"] for image in images}
            boxes = [a for a in document["annotations"] if a["image_id"] in kept]
            folder = runs / camera / split
            folder.mkdir(parents=True, exist_ok=True)
            for image in images:
                target = runs / camera / image["file_name"]
                if not target.exists():
                    os.link(night / image["file_name"], target)
            text = json.dumps({**document, "images": images, "annotations": boxes})
            (runs / camera / f"{split}.json").write_text(text)


def measured(checkpoint: Path, data: Path, color: Any, cache: Path) -> float:
    """AP50 on the test part."""
    from dataclasses import replace

    found = find_dataset(data)
    found = replace(found, samples=found.split("test"))
    test = prepare(found, str(cache), color=color, fit=FIT)
    guide = create_guide("tiny")
    freeze(guide)
    isp = load_isp(checkpoint, device="cpu").run
    categories = category_map(test.categories, guide)
    images = [image for part in test.images.values() for image in part]
    done = evaluate_rendering(isp, guide, images, categories, torch.device("cpu"))
    return done.precision.ap50


def learned(name: str, color: Any, trained_on: str, seed: int, epochs: int, runs: Path) -> Path:
    """The checkpoint of one run, trained unless it is there."""
    out = runs / f"{name}-{color}-{trained_on}-{seed}".replace(", ", "_").replace(" ", "_")
    settings = dict(ISPS[name])
    if name != "genisp":
        settings["isp_config"] = {**settings["isp_config"], "input_color": color}
    config = TrainConfig(
        isp=name.partition(",")[0], detector="tiny", fit=FIT, epochs=epochs, seed=seed,
        input_color=color, device="cpu", **settings,
    )  # fmt: skip
    if not (out / "isp.ts").exists():
        again = (out / "state.pt").exists()
        train(runs / trained_on, out, config, cache=runs / "cache", resume=again)
    return out / "isp.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("twins", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--isps", nargs="*", default=list(ISPS))
    parser.add_argument("--dry-run", action="store_true", help="write no result")
    given = parser.parse_args()
    divided(given.twins / "night", given.runs)
    rows = []
    for name in given.isps:
        for color in ("xyz", "camera"):
            for trained_on in SUFFIXES:
                row: dict[str, Any] = {"isp": name, "color": color, "trained_on": trained_on}
                row |= {camera: [] for camera in SUFFIXES}
                for seed in range(given.seeds):
                    path = learned(name, color, trained_on, seed, given.epochs, given.runs)
                    for camera in SUFFIXES:
                        cache = given.runs / "cache"
                        row[camera].append(measured(path, given.runs / camera, color, cache))
                rows.append(row)
                print(row, flush=True)
    report("cameras", {"epochs": given.epochs, "rows": rows}, dry_run=given.dry_run)


if __name__ == "__main__":
    main()
