"""Facts from tags: exposure, camera, time, and which of a DNG's matrices is used."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rawisp.errors import ColorMatrixError
from rawisp.raw import RawFrame, open_raw
from rawisp.raw.container import CAMERA_BODIES, dng_tags
from rawisp.raw.tags import Tags, read_tags

Array = npt.NDArray[Any]
WriteRaw = Callable[..., Path]

M = np.array(CAMERA_BODIES["NIKON D750"].xyz_to_camera)
TUNGSTEN = np.array([[0.9, -0.3, 0.05], [-0.3, 1.1, 0.2], [-0.05, 0.2, 0.8]])
MOSAIC = np.random.default_rng(0).integers(100, 4000, (30, 40)).astype(np.uint16)


def dng(write_raw: WriteRaw, *more: tuple[int, str, int, Any], **facts: Any) -> RawFrame:
    """A DNG of a camera that LibRaw's table does not have."""
    tags = [*dng_tags(white=4095, **facts), *more]
    path: Path = write_raw("a.dng", MOSAIC, extra_tags=tags)
    path.write_bytes(path.read_bytes().replace(b"DSC-RX100M7", b"DSC-UNKNOWN"))
    return open_raw(path)


def rationals(*values: float) -> tuple[int, ...]:
    return tuple(part for value in values for part in (round(value * 10000), 10000))


# --- exposure ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".ARW", ".dng"])
def test_exposure_is_what_was_written(write_raw: WriteRaw, suffix: str) -> None:
    extra = dng_tags(color_matrices=[(21, M)], white=4095) if suffix == ".dng" else []
    path = write_raw(
        f"a{suffix}",
        MOSAIC,
        iso=6400,
        shutter_s=0.04,
        aperture_f=2.8,
        focal_length_mm=24.5,
        captured_at="2020:11:28 21:04:55",
        extra_tags=extra,
    )
    e = open_raw(path).exposure
    assert e.iso == 6400
    assert e.shutter_s == pytest.approx(0.04, rel=1e-6)
    assert e.aperture_f == pytest.approx(2.8, rel=1e-6)
    assert e.focal_length_mm == pytest.approx(24.5, rel=1e-6)
    assert (e.make, e.model) == ("SONY", "DSC-RX100M7")
    assert e.captured_at == "2020-11-28T21:04:55"


@pytest.mark.parametrize("shutter", [1 / 8000, 1 / 60, 0.5, 1.0, 30.0])
def test_short_and_long_times_survive(write_raw: WriteRaw, shutter: float) -> None:
    e = open_raw(write_raw(shutter_s=shutter)).exposure
    assert e.shutter_s == pytest.approx(shutter, rel=0.21 if shutter < 0.001 else 0.003)


def test_what_the_file_does_not_say_is_none(write_raw: WriteRaw) -> None:
    e = open_raw(write_raw(mosaic=MOSAIC)).exposure
    assert (e.iso, e.shutter_s, e.aperture_f, e.focal_length_mm) == (None, None, None, None)
    assert (e.lens, e.captured_at) == ("", "")


def test_a_zero_means_unknown(write_raw: WriteRaw) -> None:
    e = open_raw(write_raw(shutter_s=0.0, aperture_f=0.0, focal_length_mm=0.0)).exposure
    assert (e.shutter_s, e.aperture_f, e.focal_length_mm) == (None, None, None)


@pytest.mark.parametrize("text", ["soon", "0000:00:00 00:00:00", "    :  :     :  :  ", "2020"])
def test_a_time_that_is_none_is_left_out(write_raw: WriteRaw, text: str) -> None:
    assert open_raw(write_raw(mosaic=MOSAIC, captured_at=text)).exposure.captured_at == ""


