"""Colour by published numbers: the specification's golden matrices, and inverses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rawisp import color
from rawisp.errors import InvalidArrayError

Array = npt.NDArray[Any]

# LibRaw's table times 1e-4, and what follows from it, to the five decimals of the specification.
RX100M7 = np.array([[10315, -4390, -937], [-4859, 12734, 2365], [-734, 1537, 5997]]) / 10000
RX100M7_INVERSE = np.array(
    [[1.15784, 0.39619, 0.02467], [0.43625, 0.97382, -0.31588], [0.02990, -0.20109, 1.75148]]
)
RX100M7_PRE_MUL = np.array([2.27590, 0.93539, 1.35702])
RX100M7_RGB_CAM = np.array(
    [[1.34736, -0.12062, -0.22674], [-0.13296, 1.53363, -0.40067], [0.00309, -0.41613, 1.41304]]
)
D750 = np.array([[9020, -2890, -715], [-4535, 12436, 2348], [-934, 1919, 7086]]) / 10000
D750_INVERSE = np.array(
    [[1.25625, 0.28706, 0.03164], [0.44985, 0.95024, -0.26948], [0.04376, -0.21950, 1.48838]]
)
D750_PRE_MUL = np.array([2.03885, 0.93614, 1.14329])

CAMERAS = {
    "RX100M7": (RX100M7, RX100M7_INVERSE, RX100M7_PRE_MUL),
    "D750": (D750, D750_INVERSE, D750_PRE_MUL),
}
each_camera = pytest.mark.parametrize(
    ("M", "inverse", "pre_mul"), CAMERAS.values(), ids=CAMERAS.keys()
)

# LibRaw 0.22's xyz_rgb, from which the published numbers follow.
S = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


@each_camera
def test_published_inverse(M: Array, inverse: Array, pre_mul: Array) -> None:
    np.testing.assert_allclose(color.output_matrix("xyz", M), inverse, atol=6e-6)
    np.testing.assert_allclose(color.CameraMatrix(M, "table").camera_to_xyz, inverse, atol=6e-6)


@each_camera
def test_published_daylight_multipliers(M: Array, inverse: Array, pre_mul: Array) -> None:
    np.testing.assert_allclose(color.white_balanced_camera_to_linear_srgb(M)[0], pre_mul, atol=6e-6)


def test_published_camera_to_srgb() -> None:
    rgb_cam = color.white_balanced_camera_to_linear_srgb(RX100M7)[1]
    np.testing.assert_allclose(rgb_cam, RX100M7_RGB_CAM, atol=6e-6)


@each_camera
def test_neutral_stays_neutral(M: Array, inverse: Array, pre_mul: Array) -> None:
    rgb_cam = color.white_balanced_camera_to_linear_srgb(M)[1]
    np.testing.assert_allclose(rgb_cam.sum(axis=1), 1.0, atol=1e-12)


@each_camera
def test_the_cameras_response_to_d65_has_d65s_chromaticity(
    M: Array, inverse: Array, pre_mul: Array
) -> None:
    X, Y, Z = color.output_matrix("xyz", M) @ (1 / pre_mul)
    np.testing.assert_allclose(np.array([X, Y]) / (X + Y + Z), [0.3127, 0.3290], atol=5e-5)


@each_camera
def test_white_balance_then_matrix_equals_the_inverse(
    M: Array, inverse: Array, pre_mul: Array
) -> None:
    """The specification's 3.1.4: with daylight multipliers both routes to XYZ agree exactly."""
    multipliers, rgb_cam = color.white_balanced_camera_to_linear_srgb(M)
    route = color.XYZ_FROM_LINEAR_SRGB @ rgb_cam @ np.diag(multipliers)
    np.testing.assert_allclose(route, color.output_matrix("xyz", M), atol=1e-14)


def test_normalising_after_inverting_would_be_another_transform() -> None:
    """Both keep grey neutral; only saturated colours tell them apart (NegPy issue 799)."""
    right = color.white_balanced_camera_to_linear_srgb(RX100M7)[1]
    wrong = np.linalg.inv(RX100M7 @ S)
    wrong = wrong / wrong.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(right @ np.ones(3), wrong @ np.ones(3), atol=1e-12)
    assert np.abs(right @ [1.0, 0.3, 0.05] - wrong @ [1.0, 0.3, 0.05]).max() > 0.1


def test_the_wrong_direction_gives_the_documented_numbers() -> None:
    """M c for the camera's response to D65 white, scaled to 1: X below zero, so it is not XYZ."""
    response = RX100M7_PRE_MUL.min() / RX100M7_PRE_MUL
    wrong = color.output_matrix("xyz-uninverted", RX100M7) @ response
    np.testing.assert_allclose(wrong, [-0.080, 1.237, 0.537], atol=6e-4)
    right = color.output_matrix("xyz", RX100M7) @ response
    np.testing.assert_allclose(right / right[1], [0.9505, 1.0, 1.0888], atol=1e-4)


@each_camera
def test_only_xyz_uses_the_inverse(M: Array, inverse: Array, pre_mul: Array) -> None:
    assert np.array_equal(color.output_matrix("xyz-uninverted", M), M)
    assert np.array_equal(color.output_matrix("camera", M), np.eye(3))
    assert np.array_equal(color.output_matrix("camera", None), np.eye(3))


@pytest.mark.parametrize("name", ["xyz", "xyz-uninverted"])
def test_xyz_without_a_matrix_is_refused(name: Any) -> None:
    with pytest.raises(InvalidArrayError, match="needs a camera matrix"):
        color.output_matrix(name, None)


