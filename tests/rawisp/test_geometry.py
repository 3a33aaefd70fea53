"""Where things land: dots planted in files, turned by EXIF's own definition and by LibRaw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rawpy
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rawisp import geometry
from rawisp.errors import FrameMismatchError, InvalidArrayError
from rawisp.geometry import Affine
from rawisp.raw import open_raw
from rawisp.raw.container import dng_tags
from rawisp.resize import shrink

Array = npt.NDArray[Any]
WriteRaw = Callable[..., Path]

# EXIF 2.3, tag 274: what a viewer does to a picture (rows, columns) to show it upright.
UPRIGHT: dict[int, Callable[[Array], Array]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),  # clockwise
    7: lambda a: np.rot90(a.T, 2),
    8: lambda a: np.rot90(a, 1),
}
ORIENTATIONS = list(UPRIGHT)

# ActiveArea (top, left, bottom, right) and DefaultCrop (left, top, width, height) of a 41x61 file.
LAYOUTS: dict[str, tuple[Any, Any]] = {
    "everything visible": (None, None),
    "even margins, whole crop": ((4, 6, 39, 59), (0, 0, 53, 35)),
    "odd margins, odd crop": ((3, 5, 40, 60), (1, 2, 40, 30)),
    "odd everything": ((2, 3, 41, 61), (3, 1, 51, 31)),
}
each_layout = pytest.mark.parametrize(("area", "crop"), LAYOUTS.values(), ids=LAYOUTS.keys())
each_orientation = pytest.mark.parametrize("exif", ORIENTATIONS)


def write(write_raw: WriteRaw, mosaic: Array, exif: int, area: Any, crop: Any) -> Path:
    tags = dng_tags(
        color_matrices=[(21, np.eye(3))], white=4095, active_area=area, default_crop=crop
    )
    return write_raw("a.dng", mosaic, exif_orientation=exif, extra_tags=tags)


def margins(path: Path) -> tuple[int, int]:
    """(top, left) of the visible area in the raw frame, by LibRaw."""
    with open(path, "rb") as file, rawpy.imread(file) as raw:
        return raw.sizes.top_margin, raw.sizes.left_margin


def bounding_box(mask: Array) -> list[float]:
    """COCO box of the pixels that are set."""
    rows, columns = np.nonzero(mask)
    x, y = columns.min(), rows.min()
    return [x, y, columns.max() + 1 - x, rows.max() + 1 - y]


@each_layout
@each_orientation
def test_a_planted_dot_lands_where_every_frame_says(
    write_raw: WriteRaw, exif: int, area: Any, crop: Any
) -> None:
    rng = np.random.default_rng(exif)
    blank = np.full((41, 61), 10, np.uint16)
    blank[::7] += 1
    top, left = margins(write(write_raw, blank, exif, area, crop))
    for row, column in [(0, 0), (3, 17), *rng.integers(1, 13, (3, 2)).tolist()]:
        mosaic, marker = blank.copy(), np.zeros(blank.shape, bool)
        cell = (
            slice(top + 2 * row, top + 2 * row + 2),
            slice(left + 2 * column, left + 2 * column + 2),
        )
        mosaic[cell], marker[cell] = 4000, True
        frame = open_raw(write(write_raw, mosaic, exif, area, crop))
        assert frame.frames["visible"].width == frame.mosaic.shape[1]

        upright = frame.pack("camera", orient="upright", layout="chw")[1]
        y, x = np.unravel_index(int(upright.argmax()), upright.shape)
        assert upright.max() > 0.9
        sensor = frame.pack("camera", orient="sensor")[..., 1]
        assert np.unravel_index(int(sensor.argmax()), sensor.shape) == (row, column)
        to_output, size = geometry.packed_affine(frame.visible_size, flip=frame.flip)
        assert size == (upright.shape[1], upright.shape[0])

        # The same dot, found in each frame by cutting and turning a picture of the sensor.
        height, width = frame.mosaic.shape
        visible = marker[top : top + height, left : left + width]
        pictures = {"raw": marker, "visible": visible, "upright": UPRIGHT[exif](visible)}
        if crop:
            x0, y0 = area[1] + crop[0], area[0] + crop[1]
            pictures["crop"] = marker[y0 : y0 + crop[3], x0 : x0 + crop[2]]
            pictures["upright-crop"] = UPRIGHT[exif](pictures["crop"])
        assert pictures.keys() == frame.frames.keys()
        for name, picture in pictures.items():
            known = frame.frames[name]
            assert (known.height, known.width) == picture.shape, name
            if picture.sum() == 4:
                box = known.to_visible.then(to_output).boxes([bounding_box(picture)])
                np.testing.assert_allclose(box, [[x, y, 1, 1]], atol=1e-9, err_msg=name)


@each_orientation
@pytest.mark.parametrize("size", [(40, 60), (41, 60), (40, 61), (41, 61)])
def test_upright_is_what_exif_defines(
    write_raw: WriteRaw, exif: int, size: tuple[int, int]
) -> None:
    mosaic = np.random.default_rng(0).integers(0, 4096, size).astype(np.uint16)
    frame = open_raw(write(write_raw, mosaic, exif, None, None))
    sensor, upright = frame.pack("xyz"), frame.pack("xyz", orient="upright")
    turned = np.stack([UPRIGHT[exif](sensor[..., k]) for k in range(3)], axis=-1)
    assert np.array_equal(upright, turned)
    assert upright.flags.c_contiguous
    planar = frame.pack("xyz", orient="upright", layout="chw")
    assert np.array_equal(np.moveaxis(planar, 0, -1), turned)


@each_layout
@each_orientation
def test_upright_is_libraws_own_rotation(
    write_raw: WriteRaw, exif: int, area: Any, crop: Any
) -> None:
    """LibRaw keeps half a cell at odd borders, which pack drops; the rest must coincide."""
    mosaic = np.random.default_rng(1).integers(0, 4096, (41, 61)).astype(np.uint16)
    path = write(write_raw, mosaic, exif, area, crop)
    frame = open_raw(path)
    ours = frame.pack("camera", orient="upright")
    with open(path, "rb") as file, rawpy.imread(file) as raw:
        libraw = raw.postprocess(
            user_flip=None,
            half_size=True,
            output_color=rawpy.ColorSpace.raw,
            user_wb=[1, 1, 1, 1],
            user_black=0,
            user_sat=4095,
            gamma=(1, 1),
            no_auto_bright=True,
            adjust_maximum_thr=0,
            output_bps=16,
        )
    rows, columns = frame.mosaic.shape
    kept = np.zeros((-(-rows // 2), -(-columns // 2)), bool)
    kept[: rows // 2, : columns // 2] = True
    kept = UPRIGHT[exif](kept)
    assert libraw.shape[:2] == kept.shape
    libraw = libraw[kept].reshape(ours.shape) / 65535.0
    assert np.abs(libraw - ours).max() < 2.5 / 65535


@each_orientation
def test_flip_codes_are_libraws(write_raw: WriteRaw, exif: int) -> None:
    path = write(write_raw, np.arange(2400, dtype=np.uint16).reshape(40, 60), exif, None, None)
    with open(path, "rb") as file, rawpy.imread(file) as raw:
        flip = raw.sizes.flip
    assert geometry.FLIP_FROM_EXIF_ORIENTATION[exif] == flip
    assert geometry.EXIF_ORIENTATION_FROM_FLIP[flip] == exif
    frame = open_raw(path)
    assert frame.flip == flip
    assert frame.facts()["exif_orientation"] == exif
    picture = np.arange(35).reshape(5, 7)
    turned = geometry.flip_array(picture, flip)
    assert np.array_equal(turned, UPRIGHT[exif](picture))
    assert np.array_equal(geometry.flip_array(turned, geometry.inverse_flip(flip)), picture)
    assert geometry.flip_size(flip, 7, 5) == turned.shape[::-1]
    stacked = geometry.flip_array(np.stack([picture, -picture]), flip)
    assert np.array_equal(stacked[1], -UPRIGHT[exif](picture))


# --- affine maps ---------------------------------------------------------------------------------

numbers = st.floats(-50, 50)
maps = st.builds(
    Affine, st.floats(0.5, 3), numbers, numbers, st.just(0.0), st.floats(-3, -0.5), numbers
)


@hypothesis_settings(max_examples=60)
@given(maps, maps, numbers, numbers)
def test_then_applies_the_first_map_first(a: Affine, b: Affine, x: float, y: float) -> None:
    u, v = a.xx * x + a.xy * y + a.x0, a.yx * x + a.yy * y + a.y0
    expected = [b.xx * u + b.xy * v + b.x0, b.yx * u + b.yy * v + b.y0]
    np.testing.assert_allclose(a.then(b).points([x, y]), expected, atol=1e-6)
    np.testing.assert_allclose(a.then(a.inverse()).points([x, y]), [x, y], atol=1e-6)
    assert a.area_scale == pytest.approx(abs(a.xx * a.yy - a.xy * a.yx))
    assert Affine.from_rows(a.rows()) == a


boxes = st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))


@st.composite
def files(draw: Any) -> dict[str, Any]:
    """Sizes of a file whose visible area and crop lie somewhere inside the raw frame."""
    raw = draw(st.integers(40, 6000)), draw(st.integers(40, 6000))
    origin = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    visible = tuple(r - o - draw(st.integers(0, 12)) for r, o in zip(raw, origin, strict=True))
    offset = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    return {
        "raw_size": raw,
        "visible_origin": origin,
        "visible_size": visible,
        "crop_origin": tuple(o + d for o, d in zip(origin, offset, strict=True)),
        "crop_size": tuple(v - d for v, d in zip(visible, offset, strict=True)),
        "flip": draw(st.integers(0, 7)),
    }


@hypothesis_settings(max_examples=150)
@given(
    file=files(),
    box=boxes,
    turn=st.booleans(),
    fit=st.sampled_from([None, (1333, 800), (97, 41)]),
    name=st.sampled_from(["raw", "visible", "crop", "upright", "upright-crop"]),
)
def test_boxes_return_to_the_sensor(
    file: dict[str, Any], box: Any, turn: bool, fit: Any, name: str
) -> None:
    frame = geometry.sensor_frames(**file)[name]
    x, y, w, h = np.array(box) * [frame.width, frame.height, frame.width, frame.height]
    to_output, size = geometry.packed_affine(
        file["visible_size"], flip=file["flip"] if turn else 0, fit=fit
    )
    there = frame.to_visible.then(to_output)
    out = there.boxes([[x, y, w, h]])
    assert (out[:, 2:] >= 0).all()
    back = there.inverse().boxes(out)
    np.testing.assert_allclose(back, [[x, y, w, h]], atol=1e-3)
    assert out[0, 2] * out[0, 3] == pytest.approx(w * h * there.area_scale, rel=1e-6, abs=1e-9)
    assert min(size) >= 1
    # The packed part of the visible area covers the output exactly.
    even = [2 * (side // 2) for side in file["visible_size"]]
    np.testing.assert_allclose(to_output.boxes([[0, 0, *even]]), [[0, 0, *size]], atol=1e-6)


@each_orientation
def test_a_shrunk_dot_keeps_its_place(write_raw: WriteRaw, exif: int) -> None:
    mosaic = np.full((121, 181), 10, np.uint16)
    mosaic[40:44, 100:104] = 4000
    frame = open_raw(write(write_raw, mosaic, exif, None, None))
    upright = frame.pack("camera", orient="upright", layout="chw")
    to_output, (width, height) = geometry.packed_affine(
        frame.visible_size, flip=frame.flip, fit=(47, 33)
    )
    small = shrink(upright, height, width)[1] - 10 / 4095
    y, x = np.mgrid[0:height, 0:width] + 0.5
    centroid = [(small * x).sum() / small.sum(), (small * y).sum() / small.sum()]
    np.testing.assert_allclose(centroid, to_output.points([102, 42]), atol=0.05)


def test_boxes_are_cut_to_the_frame() -> None:
    given_boxes = np.array(
        [[-5.0, -5, 10, 10], [90, 40, 20, 20], [10, 10, 5, 5], [200, 0, 5, 5], [-9, 0, 5, 5]]
    )
    expected = [[0, 0, 5, 5], [90, 40, 10, 10], [10, 10, 5, 5], [100, 0, 0, 5], [0, 0, 0, 5]]
    assert geometry.clip_boxes(given_boxes, 100, 50).tolist() == expected
    assert Affine().boxes(np.zeros((0, 4))).shape == (0, 4)


# --- which frame the annotations mean ------------------------------------------------------------


def frames(flip: int = 0, crop: bool = True) -> dict[str, geometry.Frame]:
    return geometry.sensor_frames(
        raw_size=(5504, 3672),
        visible_origin=(0, 0),
        visible_size=(5496, 3672),
        crop_origin=(12, 12) if crop else None,
        crop_size=(5472, 3648) if crop else None,
        flip=flip,
    )


@pytest.mark.parametrize(
    ("flip", "size", "name"),
    [
        (0, (5504, 3672), "raw"),
        (0, (5496, 3672), "visible"),
        (0, (5472, 3648), "crop"),
        (6, (3672, 5496), "upright"),
        (6, (5496, 3672), "visible"),
        (5, (3648, 5472), "upright-crop"),
        (5, (5472, 3648), "crop"),
    ],
)
def test_the_annotations_size_names_the_frame(flip: int, size: Any, name: str) -> None:
    assert geometry.annotation_frame("a.ARW", frames(flip), *size).name == name


@pytest.mark.parametrize("size", [(5472, 3649), (3648, 5472), (2736, 1824), (0, 0), (1, 1)])
def test_a_size_of_no_frame_lists_all_frames(size: tuple[int, int]) -> None:
    with pytest.raises(FrameMismatchError) as caught:
        geometry.annotation_frame("dir/a.ARW", frames(), *size)
    message = str(caught.value)
    for part in ["dir/a.ARW", f"{size[0]}x{size[1]}", "raw 5504x3672", "crop 5472x3648"]:
        assert part in message


@pytest.mark.parametrize("flip", [1, 2, 3])
@pytest.mark.parametrize("size", [(5496, 3672), (5472, 3648)])
def test_a_half_turn_or_mirror_makes_the_size_ambiguous(flip: int, size: Any) -> None:
    with pytest.raises(FrameMismatchError) as caught:
        geometry.annotation_frame("a.ARW", frames(flip), *size)
    first, second = ("visible", "upright") if size[0] == 5496 else ("crop", "upright-crop")
    assert f"{first} or {second}" in str(caught.value)
    assert "--annotation-frame" in str(caught.value)


def test_a_named_frame_must_exist_and_have_the_size() -> None:
    known = frames(3)
    assert geometry.named_frame("a", known, "upright", 5496, 3672) is known["upright"]
    with pytest.raises(FrameMismatchError, match=r"a\.ARW: its crop frame is 5472x3648.* 10x20"):
        geometry.named_frame("a.ARW", known, "crop", 10, 20)
    with pytest.raises(FrameMismatchError, match="has no crop frame; choose one of raw, visible"):
        geometry.named_frame("a.ARW", frames(crop=False), "crop", 5472, 3648)


@pytest.mark.parametrize(
    ("origin", "size"),
    [((12, 12), (5493, 3648)), ((-1, 0), (100, 100)), ((0, 0), (0, 0)), ((6000, 0), (9, 9))],
    ids=["sticks out", "negative", "empty", "outside"],
)
def test_a_crop_that_leaves_the_raw_frame_is_left_out(origin: Any, size: Any) -> None:
    known = geometry.sensor_frames(
        raw_size=(5504, 3672),
        visible_origin=(0, 0),
        visible_size=(5496, 3672),
        crop_origin=origin,
        crop_size=size,
        flip=0,
    )
    assert list(known) == ["raw", "visible", "upright"]


# --- fitting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(2736, 1824), (1968, 1312), (1824, 2736), (1312, 1968)])
def test_raw_nod_frames_become_1200x800(size: tuple[int, int]) -> None:
    """Both cameras of RAW-NOD, packed, as GenISP resizes them."""
    width, height = geometry.fit_size(*size, (1333, 800))
    assert (max(width, height), min(width, height)) == (1200, 800)
    assert (width > height) == (size[0] > size[1])


@hypothesis_settings(max_examples=80)
@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 3000), st.integers(1, 3000))
def test_fitting_never_enlarges_nor_exceeds(width: int, height: int, a: int, b: int) -> None:
    fit = max(a, b), min(a, b)
    w, h = geometry.fit_size(width, height, fit)
    assert 1 <= w <= width
    assert 1 <= h <= height
    assert max(w, h) <= fit[0]
    assert min(w, h) <= fit[1]
    scale = min(1.0, fit[1] / min(width, height), fit[0] / max(width, height))
    assert abs(w - max(1, width * scale)) <= 0.51
    assert abs(h - max(1, height * scale)) <= 0.51


@pytest.mark.parametrize(
    ("text", "fit"),
    [("1333x800", (1333, 800)), ("800X1333", (1333, 800)), (" 640 x 480 ", (640, 480)),
     ("5x5", (5, 5)), ("none", None), (" None ", None)],
)  # fmt: skip
def test_fit_is_written_like_a_size(text: str, fit: Any) -> None:
    assert geometry.parse_fit(text) == fit


@pytest.mark.parametrize(
    "text", ["", "x", "1333", "0x800", "-1x5", "1x2x3", "1.5x2", "axb", "\u00b9x\u00b2", "1e3x800"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidArrayError, match="is no size; write it like 1333x800, or none"):
        geometry.parse_fit(text)
