"""pack_bayer as its documentation states it, and the ways packed images are stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rawisp.errors import InvalidArrayError, UsageError
from rawisp.packing import (
    UINT16_OFFSET,
    UINT16_SCALE,
    decode_packed,
    encode_packed,
    pack_bayer,
)

Array = npt.NDArray[Any]

BLACK = (500.0, 510.0, 520.0, 530.0)  # R, G1, B, G2
WHITE = (15000.0, 15100.0, 15200.0, 15300.0)
MATRIX = np.array([[1.15784, 0.39619, 0.02467], [0.43625, 0.97382, -0.31588], [0.1, -0.2, 1.75]])
patterns = st.sampled_from(["RGGB", "GRBG", "GBRG", "BGGR"])


def twin(mosaic: Array, pattern: str, black: Any, white: Any, matrix: Array | None) -> Array:
    """(H // 2, W // 2, 3) float64 from the definition: which letter, whose row, which level."""
    rows, columns = mosaic.shape[0] // 2, mosaic.shape[1] // 2
    out = np.zeros((rows, columns, 3))
    for y in range(rows):
        for x in range(columns):
            red, greens, blue = 0.0, [], 0.0
            for dy in (0, 1):
                row_letters = pattern[2 * dy : 2 * dy + 2]
                for dx in (0, 1):
                    letter = row_letters[dx]
                    index = {"R": 0, "B": 2}.get(letter, 1 if "R" in row_letters else 3)
                    sample = float(mosaic[2 * y + dy, 2 * x + dx])
                    value = (sample - black[index]) / (white[index] - black[index])
                    if letter == "R":
                        red = value
                    elif letter == "B":
                        blue = value
                    else:
                        greens.append(value)
            rgb = np.array([red, (greens[0] + greens[1]) / 2, blue])
            out[y, x] = rgb if matrix is None else matrix @ rgb
    return out


def noise(height: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 16384, (height, width)).astype(np.uint16)


def packed(mosaic: Array, pattern: str = "RGGB", **options: Any) -> Array:
    options = {"black": BLACK, "white": WHITE, "matrix": MATRIX} | options
    return pack_bayer(mosaic, pattern=pattern, **options)


@hypothesis_settings(max_examples=60)
@given(
    pattern=patterns,
    height=st.integers(2, 11),
    width=st.integers(2, 19),
    seed=st.integers(0, 10**6),
    layout=st.sampled_from(["hwc", "chw"]),
    with_matrix=st.booleans(),
)
def test_every_pixel_follows_the_definition(
    pattern: str, height: int, width: int, seed: int, layout: Any, with_matrix: bool
) -> None:
    mosaic = noise(height, width, seed)
    matrix = MATRIX if with_matrix else None
    result = packed(mosaic, pattern, matrix=matrix, layout=layout)
    hwc = np.moveaxis(result, 0, -1) if layout == "chw" else result
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert hwc.shape == (height // 2, width // 2, 3)
    np.testing.assert_allclose(hwc, twin(mosaic, pattern, BLACK, WHITE, matrix), atol=1e-6)


@hypothesis_settings(max_examples=40)
@given(pattern=patterns, cell=st.lists(st.integers(0, 65535), min_size=4, max_size=4))
def test_rolling_a_periodic_mosaic_and_renaming_its_phase_changes_nothing(
    pattern: str, cell: list[int]
) -> None:
    """A green takes its row along when it moves, so the four levels need no renaming."""
    mosaic = np.tile(np.array(cell, np.uint16).reshape(2, 2), (3, 4))
    tl, tr, bl, br = pattern
    original = packed(mosaic, pattern)
    by_column = packed(np.roll(mosaic, 1, axis=1), tr + tl + br + bl)
    by_row = packed(np.roll(mosaic, 1, axis=0), bl + br + tl + tr)
    np.testing.assert_allclose(by_column, original, atol=2e-6)
    np.testing.assert_allclose(by_row, original, atol=2e-6)


def test_one_level_means_the_same_as_four_equal_ones() -> None:
    mosaic = noise(10, 14)
    one = packed(mosaic, black=512, white=16383.0)
    four = packed(mosaic, black=[512] * 4, white=np.full(4, 16383.0))
    assert np.array_equal(one, four)


def test_black_is_zero_and_white_is_one_in_camera_colours() -> None:
    assert np.array_equal(
        packed(np.full((4, 4), 600, np.uint16), black=600, white=4095, matrix=None),
        np.zeros((2, 2, 3), np.float32),
    )
    np.testing.assert_allclose(
        packed(np.full((4, 4), 4095, np.uint16), black=600, white=4095, matrix=None), 1.0, atol=1e-6
    )


def test_a_sample_below_black_is_a_small_negative_number() -> None:
    """With uint16 arithmetic 599 - 600 is 65535: a white dot in every dark corner."""
    result = packed(np.full((2, 2), 599, np.uint16), black=600, white=4600, matrix=None)
    np.testing.assert_allclose(result, -1 / 4000, rtol=1e-6)


def test_values_above_white_are_kept() -> None:
    result = packed(np.full((2, 2), 9000, np.uint16), black=0, white=4500, matrix=None)
    np.testing.assert_allclose(result, 2.0, rtol=1e-6)


@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_a_dark_frames_noise_keeps_its_mean(layout: Any) -> None:
    rng = np.random.default_rng(5)
    dark = np.rint(rng.normal(800, 25, (400, 600))).astype(np.uint16)
    result = packed(dark, black=800, white=16383, matrix=None, layout=layout)
    step = 1 / (16383 - 800)
    assert abs(float(result.mean(dtype=np.float64))) < 0.2 * step
    assert 0.4 < float((result < 0).mean()) < 0.6
    assert float(result.min()) < -50 * step


def test_both_layouts_hold_the_same_numbers() -> None:
    mosaic = noise(31, 45)
    chw = packed(mosaic, "GBRG", layout="chw")
    assert np.array_equal(np.moveaxis(chw, 0, -1), packed(mosaic, "GBRG"))


@pytest.mark.parametrize("threads", [2, 3, 7, 64])
@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_threads_change_nothing(layout: Any, threads: int) -> None:
    mosaic = noise(46, 30)
    one = packed(mosaic, layout=layout, threads=1)
    assert np.array_equal(one, packed(mosaic, layout=layout, threads=threads))


def test_a_large_mosaic_that_is_split_by_default_equals_one_thread() -> None:
    mosaic = noise(1000, 1700)
    assert np.array_equal(packed(mosaic), packed(mosaic, threads=1))


@pytest.mark.parametrize(("layout", "shape"), [("hwc", (4, 7, 3)), ("chw", (3, 4, 7))])
def test_out_is_filled_and_returned(layout: Any, shape: tuple[int, ...]) -> None:
    mosaic = noise(9, 15)
    out = np.full(shape, np.nan, np.float32)
    assert packed(mosaic, layout=layout, out=out) is out
    assert np.array_equal(out, packed(mosaic, layout=layout))


@pytest.mark.parametrize(
    "view",
    [lambda m: m[:, ::-1], lambda m: m[::2], lambda m: m.T, lambda m: m[1:, 3:]],
    ids=["mirrored", "every other row", "transposed", "cut"],
)
def test_a_mosaic_in_any_memory_order_gives_what_its_values_say(view: Any) -> None:
    mosaic = view(noise(24, 30))
    expected = twin(mosaic, "RGGB", BLACK, WHITE, MATRIX)
    np.testing.assert_allclose(packed(mosaic), expected, atol=1e-6)


def test_the_mosaic_is_not_changed() -> None:
    mosaic = noise(8, 8)
    mosaic.flags.writeable = False
    packed(mosaic)


GOOD = np.zeros((4, 6), np.uint16)
SHARED = np.zeros(36, np.uint16)


def frozen(shape: tuple[int, ...]) -> Array:
    array = np.zeros(shape, np.float32)
    array.flags.writeable = False
    return array


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "float mosaic": ({"mosaic": GOOD.astype(np.float32)}, "mosaic"),
    "signed mosaic": ({"mosaic": GOOD.astype(np.int16)}, "mosaic"),
    "big-endian mosaic": ({"mosaic": GOOD.astype(">u2")}, "mosaic"),
    "three-dimensional mosaic": ({"mosaic": np.zeros((4, 6, 1), np.uint16)}, "mosaic"),
    "list for a mosaic": ({"mosaic": [[0, 0], [0, 0]]}, "mosaic"),
    "one row": ({"mosaic": np.zeros((1, 6), np.uint16)}, "mosaic"),
    "empty mosaic": ({"mosaic": np.zeros((0, 0), np.uint16)}, "mosaic"),
    "no such pattern": ({"pattern": "RGBG"}, "pattern"),
    "lower-case pattern": ({"pattern": "rggb"}, "pattern"),
    "no such layout": ({"layout": "hcw"}, "layout"),
    "three blacks": ({"black": (1, 2, 3)}, "black"),
    "black of 2x2": ({"black": np.zeros((2, 2))}, "black"),
    "black is NaN": ({"black": np.nan}, "black"),
    "white is infinite": ({"white": np.inf}, "white"),
    "five whites": ({"white": [9000] * 5}, "white"),
    "white equals black": ({"black": 800, "white": 800}, "white"),
    "white below one black": ({"black": (0, 0, 0, 9999), "white": 9000}, "white"),
    "matrix of nine": ({"matrix": np.eye(3).ravel()}, "matrix"),
    "matrix 3x4": ({"matrix": np.ones((3, 4))}, "matrix"),
    "matrix with NaN": ({"matrix": np.full((3, 3), np.nan)}, "matrix"),
    "matrix with infinity": ({"matrix": np.full((3, 3), np.inf)}, "matrix"),
    "out of another shape": ({"out": np.zeros((2, 3, 4), np.float32)}, "out"),
    "out in the other layout": ({"out": np.zeros((3, 2, 3), np.float32)}, "out"),
    "out in float64": ({"out": np.zeros((2, 3, 3))}, "out"),
    "out transposed": ({"out": np.zeros((3, 2, 3), np.float32).transpose(1, 0, 2)}, "out"),
    "out read-only": ({"out": frozen((2, 3, 3))}, "out"),
    "list for out": ({"out": []}, "out"),
    "out over the mosaic": (
        {"mosaic": SHARED[:24].reshape(4, 6), "out": SHARED.view(np.float32).reshape(2, 3, 3)},
        "out",
    ),
}


@pytest.mark.parametrize(("change", "named"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_are_named(change: dict[str, Any], named: str) -> None:
    arguments: dict[str, Any] = {"mosaic": GOOD, "pattern": "RGGB", "black": 0, "white": 9000}
    arguments |= {"matrix": None, **change}
    with pytest.raises(InvalidArrayError) as caught:
        pack_bayer(arguments.pop("mosaic"), **arguments)
    message = str(caught.value)
    assert named in message
    assert "\n" not in message
    assert isinstance(caught.value, UsageError | ValueError)


# --- stored forms --------------------------------------------------------------------------------

values = st.floats(-0.65625, 1.984375, width=32)


@given(st.lists(values, min_size=1, max_size=30))
def test_uint16_is_within_half_a_step_and_its_formula_is_as_documented(
    numbers: list[float],
) -> None:
    image = np.array(numbers, np.float32)
    stored = encode_packed(image, "uint16")
    assert stored.dtype == np.uint16
    by_formula = stored.astype(np.float64) / 24576 - 16384 / 24576
    assert np.abs(by_formula - image).max() <= 0.51 / 24576
    np.testing.assert_allclose(decode_packed(stored), by_formula, atol=2e-7)


@given(st.lists(values, min_size=1, max_size=30))
def test_float16_is_within_half_a_step(numbers: list[float]) -> None:
    image = np.array(numbers, np.float32)
    stored = encode_packed(image, "float16")
    assert stored.dtype == np.float16
    back = decode_packed(stored)
    assert back.dtype == np.float32
    assert (np.abs(back - image) <= np.maximum(np.abs(image) * 2.0**-11, 2.0**-25)).all()


def test_every_uint16_code_survives_the_round_trip() -> None:
    codes = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(encode_packed(decode_packed(codes), "uint16"), codes)


def test_uint16_cuts_what_lies_outside_and_keeps_zero_exact() -> None:
    image = np.array([-5.0, -0.7, 0.0, 2.1, 50.0, np.inf, -np.inf], np.float32)
    assert encode_packed(image, "uint16").tolist() == [0, 0, 16384, 65535, 65535, 65535, 0]
    assert decode_packed(np.array([16384], np.uint16))[0] == 0.0
    assert UINT16_SCALE == 1 / 24576
    assert UINT16_OFFSET == -2 / 3


def test_float32_is_kept_as_it_is() -> None:
    image = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    assert np.array_equal(decode_packed(encode_packed(image, "float32")), image)


@pytest.mark.parametrize("dtype", ["float64", "uint8", "", "f4"])
def test_no_other_dtype_is_stored(dtype: str) -> None:
    with pytest.raises(InvalidArrayError, match="float32, float16, uint16"):
        encode_packed(np.zeros((1, 1, 3), np.float32), dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.int16])
def test_no_other_dtype_is_read(dtype: Any) -> None:
    with pytest.raises(InvalidArrayError, match="float32, float16, uint16"):
        decode_packed(np.zeros((1, 1, 3), dtype))
