"""Training samples per second at 600x400, batch 8, on the CPU, against loops as papers write them.

    python -m benchmarks.train_speed [--dry-run]

The reference decodes an image for each sample and epoch and runs one image at a time through ISP
and detector. It decodes as the published reproductions do: rawpy, float64 NumPy, one einsum
(`pack_kernel.einsum_reference`), then PyTorch's antialiased resize. The lean reference is the same
loop by somebody who has read about memory bandwidth: float32, planar. Ours packs each file once,
reads the cache by two threads, and runs batches of eight, in pieces as `rawisp train` divides them.
All use the same ISP (first `staged`, then `genisp`), the same frozen detector (`tiny`), the same
losses and optimiser, and take turns. With --amp the detector computes in bfloat16. The profile: the
share of its time that our loop waits for the loader, and the seconds that ISP and detector take for
a sample, each by itself.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rawpy
import torch

from benchmarks.measure import interleaved, median, report, summary
from benchmarks.pack_folder import make_files
from benchmarks.pack_kernel import einsum_reference
from rawisp.batch import PackSettings, pack_folder
from rawisp.data.augment import AugmentSettings
from rawisp.data.prepared import PreparedImage
from rawisp.detect import Target, create_guide, freeze
from rawisp.detect.categories import category_map
from rawisp.isp.registry import create_isp
from rawisp.train.loader import Batch, Loader
from rawisp.train.step import Step, render
from rawisp.train.strategy import pieces_for_cpu

FIT = (600, 400)
ISPS = ("staged", "genisp")
Packing = Callable[..., npt.NDArray[Any]]
BOX = np.array([[100.0, 100.0, 220.0, 300.0]], np.float32)


def planar_reference(
    mosaic: npt.NDArray[np.uint16], matrix: npt.NDArray[np.float64], black: float, white: float
) -> npt.NDArray[np.float32]:
    """RGGB to XYZ (3, H / 2, W / 2), in float32 NumPy."""
    x = (mosaic.astype(np.float32) - np.float32(black)) / np.float32(white - black)
    planes = [x[r::2, c::2] for r in (0, 1) for c in (0, 1)]
    rgb = np.stack([planes[0], (planes[1] + planes[2]) / 2, planes[3]])
    return np.einsum("ij,jhw->ihw", matrix.astype(np.float32), rgb)


class Bench:
    """Files, an ISP and its optimiser, and both loops over them."""

    def __init__(self, folder: Path, distinct: int, height: int, width: int, fit: Any) -> None:
        self.paths = make_files(folder, distinct, distinct, height, width)
        guide = create_guide("tiny")
        freeze(guide)
        self.guide = guide
        self.categories = category_map(("person", "bicycle", "car"), guide)
        settings = PackSettings(dtype="float16", orient="upright", fit=fit)
        start = time.perf_counter()
        report_ = pack_folder(folder / "in", folder / "cache", settings)
        self.packing_s = time.perf_counter() - start
        self.images = [
            PreparedImage(
                name=str(n),
                source=record["source"],
                array=str(folder / "cache" / record["output"]),
                size=tuple(record["output_size"]),
                boxes=BOX * (record["output_size"][0] / 600),
                classes=np.array([0]),
                ignore=np.array([False]),
            )
            for n, record in enumerate(report_.records)
        ]
        self.epoch, self.waited_s, self.decoding_s = 0, 0.0, 0.0

    def use(self, name: str) -> None:
        """The ISP to be trained from here on."""
        isp = create_isp(name)
        self.step = Step(isp, self.guide)
        self.amp_step = Step(isp, self.guide, amp=True)
        self.optimizer = torch.optim.Adam(isp.parameters(), 1e-3)

    def ours(self) -> None:
        """One epoch."""
        self._epoch(self.step)

    def ours_amp(self) -> None:
        """One epoch, the detector in bfloat16."""
        self._epoch(self.amp_step)

    def _epoch(self, step: Step) -> None:
        loader = Loader(self.images, self.categories, AugmentSettings(), 8, seed=0)
        batches = loader.epoch(self.epoch)
        self.epoch += 1
        self.waited_s = 0.0
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - start
            if batch is None:
                return
            self._learn(pieces_for_cpu(batch), step)

    def reference(self) -> None:
        """One epoch, image by image, decoded as the reproductions decode."""
        self._one_by_one(einsum_reference, channels_last=True)

    def lean_reference(self) -> None:
        """One epoch, image by image, float32 and planar."""
        self._one_by_one(planar_reference, channels_last=False)

    def _one_by_one(self, packed: Packing, *, channels_last: bool) -> None:
        self.decoding_s = 0.0
        for path in self.paths:
            start = time.perf_counter()
            with rawpy.imread(path) as raw:
                mosaic = raw.raw_image_visible.copy()
                black, white = float(raw.black_level_per_channel[0]), float(raw.white_level)
                matrix = np.linalg.inv(raw.rgb_xyz_matrix[:3].astype(np.float64))
            xyz = packed(mosaic, matrix, black, white)
            planar = np.moveaxis(xyz, -1, 0) if channels_last else xyz
            size = self.images[0].size
            x = torch.nn.functional.interpolate(
                torch.from_numpy(planar)[None], size[::-1], mode="bilinear", antialias=True
            )[0].float()
            self.decoding_s += time.perf_counter() - start
            label = int(self.categories.labels[0])
            boxes = torch.from_numpy(self.images[0].boxes)
            self._learn([Batch([x], [Target(boxes, torch.tensor([label]))], [path])], self.step)

    def parts(self) -> dict[str, float]:
        """Seconds per sample of ISP and of detector, each forward and backward by itself."""
        loader = Loader(self.images, self.categories, AugmentSettings(), 8, seed=0)
        batch = next(iter(loader.epoch(0)))
        seconds: dict[str, list[float]] = {"isp": [], "detector": []}
        for _ in range(3):
            spent = {"isp": 0.0, "detector": 0.0}
            for piece in pieces_for_cpu(batch):
                start = time.perf_counter()
                rendered = render(self.step.isp, piece.images)
                torch.stack([y.mean() for y in rendered]).sum().backward()  # type: ignore[no-untyped-call]
                middle = time.perf_counter()
                leaves = [y.detach().requires_grad_() for y in rendered]
                terms = self.step.guide.losses(leaves, piece.targets)
                torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
                spent["isp"] += middle - start
                spent["detector"] += time.perf_counter() - middle
            for name, value in spent.items():
                seconds[name].append(value / len(batch.images))
        return {name: round(median(values), 4) for name, values in seconds.items()}

    def _learn(self, pieces: list[Batch], step: Step) -> None:
        """One step of the optimiser, from the mean over all images of the pieces."""
        count = sum(len(piece.images) for piece in pieces)
        self.optimizer.zero_grad(set_to_none=True)
        for piece in pieces:
            terms = step(piece.images, piece.targets)
            loss = torch.stack(list(terms.values())).sum() / count
            loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def main() -> None:
    dry_run = "--dry-run" in sys.argv
    distinct, height, width = (16, 4000, 6000) if not dry_run else (8, 120, 180)
    with tempfile.TemporaryDirectory() as folder:
        fit = FIT if not dry_run else (60, 40)
        bench = Bench(Path(folder), distinct, height, width, fit)
        repeats = 1 if dry_run else 3
        times: dict[str, list[float]] = {}
        rows: dict[str, Any] = {}
        for name in ISPS:
            bench.use(name)
            loops = {
                "ours": bench.ours,
                "ours_amp": bench.ours_amp,
                "reference": bench.reference,
                "lean_reference": bench.lean_reference,
            }
            own = interleaved(loops, repeats)
            times |= {f"{name}, {who}": t for who, t in own.items()}
            rows[name] = {
                "seconds_per_sample": bench.parts(),
                "samples_per_s": {who: round(distinct / median(t), 2) for who, t in own.items()},
                "ratio": round(median(own["reference"]) / median(own["ours"]), 2),
                "amp_ratio": round(median(own["reference"]) / median(own["ours_amp"]), 2),
                "lean_ratio": round(median(own["lean_reference"]) / median(own["ours"]), 2),
                "lean_reference_decoding_share": round(
                    bench.decoding_s / own["lean_reference"][-1], 2
                ),
                "share_waiting_for_loader": round(bench.waited_s / own["ours"][-1], 3),
            }
        report(
            "train_speed",
            {
                "size": list(fit),
                "batch": 8,
                "files": distinct,
                "megapixels": height * width / 1e6,
                "times": {name: summary(t) for name, t in times.items()},
                "isps": rows,
                "packing_once_s": round(bench.packing_s, 2),
            },
            dry_run=dry_run,
        )


if __name__ == "__main__":
    main()
