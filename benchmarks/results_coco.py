"""What learning brings on night RAW made from COCO photographs, with a COCO-pretrained detector.

    python -m benchmarks.results_coco COCO128 FastestDet.onnx RUNS [--isps ...]

COCO128 holds images/ and labels/ (YOLO). Forty photographs are held out by hash; ten nights of
each are measured on, those of the others are trained on, darkened anew in each epoch. The detector
is frozen. Writes benchmarks/results/coco_nights.json. What is there already is not made again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import report
from rawisp.batch.prepare import prepare
from rawisp.batch.synth import SynthSettings, synth_folder
from rawisp.checkpoint import load_isp
from rawisp.data.annotations import read_annotations
from rawisp.data.augment import AugmentSettings
from rawisp.data.folder import find_dataset
from rawisp.detect import Guide, create_guide, freeze
from rawisp.detect.categories import CategoryMap, category_map
from rawisp.evaluation.average_precision import Found, Truth, average_precision
from rawisp.evaluation.run import evaluate_rendering
from rawisp.isp.fixed import classic_settings
from rawisp.train import TrainConfig, train

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

FIT = (400, 300)
HELD_OUT, NIGHTS = 40, 10
# Nights of each photograph in an epoch, which are darkened anew in the next one.
NIGHTS_TO_LEARN = 4
CAMERAS = ("DSC-RX100M7", "NIKON D750")
BASELINES = ("demosaic", "rawpy-default", "classic")
GENTLE = AugmentSettings(flip=0.5, crop=0.3, crop_scale=0.7, exposure_stops=0.3, illuminant=0.1)
# "+day": with the well-lit photographs as a second teacher, which synthesized nights have.
BY_DAY: dict[str, Any] = {
    "day_response": 3.3,
    "day_weight": 14.0,
    "amp": True,
    "warm_up_steps": 50,
    "clip_norm": 3.0,
}
# With 88 photographs a U-Net learns them by heart (AP50 on them recovered by a half, on others by a
# quarter, at GENTLE); these zooms are other photographs, and noise is added after them.
ZOOMS = replace(GENTLE, crop=0.8, crop_scale=0.5)
# Small ISPs are done learning after a few epochs. seeds: the first ones unless said; film-unet's
# settings were chosen with seed 0.
ISPS: dict[str, dict[str, Any]] = {
    "staged+day": {
        **BY_DAY,
        "lr": 1e-2,
        "epochs": 12,
        "isp_config": {
            **classic_settings(),
            "grey_world": False,
            "exposure_floor": 0.0,
            "smooth_colors": False,
        },
    },
    "genisp+day": {**BY_DAY, "lr": 2e-3, "epochs": 6},
    "ta-isp+day": {**BY_DAY, "lr": 5e-3, "epochs": 4},
    "adaptive-isp": {"lr": 3e-4, "epochs": 4, "isp_config": {"exposure_ev": 3.0}},
    "film-unet+day": {**BY_DAY, "lr": 2e-3, "epochs": 100, "augment": ZOOMS, "seeds": [1]},
}


def divided(coco: Path, runs: Path) -> dict[str, Path]:
    """Folders of links to the photographs of each part, with their labels and COCO's names."""
    from fastestdet import COCO

    names = sorted(path.name for path in (coco / "images").glob("*.jpg"))
    order = sorted(names, key=lambda name: hashlib.sha256(f"0{name}".encode()).hexdigest())
    parts = {"test": order[:HELD_OUT], "train": order[HELD_OUT:]}
    listed = "".join(f"  {number}: {name}\n" for number, name in enumerate(COCO))
    for part, members in parts.items():
        for kind, suffix in (("images", ".jpg"), ("labels", ".txt")):
            (runs / part / kind).mkdir(parents=True, exist_ok=True)
            for name in members:
                source = coco / kind / Path(name).with_suffix(suffix)
                link = runs / part / kind / source.name
                if source.exists() and not link.is_symlink():
                    os.symlink(source.resolve(), link)
        (runs / part / "data.yaml").write_text(f"path: .\ntrain: images\nnames:\n{listed}")
    return {part: runs / part for part in parts}


