"""The kernels of `staged` against a twin of one pixel at a time in float64, gradients by its
differences."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rawisp.kernels import stages

Array = npt.NDArray[Any]
FLOOR = 1e-4


@dataclass(frozen=True)
class Stages:
    """Parameters in float64."""

    matrix: Array
    clip: tuple[float, float]
    desaturation: float
    shoulder: float
    knots: Array
    steps: Array
    exponent: float

    def arguments(self) -> tuple[Any, ...]:
        f = np.float32
        return (
            self.matrix.astype(f),
            f(self.clip[0]),
            f(self.clip[1]),
            f(self.desaturation),
            f(self.shoulder),
            self.knots.astype(f),
            self.steps.astype(f),
            f(self.exponent),
        )


def stages_of(rng: np.random.Generator, shoulder: float, clip: tuple[float, float]) -> Stages:
    """Values that float32 holds exactly, so that both sides see the same."""
    matrix = np.eye(3) * 1.2 + rng.normal(size=(3, 3)) * 0.2
    steps = rng.random(16) + 0.2
    steps /= steps.sum()
    knots = np.concatenate([[0.0], np.cumsum(steps)])
    exact = [a.astype(np.float32).astype(np.float64) for a in (matrix, knots, steps)]
    return Stages(exact[0], clip, 0.25, shoulder, exact[1], exact[2], 0.5)


def linear_twin(pixel: Array, s: Stages) -> list[float]:
    """One pixel, three channels, in front of the roll-off."""
    y = [sum(s.matrix[i, j] * float(pixel[j]) for j in range(3)) for i in range(3)]
    if s.clip[1] > 0.0:
        start, end = (float(np.float32(v)) for v in s.clip)
        share = min(max((float(max(pixel)) - start) / (end - start), 0.0), 1.0)
        y = [v + share * (max(y) - v) for v in y]
    grey = sum(y) / 3.0
    return [v + s.desaturation * (grey - v) for v in y]


def twin(pixel: Array, s: Stages) -> list[float]:
    """One pixel, three channels."""
    out = []
    for faded in linear_twin(pixel, s):
        faded = max(faded, 0.0)
        if s.shoulder >= 1.0:
            faded = min(faded, 1.0)
        elif faded > s.shoulder:
            room = 1.0 - s.shoulder
            faded = 1.0 - room * math.exp((s.shoulder - faded) / room)
        k = min(int(faded * 16.0), 15)
        toned = s.knots[k] + (faded * 16.0 - k) * s.steps[k]
        out.append(max(toned, FLOOR) ** s.exponent)
    return out


def twin_image(x: Array, s: Stages) -> Array:
    """(3, H, W) float64."""
    pixels = x.reshape(3, -1).T
    return np.array([twin(p, s) for p in pixels]).T.reshape(x.shape)


def twin_sharpen(encoded: Array, strength: float, blur: Array) -> Array:
    """(3, H, W) float64, with repeated edges."""
    padded = np.pad(encoded.astype(np.float64), ((0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = encoded.shape[1:]
    blurred = np.zeros(encoded.shape)
    for d in range(3):
        for r in range(3):
            blurred += blur[d, r] * padded[:, d : d + height, r : r + width]
    return np.asarray(encoded + strength * (encoded - blurred))


def slope(function: Any, at: Array, index: tuple[int, ...], step: float = 1e-6) -> float:
    """The central difference of a scalar function of an array."""
    up, down = at.copy(), at.copy()
    up[index] += step
    down[index] -= step
    return float(function(up) - function(down)) / (2 * step)


SHOULDERS, CLIPS = st.sampled_from([1.0, 0.75]), st.sampled_from([(0.0, 0.0), (0.5, 0.75)])


def image_of(rng: np.random.Generator, height: int, width: int) -> Array:
    """Dark, bright and a few negative values."""
    return ((rng.random((3, height, width)) * 1.2) ** 2 - 0.02).astype(np.float32)


@hypothesis_settings(max_examples=30)
@given(shoulder=SHOULDERS, clip=CLIPS, seed=st.integers(0, 10**6), width=st.integers(1, 20))
def test_encode_equals_the_twin(
    shoulder: float, clip: tuple[float, float], seed: int, width: int
) -> None:
    rng = np.random.default_rng(seed)
    s, x = stages_of(rng, shoulder, clip), image_of(rng, 3, width)
    out = np.full_like(x, np.nan)
    stages.encode(x, *s.arguments(), out)
    np.testing.assert_allclose(out, twin_image(x, s), atol=3e-5)


@hypothesis_settings(max_examples=8, deadline=None)
@given(shoulder=SHOULDERS, clip=CLIPS, seed=st.integers(0, 10**6))
def test_the_gradient_is_that_of_the_twin(
    shoulder: float, clip: tuple[float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    s, x = stages_of(rng, shoulder, clip), image_of(rng, 4, 5)
    # Where the curves have corners, the roll-off's among them, differences say nothing.
    pieces = np.array([linear_twin(p, s) for p in x.reshape(3, -1).T]) * 16.0
    assume(bool((np.abs(pieces - np.round(pieces)) > 4e-3).all()))
    weight = rng.normal(size=x.shape).astype(np.float32)
    encoded = np.empty_like(x)
    stages.encode(x, *s.arguments(), encoded)
    found = [np.zeros(shape) for shape in ((3, 3), 17, 16, 1, 1)]
    stages.encode_gradient(x, *s.arguments(), encoded, weight, *found)
    scalars = np.array([s.desaturation, s.exponent])

    def total(changed: Stages) -> float:
        return float((twin_image(x, changed) * weight).sum())

    def check(got: float, wanted: float) -> None:
        assert got == pytest.approx(wanted, rel=2e-3, abs=2e-3)

    for i, j in np.ndindex(3, 3):
        wanted = slope(lambda m: total(replace(s, matrix=m)), s.matrix, (i, j))
        check(found[0][i, j], wanted)
    for k in range(17):
        check(found[1][k], slope(lambda v: total(replace(s, knots=v)), s.knots, (k,)))
    for k in range(16):
        check(found[2][k], slope(lambda v: total(replace(s, steps=v)), s.steps, (k,)))
    check(found[3][0], slope(lambda v: total(replace(s, desaturation=float(v[0]))), scalars, (0,)))
    check(found[4][0], slope(lambda v: total(replace(s, exponent=float(v[1]))), scalars, (1,)))


@hypothesis_settings(max_examples=20)
@given(height=st.integers(1, 6), width=st.integers(1, 7), seed=st.integers(0, 10**6))
def test_sharpening_and_its_gradient(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    encoded = rng.random((3, height, width)).astype(np.float32)
    weight = rng.normal(size=encoded.shape).astype(np.float32)
    blur = rng.random((3, 3)).astype(np.float32)
    out, to_encoded = np.empty_like(encoded), np.full_like(encoded, np.nan)
    stages.sharpen(encoded, np.float32(0.5), blur, out)
    np.testing.assert_allclose(out, twin_sharpen(encoded, 0.5, blur), atol=1e-5)

    to_strength, to_blur = np.zeros(1), np.zeros((3, 3))
    stages.sharpen_gradient(
        encoded, np.float32(0.5), blur, weight, to_encoded, to_strength, to_blur
    )

    def total(e: Array, strength: float, b: Array) -> float:
        return float((twin_sharpen(e, strength, b) * weight).sum())

    exact, kernel = encoded.astype(np.float64), blur.astype(np.float64)
    for at in np.ndindex(*encoded.shape):
        wanted = slope(lambda e: total(e, 0.5, kernel), exact, at)
        assert to_encoded[at] == pytest.approx(wanted, abs=1e-4)
    for at in np.ndindex(3, 3):
        wanted = slope(lambda b: total(exact, 0.5, b), kernel, at)
        assert to_blur[at] == pytest.approx(wanted, abs=1e-4)
    wanted = slope(lambda v: total(exact, float(v[0]), kernel), np.array([0.5]), (0,))
    assert to_strength[0] == pytest.approx(wanted, abs=1e-4)


def test_what_is_no_number_stays_none() -> None:
    x = np.full((3, 1, 2), 0.2, np.float32)
    x[:, 0, 1] = np.nan
    encoded = np.empty_like(x)
    for shoulder in (1.0, 0.75):
        s = stages_of(np.random.default_rng(0), shoulder, (0.0, 0.0))
        stages.encode(x, *s.arguments(), encoded)
        assert np.isfinite(encoded[:, 0, 0]).all() and np.isnan(encoded[:, 0, 1]).all()
