"""Runs of one value and repeated rows, against slow twins in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rawisp.kernels import damage

Array = npt.NDArray[Any]


def runs(mosaic: Array, shortest: int) -> tuple[Array, Array]:
    start, length = np.full(len(mosaic), -1, np.int64), np.full(len(mosaic), -1, np.int64)
    damage.longest_flat_runs(mosaic, shortest, start, length)
    return start, length


def longest_run(row: list[int]) -> int:
    """The length of the longest stretch in which each sample equals the one two before it."""
    best = 0
    for first in range(len(row)):
        last = first + 1
        while last + 1 < len(row) and row[last + 1] == row[last - 1]:
            last += 1
        if last >= first + 2:
            best = max(best, last - first + 1)
    return best


few_values = hnp.arrays(np.uint16, st.tuples(st.integers(1, 5), st.integers(3, 90)),
                        elements=st.integers(0, 2))  # fmt: skip


@given(mosaic=few_values, shortest=st.integers(3, 12))
def test_the_longest_run_is_the_twins(mosaic: Array, shortest: int) -> None:
    start, length = runs(mosaic, shortest)
    for row, first, found in zip(mosaic.tolist(), start, length, strict=True):
        expected = longest_run(row)
        if expected >= shortest:
            assert found == expected
            assert all(row[x] == row[x - 2] for x in range(first + 2, first + found))
        else:
            assert found == 0


@pytest.mark.parametrize("at", [0, 1, 31, 32, 33, 100, 136])
def test_a_run_of_the_shortest_length_is_found_wherever_it_is(at: int) -> None:
    mosaic = np.arange(200, dtype=np.uint16)[None].repeat(2, 0)
    mosaic[1, at : at + 64] = 7
    start, length = runs(mosaic, 64)
    assert length[0] == 0
    assert length[1] >= 64
    assert start[1] <= at


def test_alternating_colours_make_one_run() -> None:
    mosaic = np.tile(np.array([5, 9], np.uint16), 40)[None]
    assert [one.tolist() for one in runs(mosaic, 64)] == [[0], [80]]


@given(few_values)
def test_repeated_rows_equal_the_row_two_above(mosaic: Array) -> None:
    repeats = np.ones(len(mosaic), np.bool_)
    damage.repeated_rows(mosaic, repeats)
    expected = [y >= 2 and mosaic[y].tolist() == mosaic[y - 2].tolist() for y in range(len(mosaic))]
    assert repeats.tolist() == expected
