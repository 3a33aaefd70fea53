"""The bootstrap over images."""

from __future__ import annotations

import numpy as np
import pytest

from rawisp.evaluation.average_precision import Found, Truth, average_precision
from rawisp.evaluation.intervals import ap50_interval
from rawisp.evaluation.matches import Matches, interpolated, matched, pairs_of

from .conftest import random_case


def matches_of(truths: list[Truth], found: list[Found], classes: int = 3) -> list[Matches]:
    return [matched(one, len(truths)) for one in pairs_of(truths, found, classes)]


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_copies_of_images(seed: int) -> None:
    """AP50 with weights is AP50 of a data set that has each image so many times."""
    truths, found = random_case(seed, classes=1)
    found = [  # no equal scores, whose order is a matter of taste
        Found(f.boxes, np.random.default_rng(n).random(len(f.scores)), f.classes)
        for n, f in enumerate(found)
    ]
    times = np.random.default_rng(seed).integers(0, 4, len(truths))
    copies = [n for n, count in enumerate(times) for _ in range(count)]
    expected = average_precision([truths[n] for n in copies], [found[n] for n in copies], ["a"])
    (matches,) = matches_of(truths, found, 1)
    keep = ~matches.ignored[0]
    weights = times.astype(np.float64)[matches.image[keep]]
    precision, _ = interpolated(matches.hit[0][keep], float(times @ matches.wanted), weights)
    assert precision.mean() == pytest.approx(expected.ap50, abs=1e-9)


def test_the_interval_holds_the_value_and_is_seeded() -> None:
    truths, found = random_case(1, images=60)
    matches = matches_of(truths, found)
    low, high = ap50_interval(matches)
    assert low < average_precision(truths, found, ["a", "b", "c"]).ap50 < high
    assert ap50_interval(matches) == (low, high)
    assert ap50_interval(matches, seed=1) != (low, high)


def test_more_images_narrow_it() -> None:
    def width(copies: int) -> float:
        truths, found = random_case(2, images=20)
        low, high = ap50_interval(matches_of(truths * copies, found * copies))
        return high - low

    assert width(16) == pytest.approx(width(1) / 4, rel=0.35)


def test_images_that_are_alike_leave_no_doubt() -> None:
    truth = Truth(np.array([[0.0, 0, 10, 10]]), np.array([0]))
    found = Found(truth.boxes, np.array([0.5]), truth.classes)
    assert ap50_interval(matches_of([truth] * 5, [found] * 5, 1)) == pytest.approx((1.0, 1.0))


def test_one_image_or_no_boxes_say_nothing() -> None:
    truth = Truth(np.array([[0.0, 0, 10, 10]]), np.array([0]))
    nothing = Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    none = Truth(np.zeros((0, 4)), np.zeros(0, np.int64))
    assert np.isnan(ap50_interval(matches_of([truth], [nothing], 1))).all()
    assert np.isnan(ap50_interval(matches_of([none] * 3, [nothing] * 3, 1))).all()
    assert ap50_interval(matches_of([truth] * 3, [nothing] * 3, 1)) == (0.0, 0.0)