def test_srgb_constants_are_the_standards() -> None:
    np.testing.assert_allclose(color.XYZ_FROM_LINEAR_SRGB, S, atol=1e-4)
    product = color.XYZ_FROM_LINEAR_SRGB @ color.LINEAR_SRGB_FROM_XYZ
    np.testing.assert_allclose(product, np.eye(3), atol=1e-14)
    white = color.XYZ_FROM_LINEAR_SRGB.sum(axis=1)
    np.testing.assert_allclose(white, [0.95047, 1.0, 1.08883], atol=1e-4)


entries = st.floats(-0.3, 0.3)


@hypothesis_settings(max_examples=60)
@given(st.lists(entries, min_size=9, max_size=9))
def test_inverse_and_matrix_undo_each_other(values: list[float]) -> None:
    M = np.eye(3) + np.array(values).reshape(3, 3)
    there = color.output_matrix("xyz", M)
    np.testing.assert_allclose(
        there @ color.output_matrix("xyz-uninverted", M), np.eye(3), atol=1e-9
    )


@hypothesis_settings(max_examples=60)
@given(st.lists(entries, min_size=9, max_size=9), st.floats(0.05, 15))
def test_scaling_the_matrix_scales_only_the_multipliers(values: list[float], k: float) -> None:
    M = np.array(RX100M7) + 0.2 * np.array(values).reshape(3, 3)
    multipliers, rgb_cam = color.white_balanced_camera_to_linear_srgb(M)
    scaled_multipliers, scaled_rgb_cam = color.white_balanced_camera_to_linear_srgb(k * M)
    np.testing.assert_allclose(scaled_multipliers, multipliers / k, rtol=1e-9)
    np.testing.assert_allclose(scaled_rgb_cam, rgb_cam, rtol=1e-7, atol=1e-9)


# --- what counts as a matrix ------------------------------------------------------------------

UNUSABLE = {
    "zeros, LibRaw's word for none": np.zeros((3, 3)),
    "NaN": np.full((3, 3), np.nan),
    "infinity": np.diag([1.0, np.inf, 1.0]),
    "one row zero": np.diag([1.0, 1.0, 0.0]),
    "two rows equal": np.array([[1, 2, 3], [1, 2, 3], [0, 0, 1]]),
    "nearly singular": np.diag([1.0, 1.0, 1e-9]),
    "4x3": np.ones((4, 3)),
    "nine in a row": np.arange(9.0),
}


@pytest.mark.parametrize("matrix", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_unusable_matrices_are_recognised(matrix: Array) -> None:
    assert not color.usable(matrix)


@pytest.mark.parametrize("matrix", [RX100M7, D750, RX100M7.tolist(), D750 * 0.01, np.eye(3)])
def test_camera_matrices_are_usable(matrix: Any) -> None:
    assert color.usable(matrix)


NINE = "1.0315 -0.4390 -0.0937 -0.4859 1.2734 0.2365 -0.0734 0.1537 0.5997"


@pytest.mark.parametrize(
    "text",
    [NINE, NINE.replace(" ", ","), NINE.replace(" ", ", "), f"  {NINE}\n", NINE.replace(" ", "\n")],
    ids=["spaces", "commas", "both", "padded", "lines"],
)
def test_nine_numbers_are_a_matrix_row_by_row(text: str) -> None:
    assert np.array_equal(color.parse_matrix(text), RX100M7)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not nine numbers"),
        ("1 0 0 0 1 0 0 0", "not nine numbers"),
        (NINE + " 1", "not nine numbers"),
        (NINE.replace("1.2734", "x"), "not nine numbers"),
        ("10315 -4390 -937 -4859 12734 2365 -734 1537 5997", "above 20"),
        ("0 0 0 0 0 0 0 0 0", "cannot be inverted"),
        ("1 2 3 2 4 6 0 0 1", "cannot be inverted"),
        (NINE.replace("1.2734", "nan"), "--matrix"),
        (NINE.replace("1.2734", "inf"), "--matrix"),
    ],
    ids=["empty", "eight", "ten", "a word", "dcraw's scale", "zeros", "singular", "nan", "inf"],
)
def test_what_is_no_matrix_is_refused_in_one_sentence(text: str, problem: str) -> None:
    with pytest.raises(InvalidArrayError) as caught:
        color.parse_matrix(text)
    assert problem in str(caught.value)
    assert str(caught.value).startswith("--matrix")
    assert "\n" not in str(caught.value)


# --- which of a DNG's matrices ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "chosen"),
    [
        ([17, 21], 21),
        ([21, 17], 21),
        ([23, 20], 20),
        ([19, 22], 19),
        ([10, 19], 10),
        ([3, 24], 24),
        ([2, 255], 2),
        ([None, 17], 17),
        ([None], None),
        ([0], 0),
        ([999], 999),
    ],
)
def test_the_illuminant_nearest_to_d65_is_chosen(codes: list[int | None], chosen: Any) -> None:
    candidates = [(code, np.eye(3) * (i + 1)) for i, code in enumerate(codes)]
    best = color.nearest_to_d65(candidates)
    assert best is not None
    assert best[0] == chosen
    assert best[1] is candidates[codes.index(chosen)][1]


def test_an_unusable_matrix_is_never_chosen() -> None:
    best = color.nearest_to_d65([(21, np.zeros((3, 3))), (17, RX100M7)])
    assert best is not None
    assert best[0] == 17
    assert color.nearest_to_d65([(21, np.zeros((3, 3)))]) is None
    assert color.nearest_to_d65([]) is None
