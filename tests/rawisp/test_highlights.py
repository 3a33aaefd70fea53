"""Clipped highlights: what counts as white, and how skies and lamps come out of the ISPs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import rawisp
from rawisp.batch import EnhanceSettings, PackSettings, enhance_folder, pack_folder
from rawisp.errors import InvalidArrayError
from rawisp.highlights import scene_white
from rawisp.raw.container import CAMERA_BODIES

BODY = CAMERA_BODIES["DSC-RX100M7"]
M = np.array(BODY.xyz_to_camera)
D65 = np.array([0.95047, 1.0, 1.08883])
DAYLIGHT = M @ D65 / (M @ D65).max()
Pixels = npt.NDArray[Any]


def mosaic_of(camera: Pixels, noise: float = 0.0, seed: int = 0) -> npt.NDArray[np.uint16]:
    """(2 h, 2 w) RGGB samples of camera RGB (h, w, 3), in which 1 is the sensor's white."""
    rng = np.random.default_rng(seed)
    mosaic = np.empty((2 * camera.shape[0], 2 * camera.shape[1]))
    for position, channel in enumerate((0, 1, 1, 2)):
        mosaic[position // 2 :: 2, position % 2 :: 2] = camera[..., channel]
    mosaic += noise * rng.normal(size=mosaic.shape)
    levels = BODY.black + (BODY.white - BODY.black) * mosaic
    return np.clip(np.rint(levels), 0, BODY.white).astype(np.uint16)


def sky(brightness: float, height: int = 96, width: int = 128) -> Pixels:
    """Camera RGB of a grey street under a white sky whose green would be `brightness`."""
    light = np.full((height, width, 1), 0.05)
    light[: height // 2] = brightness
    light[height // 4 : height // 2, : width // 4] = 0.3  # a cloud that is not clipped
    return np.asarray(light * DAYLIGHT)


def chroma(image: Pixels) -> float:
    """How far the channels lie apart at most, of 255."""
    return float(np.ptp(image.astype(int), axis=-1).max())


# Of white: 2.6 clips all three colours, 1.3 green alone, 1.02 with noise clips here and there.
SKIES = {"all clipped": (2.6, 0.01), "only green clipped": (1.3, 0.0), "noisy rim": (1.02, 0.02)}


@pytest.mark.parametrize("name", SKIES)
def test_a_clipped_sky_is_the_scenes_white_in_what_the_isp_sees(name: str, write_raw: Any) -> None:
    brightness, noise = SKIES[name]
    frame = rawisp.open_raw(write_raw(mosaic=mosaic_of(sky(brightness), noise)))
    cast = frame.pack("camera")[4:20, 40:120].reshape(-1, 3) / DAYLIGHT
    packed = frame.pack("camera", highlights="neutral")[4:20, 40:120].reshape(-1, 3) / DAYLIGHT
    mean, before = packed.mean(axis=0), cast.mean(axis=0)
    assert np.ptp(mean) < 0.03 * mean.max()
    if name != "noisy rim":
        assert np.ptp(before) > 0.2 * before.max()


@pytest.mark.parametrize("isp_name", ["night", "classic", "rawpy-default"])
@pytest.mark.parametrize("name", SKIES)
def test_a_clipped_sky_comes_out_neutral(name: str, isp_name: str, write_raw: Any) -> None:
    brightness, noise = SKIES[name]
    frame = rawisp.open_raw(write_raw(mosaic=mosaic_of(sky(brightness), noise)))
    image = rawisp.load_isp(isp_name)(frame.pack(highlights="neutral"))
    inside = image[4:20, 40:120].astype(float)
    # In the mean, so that what is left of noise does not count.
    assert chroma(inside.mean(axis=(0, 1))) < 20
    assert inside.mean() > 200
    if name == "all clipped" and isp_name == "night":
        as_it_was = rawisp.load_isp(isp_name)(frame.pack())[4:20, 40:120]
        assert chroma(as_it_was.astype(float).mean(axis=(0, 1))) > 30


def test_lamps_rims_have_no_black_or_magenta_pixels(write_raw: Any) -> None:
    y, x = np.mgrid[:96, :128]
    halo = 4.0 * np.exp(-((y - 40) ** 2 + (x - 64) ** 2) / 60.0)
    frame = rawisp.open_raw(
        write_raw(mosaic=mosaic_of((0.01 + halo)[..., None] * DAYLIGHT, noise=0.003))
    )
    isp = rawisp.load_isp("night")
    near = halo > 0.5
    mended = isp(frame.pack(highlights="neutral"))[near]
    assert mended.min() > 150
    # Magenta: green below both others.
    lack = np.minimum(mended[:, 0], mended[:, 2]).astype(int) - mended[:, 1]
    assert lack.max() < 25


def test_unclipped_pixels_are_the_same_bit_for_bit(write_raw: Any) -> None:
    frame = rawisp.open_raw(write_raw(mosaic=mosaic_of(sky(2.6), noise=0.004)))
    for layout in ("hwc", "chw"):
        before = frame.pack(layout=layout)
        after = frame.pack(layout=layout, highlights="neutral")
        street = (slice(60, None),) if layout == "hwc" else (slice(None), slice(60, None))
        assert before[street].tobytes() == after[street].tobytes()
        assert not np.array_equal(before, after)
    one = rawisp.open_raw(write_raw("b.ARW", mosaic=mosaic_of(sky(0.9))))
    assert one.pack().tobytes() == one.pack(highlights="neutral").tobytes()


def test_both_layouts_and_orientations_are_mended_alike(write_raw: Any) -> None:
    path = write_raw(mosaic=mosaic_of(sky(1.5), noise=0.01), exif_orientation=6)
    frame = rawisp.open_raw(path)
    planar = frame.pack(layout="chw", highlights="neutral")
    np.testing.assert_array_equal(np.moveaxis(planar, 0, -1), frame.pack(highlights="neutral"))
    upright = frame.pack(orient="upright", highlights="neutral")
    np.testing.assert_array_equal(upright, np.rot90(frame.pack(highlights="neutral"), -1))


def test_an_unknown_word_is_refused(write_raw: Any) -> None:
    with pytest.raises(InvalidArrayError, match="neutral, as-is"):
        rawisp.open_raw(write_raw()).pack(highlights="white")  # type: ignore[arg-type]


def gains(neutral: Any) -> list[float]:
    r, g, b = (1.0 / np.asarray(neutral, dtype=float)).tolist()
    return [r, g, b, g]


def test_white_is_what_was_shot_else_daylight() -> None:
    white = scene_white(gains([0.6, 1.0, 0.4]), M)
    assert white is not None and white.source == "as shot"
    np.testing.assert_allclose(white.neutral, [0.6, 1.0, 0.4])
    for nothing in (None, [0.0, 1.0, 2.0, 1.0], [float("nan")] * 4, [1.0, 1.0, 40.0, 1.0]):
        white = scene_white(nothing, M)
        assert white is not None and white.source == "daylight"
        np.testing.assert_allclose(white.neutral, DAYLIGHT, atol=1e-4)
    assert scene_white(None, None) is None


def test_ones_are_no_balance_unless_the_matrix_says_so() -> None:
    white = scene_white([1.0, 1.0, 1.0, 1.0], M)
    assert white is not None and white.source.startswith("daylight (as shot is 1 1 1")
    np.testing.assert_allclose(white.neutral, DAYLIGHT, atol=1e-4)
    # Samples that are balanced already have a matrix whose daylight is 1 1 1.
    white = scene_white([1.0, 1.0, 1.0, 1.0], np.diag(1.0 / D65))
    assert white is not None and white.source == "as shot"
    assert scene_white([1.0, 1.0, 1.0, 1.0], None) is None


def test_enhance_does_it_to_raw_and_packed_files_and_says_so(
    write_raw: Any, tmp_path: Path
) -> None:
    from PIL import Image

    raw = write_raw("in/sky.ARW", mosaic=mosaic_of(sky(2.6)))
    pack_folder(raw, tmp_path / "packed")
    outs = {}
    for name, source in (("raw", raw), ("packed", tmp_path / "packed")):
        enhance_folder(source, tmp_path / name, EnhanceSettings("night", device="cpu"))
        outs[name] = np.asarray(Image.open(tmp_path / name / "sky.png"))
    assert np.array_equal(outs["raw"], outs["packed"])
    frame = rawisp.open_raw(raw)
    night = rawisp.load_isp("night", device="cpu")
    assert np.array_equal(outs["raw"], night(frame.pack(highlights="neutral")))
    line = json.loads((tmp_path / "raw" / "manifest.jsonl").read_text().splitlines()[-1])
    assert line["settings"]["highlights"] == "neutral"
    assert line["highlights"]["source"] == "daylight"
    assert line["highlights"]["clipped_share"] == pytest.approx(0.4375, abs=0.001)
    enhance_folder(
        raw, tmp_path / "as_is", EnhanceSettings("night", device="cpu", highlights="as-is")
    )
    as_is = np.asarray(Image.open(tmp_path / "as_is" / "sky.png"))
    assert np.array_equal(as_is, night(frame.pack()))
    assert not np.array_equal(as_is, outs["raw"])


def test_pack_keeps_what_the_sensor_wrote_unless_it_is_asked(
    write_raw: Any, tmp_path: Path
) -> None:
    raw = write_raw("sky.ARW", mosaic=mosaic_of(sky(2.6)))
    frame = rawisp.open_raw(raw)
    pack_folder(raw, tmp_path / "a")
    assert np.array_equal(np.load(tmp_path / "a" / "sky.npy"), frame.pack())
    assert "highlights" not in (tmp_path / "a" / "manifest.jsonl").read_text()
    pack_folder(raw, tmp_path / "b", PackSettings(highlights="neutral"))
    assert np.array_equal(np.load(tmp_path / "b" / "sky.npy"), frame.pack(highlights="neutral"))


def test_a_white_balance_of_ones_is_told_where_it_matters(write_raw: Any, tmp_path: Path) -> None:
    from rawisp.color import LINEAR_SRGB_FROM_XYZ
    from rawisp.raw.container import dng_tags

    generic = LINEAR_SRGB_FROM_XYZ  # of samples whose white is 1 1 1
    cases = {
        "clipped": (M, 2.6, "clipped highlights were made daylight's white"),
        "fine": (M, 0.5, ""),
        "green": (generic, 0.5, "it looks green"),
    }
    for name, (matrix, brightness, said) in cases.items():
        raw = write_raw(
            f"{name}/sky.DNG",
            mosaic=mosaic_of(sky(brightness)),
            extra_tags=[
                *dng_tags(color_matrices=[(21, matrix)], black=(BODY.black,), white=BODY.white),
                (50728, "2I", 3, (1, 1, 1, 1, 1, 1)),  # AsShotNeutral
            ],
        )
        assert rawisp.open_raw(raw).white_balance is not None
        report = enhance_folder(raw, tmp_path / name, EnhanceSettings("night", device="cpu"))
        warnings = report.records[0]["warnings"]
        assert [said in text for text in warnings] == ([True] if said else [])
    assert "--matrix generic" in warnings[0]  # of the last one, the green file


def test_a_dng_of_placeholders_is_no_longer_green_with_the_generic_matrix(
    tmp_path: Path,
) -> None:
    """Samples of a real sensor, under a matrix and a balance that say that white is 1 1 1."""
    from rawisp.color import GENERIC_SOURCE, LINEAR_SRGB_FROM_XYZ
    from rawisp.raw import Overrides
    from rawisp.raw.container import dng_tags, write_container

    def written(name: str, matrix: Any) -> Path:
        ones = (50728, "2I", 3, (1, 1, 1, 1, 1, 1))  # AsShotNeutral
        tags = dng_tags(color_matrices=[(21, matrix)], black=(BODY.black,), white=BODY.white)
        mosaic = mosaic_of(sky(0.5))
        write_container(
            tmp_path / name, mosaic, make="NOBODY", model="X1", extra_tags=[*tags, ones]
        )
        return tmp_path / name

    green, sound = written("green.DNG", LINEAR_SRGB_FROM_XYZ), written("sound.DNG", M)
    generic = Overrides(generic_matrix=True)
    found = {path: rawisp.open_raw(path, overrides=generic).matrix for path in (green, sound)}
    assert found[green].source == GENERIC_SOURCE
    assert found[sound].source != GENERIC_SOURCE

    def greenness(overrides: Overrides) -> float:
        xyz = rawisp.open_raw(green, overrides=overrides).pack("xyz")
        rgb = np.median(xyz.reshape(-1, 3), axis=0) @ LINEAR_SRGB_FROM_XYZ.T
        return float(rgb[1] / ((rgb[0] + rgb[2]) / 2))

    assert greenness(Overrides()) > 1.5
    assert 0.85 < greenness(generic) < 1.15
