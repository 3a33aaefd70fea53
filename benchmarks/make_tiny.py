"""Trains the shipped `tiny` detector on the well-lit twins of the sample data's kind of streets.

    python -m sample_data.twins TWINS --train 400 --val 40 --test 80
    python -m benchmarks.make_tiny TWINS [--epochs 30] [-o FILE]

Writes the weights of the last epoch, and prints AP on the twins' validation and test parts. The
detector sees pictures of varying brightness, contrast and noise, so that it is no judge of taste.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rawisp.detect import Target, create_guide, save_guide
from rawisp.evaluation.average_precision import Found, Truth, average_precision

TARGET = Path(__file__).parent.parent / "rawisp" / "detect" / "shipped" / "tiny.safetensors"
CATEGORIES = ("person", "bicycle", "car")
BATCH = 8


def read_split(folder: Path, split: str) -> list[tuple[torch.Tensor, Target]]:
    """Pictures in [0, 1], (3, H, W), and their boxes; labels from 1."""
    document = json.loads((folder / "day" / f"{split}.json").read_text())
    boxes: dict[int, list[Any]] = {image["id"]: [] for image in document["images"]}
    for a in document["annotations"]:
        x, y, w, h = a["bbox"]
        if w > 0 and h > 0:
            boxes[a["image_id"]].append((a["category_id"], x, y, x + w, y + h))
    samples = []
    for image in document["images"]:
        pixels = np.asarray(Image.open(folder / "day" / image["file_name"]))
        x = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
        rows = torch.tensor(boxes[image["id"]], dtype=torch.float32).reshape(-1, 5)
        samples.append((x, Target(rows[:, 1:], rows[:, 0].long())))
    return samples


def varied(x: torch.Tensor, target: Target, rng: np.random.Generator) -> tuple[Any, Target]:
    """Mirrored, and with another exposure, contrast, tint and noise."""
    if rng.random() < 0.5:
        width = x.shape[2]
        b = target.boxes
        flipped = torch.stack([width - b[:, 2], b[:, 1], width - b[:, 0], b[:, 3]], 1)
        x, target = x.flip(2), Target(flipped, target.labels)
    gain = 2.0 ** rng.uniform(-0.8, 0.5)
    tint = torch.from_numpy(2.0 ** rng.uniform(-0.2, 0.2, (3, 1, 1))).float()
    x = (x.clamp(min=1e-4) ** float(2.0 ** rng.uniform(-0.4, 0.4)) * gain * tint).clamp(0, 1)
    noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
    return (x + float(rng.uniform(0, 0.06)) * noise).clamp(0, 1), target


def measure(guide: Any, samples: list[tuple[torch.Tensor, Target]]) -> dict[str, Any]:
    """COCO's numbers."""
    truths, found = [], []
    for x, target in samples:
        with torch.inference_mode():
            (one,) = guide.detect([x])
        truths.append(Truth(target.boxes.double().numpy(), target.labels.numpy() - 1))
        found.append(
            Found(one.boxes.double().numpy(), one.scores.double().numpy(), one.labels.numpy() - 1)
        )
    return average_precision(truths, found, CATEGORIES).record()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("twins", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, default=TARGET)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    samples = read_split(given.twins, "train")
    guide = create_guide("tiny", "random", categories=CATEGORIES)
    optimizer = torch.optim.AdamW(guide.parameters(), 2e-3, weight_decay=1e-3)
    steps = len(samples) // BATCH
    start = time.monotonic()
    for epoch in range(given.epochs):
        rng = np.random.default_rng([given.seed, epoch])
        order, total = rng.permutation(len(samples)), 0.0
        for step in range(steps):
            done = (epoch * steps + step) / (given.epochs * steps)
            warm = min(1.0, (epoch * steps + step + 1) / 50)
            optimizer.param_groups[0]["lr"] = 2e-3 * warm * (1 + math.cos(math.pi * done)) / 2
            batch = [varied(*samples[n], rng) for n in order[step * BATCH : (step + 1) * BATCH]]
            terms = guide.losses([x for x, _ in batch], [t for _, t in batch])
            loss = torch.stack(list(terms.values())).sum() / BATCH
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(guide.parameters(), 1.0)
            optimizer.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1}: loss {total / steps:.3f}, {time.monotonic() - start:.0f} s")
        if (epoch + 1) % 10 == 0 or epoch + 1 == given.epochs:
            print("val", measure(guide, read_split(given.twins, "val")), flush=True)
            given.out.parent.mkdir(parents=True, exist_ok=True)
            save_guide(guide, "tiny", given.out)
    print("test", measure(guide, read_split(given.twins, "test")))
    print(given.out)


if __name__ == "__main__":
    main()
