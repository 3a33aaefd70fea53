"""pack_bayer against the double-precision einsum of published code, and against memcpy.

    python -m benchmarks.pack_kernel [--dry-run]

The limit is memory: the kernel reads H x W x 2 bytes and writes H/2 x W/2 x 3 x 4. A memcpy that
moves as many bytes (half read, half written) is measured on one thread, as NumPy does it, and
split over as many threads as pack_bayer uses, which is the most the machine can do.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from benchmarks.measure import interleaved, median, report, summary
from rawisp import pack_bayer

BLACK, WHITE = 800.0, 16383.0


def einsum_reference(
    mosaic: npt.NDArray[np.uint16],
    matrix: npt.NDArray[np.float64],
    black: float = BLACK,
    white: float = WHITE,
) -> npt.NDArray[np.float64]:
    """What the reproductions do, with the levels applied: float64 all the way, one einsum."""
    x = (mosaic.astype(np.float64) - black) / (white - black)
    green = (x[0::2, 1::2] + x[1::2, 0::2]) / 2
    rgb = np.stack([x[0::2, 0::2], green, x[1::2, 1::2]], axis=-1)
    return np.einsum("ij,hwj->hwi", matrix, rgb)


def main() -> None:
    dry_run = "--dry-run" in sys.argv
    height, width = (72, 96) if dry_run else (3672, 5496)
    repeats = 2 if dry_run else 31
    rng = np.random.default_rng(0)
    mosaic = rng.integers(600, 16383, (height, width)).astype(np.uint16)
    matrix = np.linalg.inv(
        np.array([[1.0315, -0.439, -0.0937], [-0.4859, 1.2734, 0.2365], [-0.0734, 0.1537, 0.5997]])
    )
    options = {"pattern": "RGGB", "black": BLACK, "white": WHITE, "matrix": matrix}
    planar = np.empty((3, height // 2, width // 2), np.float32)
    interleaved_out = np.empty((height // 2, width // 2, 3), np.float32)
    moved = mosaic.nbytes + planar.nbytes
    source, target = np.ones(moved // 2, np.uint8), np.zeros(moved // 2, np.uint8)
    threads = os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    times = interleaved(
        {
            "chw": lambda: pack_bayer(mosaic, layout="chw", out=planar, **options),
            "hwc": lambda: pack_bayer(mosaic, layout="hwc", out=interleaved_out, **options),
            "chw_new_array": lambda: pack_bayer(mosaic, layout="chw", **options),
            "chw_one_thread": lambda: pack_bayer(
                mosaic, layout="chw", out=planar, threads=1, **options
            ),
            "hwc_one_thread": lambda: pack_bayer(
                mosaic, layout="hwc", out=interleaved_out, threads=1, **options
            ),
            "memcpy": lambda: np.copyto(target, source),
            "memcpy_all_threads": lambda: list(pool.map(lambda p: np.copyto(p[1], p[0]), parts)),
        },
        repeats,
    )
    reference = interleaved(
        {"einsum": lambda: einsum_reference(mosaic, matrix)}, max(2, repeats // 6)
    )
    times |= reference
    medians = {name: median(values) for name, values in times.items()}
    difference = np.abs(interleaved_out - einsum_reference(mosaic, matrix)).max()
    report(
        "pack_kernel",
        {
            "mosaic": [height, width],
            "bytes_moved": moved,
            "largest_difference_from_einsum": float(difference),
            "times": {name: summary(values) for name, values in times.items()},
            "chw_times_faster_than_einsum": round(medians["einsum"] / medians["chw"], 1),
            "hwc_times_faster_than_einsum": round(medians["einsum"] / medians["hwc"], 1),
            "chw_share_of_memcpy_bandwidth": round(medians["memcpy"] / medians["chw"], 2),
            "chw_share_of_memcpy_bandwidth_all_threads": round(
                medians["memcpy_all_threads"] / medians["chw"], 2
            ),
            "hwc_share_of_memcpy_bandwidth": round(medians["memcpy"] / medians["hwc"], 2),
            "chw_megapixels_per_second": round(height * width / 1e6 / medians["chw"]),
        },
        dry_run=dry_run,
    )


if __name__ == "__main__":
    main()
