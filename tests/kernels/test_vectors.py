"""Row functions against NumPy's in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rawisp.kernels import vectors


def test_logarithms_and_exponentials_are_those_of_numpy() -> None:
    values = np.geomspace(1e-4, 2.0, 5000).astype(np.float32)
    room, out = np.empty_like(values), np.empty_like(values)
    vectors.logarithms(values, room, out)
    np.testing.assert_allclose(out, np.log(values.astype(np.float64)), rtol=2e-7, atol=1e-7)
    values = np.linspace(-86.0, 87.0, 5000).astype(np.float32)
    vectors.exponentials(values, room, out)
    np.testing.assert_allclose(out, np.exp(values.astype(np.float64)), rtol=3e-7)


def test_what_is_no_number_stays_none_and_beyond_the_range_is_cut() -> None:
    values = np.array([np.nan, -1000.0, 1000.0], np.float32)
    room, out = np.empty_like(values), np.empty_like(values)
    vectors.exponentials(values, room, out)
    assert np.isnan(out[0])
    np.testing.assert_allclose(out[1:], [math.exp(-87.0), math.exp(88.0)], rtol=1e-6)
    vectors.logarithms(values[:1], room[:1], out[:1])
    assert np.isnan(out[0])


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_dot_is_the_sum_of_products(count: int) -> None:
    a, b = np.random.default_rng(count).normal(size=(2, count)).astype(np.float32)
    assert vectors.dot(a, b) == pytest.approx(float(a.astype(float) @ b.astype(float)), abs=1e-4)
