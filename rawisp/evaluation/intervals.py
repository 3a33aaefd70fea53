"""How far a number may be off because these images were taken and not others: the bootstrap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rawisp.evaluation.matches import Matches, interpolated

RESAMPLES = 200
LEVEL = 0.95


def ap50_interval(
    by_class: Sequence[Matches], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The interval in which AP50 lies in 95 % of draws of as many images, with replacement.

    The draws depend on the seed and the number of images only, so that renderings of the same
    images are judged on the same draws. NaN where there are fewer than two images, or no boxes.
    """
    counted = [matches for matches in by_class if matches.wanted.any()]
    if not counted or len(counted[0].wanted) < 2:
        return float("nan"), float("nan")
    kept = [~matches.ignored[0] for matches in counted]
    hits = [matches.hit[0][keep] for matches, keep in zip(counted, kept, strict=True)]
    images = [matches.image[keep] for matches, keep in zip(counted, kept, strict=True)]
    count = len(counted[0].wanted)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    values = []
    for times in draws.astype(np.float64):  # how often each image was drawn
        each = [
            float(interpolated(hit, wanted, times[image])[0].mean())
            for hit, image, matches in zip(hits, images, counted, strict=True)
            if (wanted := float(times @ matches.wanted)) > 0
        ]
        if each:  # a draw may have only images without boxes
            values.append(float(np.mean(each)))
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