@pytest.mark.parametrize(
    ("make", "model", "name"),
    [
        ("SONY", "DSC-RX100M7", "SONY DSC-RX100M7"),
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("", "", "unknown camera"),
    ],
)
def test_the_camera_is_named_once(make: str, model: str, name: str) -> None:
    from rawisp.raw import Exposure

    frame = RawFrame(
        path="a",
        mosaic=MOSAIC,
        pattern="RGGB",
        black=np.zeros(4),
        white=np.full(4, 4095.0),
        levels_source="given",
        matrix=None,
        white_balance=None,
        daylight_balance=None,
        flip=0,
        frames={},
        exposure=Exposure(make=make, model=model),
    )
    assert frame.camera == name


def test_facts_are_plain_json(write_raw: WriteRaw) -> None:
    import json

    path = write_raw(iso=100, exif_orientation=6, captured_at="2020:11:28 21:04:55")
    facts = json.loads(json.dumps(open_raw(path).facts(), allow_nan=False))
    assert facts["camera"] == {"make": "SONY", "model": "DSC-RX100M7", "lens": ""}
    assert facts["flip_libraw"] == 6
    assert facts["exif_orientation"] == 6
    assert facts["frames"]["upright"]["width"] == 40
    inverse = np.array(facts["camera_to_xyz"]) @ np.array(facts["xyz_to_camera"])
    np.testing.assert_allclose(inverse, np.eye(3), atol=1e-12)


# --- a DNG's matrices ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matrices", "number"),
    [
        ([(17, TUNGSTEN), (21, M)], 2),
        ([(21, M), (17, TUNGSTEN)], 1),
        ([(21, M)], 1),
        ([(20, M), (17, TUNGSTEN)], 1),
    ],
    ids=["A then D65", "D65 then A", "D65 alone", "D55 then A"],
)
def test_of_two_illuminants_the_one_nearest_to_d65_counts(
    write_raw: WriteRaw, matrices: Any, number: int
) -> None:
    frame = dng(write_raw, color_matrices=matrices)
    assert frame.matrix is not None
    np.testing.assert_allclose(frame.matrix.xyz_to_camera, M, atol=1e-6)
    assert f"ColorMatrix{number}" in frame.matrix.source
    assert str(matrices[number - 1][0]) in frame.matrix.source
    xyz, camera = frame.pack("xyz"), frame.pack("camera")
    np.testing.assert_allclose(xyz, camera @ np.linalg.inv(M).T, atol=2e-6)


def test_analog_balance_multiplies_the_rows(write_raw: WriteRaw) -> None:
    """XYZ to camera = AnalogBalance . CameraCalibration . ColorMatrix (DNG 1.7, chapter 6)."""
    frame = dng(write_raw, color_matrices=[(21, M)], analog_balance=(1.5, 1.0, 0.8))
    assert frame.matrix is not None
    expected = np.diag([1.5, 1.0, 0.8]) @ M
    np.testing.assert_allclose(frame.matrix.xyz_to_camera, expected, atol=1e-6)


def test_each_calibration_belongs_to_its_own_matrix(write_raw: WriteRaw) -> None:
    first = np.diag([1.1, 1.0, 0.9])
    second = np.array([[0.98, 0.01, 0.0], [0.0, 1.0, 0.02], [0.03, 0.0, 1.05]])
    frame = dng(
        write_raw,
        (50723, "2i", 9, rationals(*first.ravel())),
        (50724, "2i", 9, rationals(*second.ravel())),
        color_matrices=[(17, TUNGSTEN), (21, M)],
        analog_balance=(1.2, 1.0, 1.0),
    )
    assert frame.matrix is not None
    expected = np.diag([1.2, 1, 1]) @ second @ M
    np.testing.assert_allclose(frame.matrix.xyz_to_camera, expected, atol=1e-6)


def test_a_matrix_of_zeros_counts_as_none(write_raw: WriteRaw) -> None:
    frame = dng(write_raw, color_matrices=[(21, np.zeros((3, 3))), (17, TUNGSTEN)])
    assert frame.matrix is not None
    np.testing.assert_allclose(frame.matrix.xyz_to_camera, TUNGSTEN, atol=1e-6)