def darkened(part: Path, copies: int, cameras: tuple[str, ...], out: Path) -> Path:
    """`rawisp synth` of one part."""
    settings = SynthSettings(cameras=cameras, copies=copies)
    synth_folder([part / "images"], out, settings, annotations=part / "data.yaml")
    return out


def measured(render: Any, data: Path, guide: Guide, cache: Path) -> dict[str, Any]:
    """AP of one rendering on all nights in `data`."""
    prepared = prepare(find_dataset(data), str(cache), color="xyz", fit=FIT)
    categories = category_map(prepared.categories, guide)
    images = [image for part in prepared.images.values() for image in part]
    done = evaluate_rendering(render, guide, images, categories, torch.device("cpu"))
    return {**done.precision.record(), "images": len(images)}


def well_lit(part: Path, guide: Guide) -> dict[str, Any]:
    """AP on the photographs themselves, scaled to the same size."""
    labels = read_annotations(part / "data.yaml")
    categories: CategoryMap = category_map(labels.categories, guide)
    truths, found = [], []
    for one in labels.images:
        with Image.open(part / "images" / f"{Path(one.name).name}.jpg") as opened:
            picture = opened.convert("RGB")
        scale = min(1.0, FIT[0] / max(picture.size), FIT[1] / min(picture.size))
        size = (round(picture.width * scale), round(picture.height * scale))
        pixels = np.asarray(picture.resize(size, Image.Resampling.BOX))
        x = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            (detections,) = guide.detect([x])
        frame = np.array(size if one.size is None else np.array(size) / one.size)
        xywh = one.boxes * np.tile(frame, 2)
        truths.append(Truth(np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]), one.classes))
        classes = categories.classes_of(detections.labels.numpy())
        known = classes >= 0
        boxes, scores = detections.boxes.double().numpy(), detections.scores.double().numpy()
        found.append(Found(boxes[known], scores[known], classes[known]))
    return average_precision(truths, found, labels.categories).record()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("coco", type=Path)
    parser.add_argument("detector", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--isps", nargs="*", default=list(ISPS))
    parser.add_argument("--dry-run", action="store_true", help="write no result")
    given = parser.parse_args()
    parts = divided(given.coco, given.runs)
    nights = {
        "test": darkened(parts["test"], NIGHTS, CAMERAS, given.runs / "night_test"),
        "train": darkened(parts["train"], NIGHTS_TO_LEARN, CAMERAS, given.runs / "night_train"),
    }
    cache = given.runs / "cache"
    guide = create_guide("fastestdet:build", str(given.detector))
    freeze(guide)
    shown = {name: _jsonable(settings) for name, settings in ISPS.items()}
    epochs = max(settings["epochs"] for settings in ISPS.values())
    result: dict[str, Any] = {"epochs": epochs, "fit": FIT, "rows": {}, "settings": shown}
    result["rows"]["well-lit"] = well_lit(parts["test"], guide)
    for name in BASELINES:
        isp = load_isp(name, device="cpu").run if name != "demosaic" else _identity
        result["rows"][name] = measured(isp, nights["test"], guide, cache)
        print(name, result["rows"][name]["ap50"], flush=True)
    for name in given.isps:
        settings = {"augment": GENTLE, **ISPS[name]}
        for seed in settings.pop("seeds", range(given.seeds)):
            out = given.runs / f"{name}-{seed}"
            config = TrainConfig(
                isp=name.partition("+")[0],
                detector="fastestdet:build",
                detector_weights=str(given.detector),
                fit=FIT,
                batch_size=4,
                seed=seed,
                device="cpu",
                **settings,
            )
            if not (out / "isp.ts").exists():
                again = (out / "state.pt").exists()
                train(nights["train"], out, config, cache=cache, resume=again)
            isp = load_isp(out / "isp.safetensors", device="cpu").run
            row = measured(isp, nights["test"], guide, cache)
            result["rows"][f"{name}, seed {seed}"] = row
            print(name, seed, row["ap50"], flush=True)
    report("coco_nights", result, dry_run=given.dry_run)


def _jsonable(settings: dict[str, Any]) -> dict[str, Any]:
    return {k: asdict(v) if isinstance(v, AugmentSettings) else v for k, v in settings.items()}


def _identity(x: torch.Tensor) -> torch.Tensor:
    return x


if __name__ == "__main__":
    main()
