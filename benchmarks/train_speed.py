"""Training samples per second at 600x400, batch 8, on the CPU, against loops as papers write them.

    python -m benchmarks.train_speed [--dry-run]

The reference decodes an image for each sample and epoch and runs one image at a time through ISP
and detector. It decodes as the published reproductions do: rawpy, float64 NumPy, one einsum
(`pack_kernel.einsum_reference`), then PyTorch's antialiased resize. The lean reference is the same
loop by somebody who has read about memory bandwidth: float32, planar. Ours packs each file once,
reads the cache by two threads, and runs batches of eight as `rawisp train` does: an image per
thread. All use the same frozen detector (`tiny`), the same losses and optimiser, and take turns, in
two processes: in the references' `staged` consists of PyTorch's operations and freed memory goes
back to the system, as it does unless somebody sees to it. With --amp the detector computes in
bfloat16. The profile: the share of its time that our loop waits for the loader, and the seconds
that ISP and detector take for a sample on one thread.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
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
from rawisp.isp import staged
from rawisp.isp.registry import create_isp
from rawisp.train.gradient import Gradients, StepLoss, gradients, pieces_at_once, pieces_of
from rawisp.train.loader import Batch, Loader
from rawisp.train.machine import keep_freed_memory
from rawisp.train.step import Step, render

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
    """Files, an ISP and its optimiser, and the loops over them; one in each process."""

    def __init__(self, paths: list[str], arrays: list[str], size: tuple[int, int]) -> None:
        self.paths = paths
        self.guide = create_guide("tiny")
        freeze(self.guide)
        self.categories = category_map(("person", "bicycle", "car"), self.guide)
        self.images = [
            PreparedImage(
                name=str(n),
                source=path,
                array=array,
                size=size,
                boxes=BOX * (size[0] / 600),
                classes=np.array([0]),
                ignore=np.array([False]),
            )
            for n, (path, array) in enumerate(zip(paths, arrays, strict=True))
        ]
        self.epoch, self.waited_s, self.decoding_s = 0, 0.0, 0.0

    def use(self, name: str) -> None:
        """The ISP to be trained from here on."""
        isp = create_isp(name)
        self.step = Step(isp, self.guide)
        self.amp_step = Step(isp, self.guide, amp=True)
        self.optimizer = torch.optim.Adam(isp.parameters(), 1e-3)
        self.at_once = pieces_at_once(isp, self.guide, torch.device("cpu"), 8)

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
        with gradients(self.at_once) as adder:
            while True:
                start = time.perf_counter()
                batch = next(batches, None)
                self.waited_s += time.perf_counter() - start
                if batch is None:
                    return
                self._learn(batch, step, adder)

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
            target = Target(torch.from_numpy(self.images[0].boxes), torch.tensor([label]))
            self.optimizer.zero_grad(set_to_none=True)
            terms = self.step([x], [target])
            torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    def parts(self) -> dict[str, float]:
        """Seconds per sample of ISP and of detector, each forward and backward by itself, on one
        thread."""
        loader = Loader(self.images, self.categories, AugmentSettings(), 8, seed=0)
        batch = next(iter(loader.epoch(0)))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        seconds: dict[str, list[float]] = {"isp": [], "detector": []}
        for _ in range(3):
            spent = {"isp": 0.0, "detector": 0.0}
            for image, target in zip(batch.images, batch.targets, strict=True):
                start = time.perf_counter()
                (rendered,) = render(self.step.isp, [image])
                rendered.mean().backward()  # type: ignore[no-untyped-call]
                middle = time.perf_counter()
                leaf = rendered.detach().requires_grad_()
                terms = self.step.guide.losses([leaf], [target])
                torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
                spent["isp"] += middle - start
                spent["detector"] += time.perf_counter() - middle
            for name, value in spent.items():
                seconds[name].append(value / len(batch.images))
        torch.set_num_threads(threads)
        return {name: round(median(values), 4) for name, values in seconds.items()}

    def _learn(self, batch: Batch, step: Step, adder: Gradients) -> None:
        """One step of the optimiser, from the mean over the images, as `rawisp train` takes it."""
        count = len(batch.images)

        def loss(piece: Batch) -> StepLoss:
            terms = step(piece.images, piece.targets)
            return StepLoss(torch.stack(list(terms.values())).sum() / count, {}, count)

        self.optimizer.zero_grad(set_to_none=True)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        losses = [partial(loss, piece) for piece in pieces_of(batch, self.at_once)]
        adder.add(losses, parameters, 1.0)
        self.optimizer.step()


class Process:
    """A Bench in a process of its own: `as_published` without what rawisp does for speed."""

    def __init__(self, as_published: bool, *given: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(1, spawn, _begin, (as_published, *given))

    def call(self, name: str, *given: Any) -> Any:
        """What the method, or the attribute, of that name gives."""
        return self.pool.submit(_answer, name, *given).result()


_bench: list[Bench] = []


def _begin(as_published: bool, *given: Any) -> None:
    if as_published:
        staged.usable = lambda _: False
    else:
        keep_freed_memory()
    _bench.append(Bench(*given))


def _answer(name: str, *given: Any) -> Any:
    found = getattr(_bench[0], name)
    return found(*given) if callable(found) else found


def measured(name: str, ours: Process, theirs: Process, files: int, repeats: int) -> Any:
    """(times of each loop, the row) of one ISP."""
    for process in (ours, theirs):
        process.call("use", name)
    loops = {
        "ours": partial(ours.call, "ours"),
        "ours_amp": partial(ours.call, "ours_amp"),
        "reference": partial(theirs.call, "reference"),
        "lean_reference": partial(theirs.call, "lean_reference"),
    }
    times = interleaved(loops, repeats)
    middle = {who: median(t) for who, t in times.items()}
    return times, {
        "seconds_per_sample": ours.call("parts"),
        "samples_per_s": {who: round(files / t, 2) for who, t in middle.items()},
        "ratio": round(middle["reference"] / middle["ours"], 2),
        "amp_ratio": round(middle["reference"] / middle["ours_amp"], 2),
        "lean_ratio": round(middle["lean_reference"] / middle["ours"], 2),
        "lean_reference_decoding_share": round(
            theirs.call("decoding_s") / times["lean_reference"][-1], 2
        ),
        "share_waiting_for_loader": round(ours.call("waited_s") / times["ours_amp"][-1], 3),
    }


def main() -> None:
    dry_run = "--dry-run" in sys.argv
    distinct, height, width = (16, 4000, 6000) if not dry_run else (8, 120, 180)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit = FIT if not dry_run else (60, 40)
        paths = make_files(folder, distinct, distinct, height, width)
        settings = PackSettings(dtype="float16", orient="upright", fit=fit)
        start = time.perf_counter()
        records = pack_folder(folder / "in", folder / "cache", settings).records
        packing_s = time.perf_counter() - start
        arrays = [str(folder / "cache" / record["output"]) for record in records]
        given = ([r["source"] for r in records], arrays, tuple(records[0]["output_size"]))
        ours, theirs = Process(False, *given), Process(True, *given)
        times: dict[str, list[float]] = {}
        rows: dict[str, Any] = {}
        for isp in ISPS:
            found, rows[isp] = measured(isp, ours, theirs, len(paths), 1 if dry_run else 3)
            times |= {f"{isp}, {who}": t for who, t in found.items()}
        result = {
            "size": list(fit),
            "batch": 8,
            "files": distinct,
            "megapixels": height * width / 1e6,
            "times": {name: summary(t) for name, t in times.items()},
            "isps": rows,
            "packing_once_s": round(packing_s, 2),
        }
        report("train_speed", result, dry_run=dry_run)
        for process in (ours, theirs):
            process.pool.shutdown()


if __name__ == "__main__":
    main()