@pytest.mark.parametrize("color", ["xyz", "xyz-uninverted"])
def test_without_any_matrix_xyz_is_refused_with_the_remedy(write_raw: WriteRaw, color: Any) -> None:
    frame = dng(write_raw)
    assert frame.matrix is None
    with pytest.raises(ColorMatrixError) as caught:
        frame.pack(color)
    message = str(caught.value)
    for part in [frame.path, "SONY DSC-UNKNOWN", f"{color} cannot", "--matrix generic"]:
        assert part in message
    assert len(message.splitlines()) == 1


def test_without_any_matrix_camera_colours_work(write_raw: WriteRaw) -> None:
    frame = dng(write_raw)
    assert frame.pack("camera").shape == (15, 20, 3)
    assert frame.facts()["matrix_source"] == "none"
    assert frame.facts()["camera_to_xyz"] is None


def test_a_kdc_without_a_matrix_gives_camera_colours_only(real_raw: Path) -> None:
    frame = open_raw(real_raw / "kodak_dc50.KDC")
    assert frame.pattern == "GRBG"
    assert frame.matrix is None
    assert frame.pack("camera").shape == (256, 384, 3)
    with pytest.raises(ColorMatrixError, match="no colour matrix is known"):
        frame.pack("xyz")


def test_a_real_dngs_own_matrix_is_read(real_raw: Path) -> None:
    import tifffile

    path = real_raw / "colorchart.dng"
    with tifffile.TiffFile(path) as tiff:
        pairs = np.array(tiff.pages[0].tags[50721].value, float).reshape(9, 2)
    frame = open_raw(path)
    assert frame.matrix is not None
    np.testing.assert_allclose(
        frame.matrix.xyz_to_camera, (pairs[:, 0] / pairs[:, 1]).reshape(3, 3), atol=1e-12
    )
    assert "ColorMatrix1" in frame.matrix.source


# --- reading tags never fails --------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"FUJIFILM" + b"\xff" * 200, b"IIU\0" + bytes(99),
     b"MMOR" + bytes(99), b"\0\0\0\x18ftypcrx " + b"CMT1" * 20, b"hello"],
)  # fmt: skip
def test_unreadable_tags_are_no_tags(content: bytes) -> None:
    tags = read_tags(io.BytesIO(content))
    assert isinstance(tags, Tags)
    assert (tags.make, tags.model, tags.camera_matrix) == ("", "", None)


MALFORMED: dict[str, tuple[int, str, int, Any]] = {
    "matrix of six": (50721, "2i", 6, rationals(1, 0, 0, 0, 1, 0)),
    "matrix with zero denominators": (50721, "2i", 9, (1, 0) * 9),
    "matrix as text": (50721, "s", 0, "identity"),
    "balance of two": (50727, "2I", 2, rationals(1, 1)),
    "crop of one": (50719, "I", 1, 3),
    "illuminant as text": (50778, "s", 0, "sun"),
    "f-number over zero": (33437, "2I", 1, (4, 0)),
    "time of three": (33434, "2I", 3, (1, 10) * 3),
}


@pytest.mark.parametrize("tag", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_tag_costs_no_more_than_itself(write_raw: WriteRaw, tag: Any) -> None:
    tags = [t for t in dng_tags(white=4095, color_matrices=[(21, M)]) if t[0] != tag[0]]
    frame = open_raw(write_raw("a.dng", MOSAIC, extra_tags=[*tags, tag]))
    assert frame.exposure.model == "DSC-RX100M7"
    if frame.matrix is not None:
        assert np.isfinite(frame.matrix.xyz_to_camera).all()
    assert np.isfinite(frame.pack("camera")).all()
    assert all(v is None or np.isfinite(v) for v in frame.facts()["exposure"].values() if v != "")
