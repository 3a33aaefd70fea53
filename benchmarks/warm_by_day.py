"""A first lesson for `staged-unet`: to undo night and noise, before a detector teaches it.

    python -m benchmarks.warm_by_day NIGHTS -o FILE [--steps 2000]

NIGHTS is a folder that `rawisp synth` wrote. Each step darkens some photographs anew, renders crops
of them with the parameters of the whole (predict, then apply), and lowers the mean absolute
difference from the photographs by day and from their gradients, which keeps edges. Detectors need
edges more than smooth surfaces: a plain blur that removes the noise costs AP (docs/results.md).
"""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rawisp.batch.manifest import FILE_NAME, read_manifest
from rawisp.checkpoint import CheckpointMetadata, save_native
from rawisp.data.fresh import FreshNight, fresh_night
from rawisp.geometry import fit_size
from rawisp.isp.registry import create_isp
from rawisp.isp.staged_unet import StagedUnetIsp

NIGHTS, CROPS, SIDE = 3, 3, 112


def photographs(folder: Path, fit: tuple[int, int]) -> list[FreshNight]:
    """What can be darkened anew, at the size that `fit` gives."""
    found = []
    for entry in read_manifest(str(folder / FILE_NAME)).values():
        width, height = (side // 2 for side in entry["mosaic_size"])
        night = fresh_night(entry, "xyz", fit_size(width, height, fit))
        if night is not None:
            found.append(night)
    return found


def lesson(night: FreshNight, seed: list[int], isp: StagedUnetIsp) -> tuple[Tensor, Tensor, Tensor]:
    """(crops (CROPS, 3, SIDE, SIDE), gains (CROPS, 3), the same crops by day)."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(night(rng)) * float(2.0 ** rng.uniform(-0.4, 0.4))
    day = torch.from_numpy(night.by_day())
    with torch.no_grad():
        gain = isp.predict(x[None])["gain"]
    crops, days = [], []
    for _ in range(CROPS):
        top = int(rng.integers(0, max(1, x.shape[1] - SIDE + 1)))
        left = int(rng.integers(0, max(1, x.shape[2] - SIDE + 1)))
        flip = [2] if rng.random() < 0.5 else []
        crops.append(x[:, top : top + SIDE, left : left + SIDE].flip(flip))
        days.append(day[:, top : top + SIDE, left : left + SIDE].flip(flip))
    return torch.stack(crops), gain.repeat(CROPS, 1), torch.stack(days)


def difference(y: Tensor, day: Tensor) -> Tensor:
    """Mean absolute difference of the pictures, and of their steps to the right and downwards."""
    loss = (y - day).abs().mean()
    for axis in (2, 3):
        loss = loss + (y.diff(dim=axis) - day.diff(dim=axis)).abs().mean()
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nights", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--fit", type=int, nargs=2, default=(400, 300))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    isp: Any = create_isp("staged-unet", grey_world=False).train()
    nights = photographs(given.nights, tuple(given.fit))
    optimizer = torch.optim.Adam(isp.parameters(), 2e-3)
    start, shown = time.monotonic(), 0.0
    with ThreadPoolExecutor(2) as pool:

        def ask(step: int) -> list[Any]:
            rng = np.random.default_rng([given.seed, step])
            chosen = rng.choice(len(nights), NIGHTS, replace=False)
            return [pool.submit(lesson, nights[n], [given.seed, step, int(n)], isp) for n in chosen]

        waiting = [ask(0), ask(1)]
        for step in range(given.steps):
            waiting.append(ask(step + 2))
            parts = [future.result() for future in waiting.pop(0)]
            x, gain, day = (torch.cat(part) for part in zip(*parts, strict=True))
            warm = min(1.0, (step + 1) / 100)
            lr = 2e-3 * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * step / given.steps)) / 2)
            optimizer.param_groups[0]["lr"] = lr
            loss = difference(isp.apply(x, {"gain": gain}), day)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(isp.parameters(), 0.5)
            optimizer.step()
            shown += (float(loss.detach()) - shown) / min(step + 1, 50)
            if (step + 1) % 100 == 0 or step + 1 == given.steps:
                print(f"{step + 1}: {shown:.4f}, {time.monotonic() - start:.0f} s", flush=True)
                metadata = CheckpointMetadata(
                    given.out.stem, "staged-unet", "xyz", fit=tuple(given.fit),
                    provenance={"training": f"by day, {step + 1} steps, seed {given.seed}"},
                )  # fmt: skip
                save_native(isp, str(given.out), metadata)


if __name__ == "__main__":
    main()
