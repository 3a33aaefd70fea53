"""What learning brings on rendered night streets: AP50 with the `tiny` detector, frozen.

    python -m sample_data.twins TWINS --train 400 --val 40 --test 80
    python -m benchmarks.results_streets TWINS RUNS [--epochs 4] [--seeds 3] [--train 200]

Trains each ISP with each seed on TWINS/night/train, keeps the epoch that is best on val, and
measures on test, once; the default checkpoint as it is beside them. Writes
benchmarks/results/streets.json. What is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import report
from rawisp.batch.prepare import Prepared, prepare
from rawisp.checkpoint import load_isp
from rawisp.data.folder import find_dataset
from rawisp.detect import create_guide, freeze
from rawisp.detect.categories import category_map
from rawisp.evaluation.run import evaluate_rendering
from rawisp.train import TrainConfig, train
from rawisp.train.recipes import STAGED_START

FIT = (600, 400)
BASELINES = ("demosaic", "rawpy-default", "classic")
# What differs from the common settings; the learning rates are the best of 1e-3, 3e-3, 1e-2, 2e-2
# by one epoch's loss, where more than one was tried.
ISPS: dict[str, dict[str, Any]] = {
    "staged": {"lr": 2e-2, "isp_config": STAGED_START},
    "genisp": {"lr": 2e-3},
    "ta-isp": {"lr": 5e-3},
    "adaptive-isp": {"lr": 3e-4, "isp_config": {"exposure_ev": 3.0}},
    "staged-unet": {"lr": 2e-3},
}


def part_of(night: Path, runs: Path, counts: dict[str, int]) -> Path:
    """RUNS/night: links to the first so many streets of each split, and their annotations."""
    for split, count in counts.items():
        document = json.loads((night / f"{split}.json").read_text())
        images = document["images"][:count]
        kept = {image["id"] for image in images}
        boxes = [a for a in document["annotations"] if a["image_id"] in kept]
        (runs / "night" / split).mkdir(parents=True, exist_ok=True)
        for image in images:
            target = runs / "night" / image["file_name"]
            if not target.exists():
                os.link(night / image["file_name"], target)
        text = json.dumps({**document, "images": images, "annotations": boxes})
        (runs / "night" / f"{split}.json").write_text(text)
    return runs / "night"


def held_out(data: Path, split: str, cache: Path) -> Prepared:
    found = find_dataset(data)
    found = replace(found, samples=found.split(split))
    return prepare(found, str(cache), color="xyz", fit=FIT)


def measured(render: Any, test: Prepared) -> dict[str, Any]:
    guide = create_guide("tiny")
    freeze(guide)
    categories = category_map(test.categories, guide)
    images = [image for part in test.images.values() for image in part]
    device = torch.device("cpu")
    done = evaluate_rendering(render, guide, images, categories, device)
    return {**done.precision.record(), "render_ms": round(1000 * done.render_s, 1)}


def learned(name: str, seed: int, epochs: int, data: Path, runs: Path, cache: Path) -> Path:
    """The checkpoint of one run, trained unless it is there."""
    out = runs / f"{name}-{seed}"
    checkpoint = out / "isp.safetensors"
    if not (out / "isp.ts").exists():
        config = TrainConfig(
            isp=name, detector="tiny", fit=FIT, epochs=epochs, seed=seed, device="cpu",
            **ISPS[name],
        )  # fmt: skip
        train(data, out, config, cache=cache, resume=(out / "state.pt").exists())
    return checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("twins", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    for name, count in (("train", 200), ("val", 24), ("test", 80)):
        parser.add_argument(f"--{name}", type=int, default=count, help="how many streets")
    parser.add_argument("--isps", nargs="*", default=list(ISPS))
    parser.add_argument("--once", nargs="*", default=[], help="ISPs with the first seed only")
    parser.add_argument("--dry-run", action="store_true", help="write no result")
    given = parser.parse_args()
    counts = {"train": given.train, "val": given.val, "test": given.test}
    data, cache = part_of(given.twins / "night", given.runs, counts), given.runs / "cache"
    test = held_out(data, "test", cache)
    result: dict[str, Any] = {
        "epochs": given.epochs,
        "streets": counts,
        "baselines": {},
        "learned": {},
    }
    for name in BASELINES:
        isp = load_isp(name, device="cpu").run if name != "demosaic" else _identity
        result["baselines"][name] = measured(isp, test)
        print(name, result["baselines"][name]["ap50"], flush=True)
    # Learned from other photographs, under another detector.
    result["default"] = measured(load_isp("night", device="cpu").run, test)
    print("night", result["default"]["ap50"], flush=True)
    best = max(row["ap50"] for row in result["baselines"].values())
    for name in given.isps:
        rows = []
        for seed in range(1 if name in given.once else given.seeds):
            path = learned(name, seed, given.epochs, data, given.runs, cache)
            rows.append(measured(load_isp(path, device="cpu").run, test))
            print(name, seed, rows[-1]["ap50"], flush=True)
        values = [row["ap50"] for row in rows]
        result["learned"][name] = {
            "settings": ISPS[name],
            "seeds": rows,
            "ap50_mean": statistics.mean(values),
            "ap50_spread": max(values) - min(values),
            "over_best_baseline": statistics.mean(values) / best - 1,
        }
    report("streets", result, dry_run=given.dry_run)


def _identity(x: torch.Tensor) -> torch.Tensor:
    return x


if __name__ == "__main__":
    main()
