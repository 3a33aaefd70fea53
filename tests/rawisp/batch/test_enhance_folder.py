"""`enhance` over folders: the same picture whether from RAW or packed, in every orientation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import rawisp
from rawisp.batch import (
    EnhanceSettings,
    PackSettings,
    RunOptions,
    RunReport,
    enhance_folder,
    pack_folder,
)
from rawisp.geometry import fit_size

MakeRaw = Callable[..., Path]
ReadLines = Callable[[Path], list[dict[str, Any]]]
ORIENTATIONS = (1, 2, 3, 4, 5, 6, 7, 8)
KINDS = ("raw", "npy-sensor", "npy-upright", "tiff-sensor", "tiff-upright")
TWO = RunOptions(workers=2)


@dataclass(frozen=True)
class Rendered:
    """all/KIND/turnedN.*, and two runs over all of it."""

    sources: Path
    upright: Path
    sensor: Path
    upright_report: RunReport

    def raw(self, orientation: int) -> Path:
        return self.sources / "raw" / f"turned{orientation}.ARW"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, make_raw: MakeRaw) -> Rendered:
    base = tmp_path_factory.mktemp("rendered")
    for n in ORIENTATIONS:
        make_raw(
            base / "all" / "raw" / f"turned{n}.ARW",
            n,
            80 + n % 2,
            120,
            exif_orientation=n,
            pattern=("RGGB", "GRBG", "GBRG", "BGGR")[n % 4],
        )
    make_raw(base / "all" / "raw" / "nikon.NEF", 9, 60, 90, "NIKON D750")
    for kind in KINDS[1:]:
        form, orient = kind.split("-")
        settings = PackSettings(format=form, orient=orient)  # type: ignore[arg-type]
        pack_folder(base / "all" / "raw", base / "all" / kind, settings, options=TWO)
    upright = enhance_folder(base / "all", base / "upright", options=TWO)
    sensor = enhance_folder(
        base / "all", base / "sensor", EnhanceSettings(orient="sensor"), options=TWO
    )
    for report in (upright, sensor):
        assert report.exit_code == 0, [r["reason"] for r in report.records if r["reason"]]
        assert len(report.records) == 9 * len(KINDS)
    return Rendered(base / "all", base / "upright", base / "sensor", upright)


@pytest.fixture(scope="module")
def default() -> Any:
    return rawisp.load_isp(device="cpu")


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_image_is_what_the_library_call_gives(
    rendered: Rendered, default: Any, orientation: int
) -> None:
    frame = rawisp.open_raw(rendered.raw(orientation))
    upright = pixels(rendered.upright / "raw" / f"turned{orientation}.png")
    assert upright.shape == ((40, 60, 3) if orientation <= 4 else (60, 40, 3))
    assert np.array_equal(upright, default(frame.pack(orient="upright")))
    sensor = pixels(rendered.sensor / "raw" / f"turned{orientation}.png")
    assert np.array_equal(sensor, default(frame.pack(orient="sensor")))


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_packed_files_give_the_same_bytes_as_raw_files(
    rendered: Rendered, kind: str, orientation: int
) -> None:
    for run in (rendered.upright, rendered.sensor):
        from_raw = (run / "raw" / f"turned{orientation}.png").read_bytes()
        assert (run / kind / f"turned{orientation}.png").read_bytes() == from_raw


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_affine_says_where_the_pixels_went(
    rendered: Rendered, orientation: int, read_manifest_lines: ReadLines
) -> None:
    """Corners of the visible frame, by the meaning of the EXIF orientations."""
    width, height = 120, 80 + orientation % 2
    w, h = width / 2, float(height // 2)
    expected = {
        1: [(0, 0), (w, 0), (0, h)],
        2: [(w, 0), (0, 0), (w, h)],
        3: [(w, h), (0, h), (w, 0)],
        4: [(0, h), (w, h), (0, 0)],
        5: [(0, 0), (0, w), (h, 0)],
        6: [(h, 0), (h, w), (0, 0)],
        7: [(h, w), (h, 0), (0, w)],
        8: [(0, w), (0, 0), (h, w)],
    }[orientation]
    for line in read_manifest_lines(rendered.upright):
        if f"turned{orientation}." in line["source"]:
            (xx, xy, x0), (yx, yy, y0) = line["affine"]
            corners = [(0, 0), (width, 0), (0, 2 * h)]
            moved = [(xx * x + xy * y + x0, yx * x + yy * y + y0) for x, y in corners]
            assert np.allclose(moved, expected), line["source"]


def test_the_manifest_names_checkpoint_and_device(
    rendered: Rendered, read_manifest_lines: ReadLines, default: Any
) -> None:
    lines = read_manifest_lines(rendered.upright)
    assert len(lines) == len({line["output"] for line in lines}) == 9 * len(KINDS)
    for line in lines:
        assert line["checkpoint"] == {"name": "night", "sha256": default.sha256}
        assert line["settings"]["verb"] == "enhance" and line["settings"]["fit"] == [1333, 800]
        assert line["device"].startswith(("cpu", "cuda"))
        assert line["camera"]["make"] in ("SONY", "NIKON CORPORATION")
        assert line["matrix_source"] == "LibRaw's table"
        assert line["black"][0] in (800, 600)
        assert line["warnings"] == []


def test_a_rerun_skips_without_loading_anything(rendered: Rendered) -> None:
    report = enhance_folder(rendered.sources, rendered.upright, options=TWO)
    assert report.count("skipped") == 9 * len(KINDS) and report.seconds < 1.0


FITS = {"none": None, "20x10": (20, 10), "31x400": (400, 31), "enlarging": (900, 800)}


@pytest.fixture(scope="module")
def formats(
    rendered: Rendered, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, RunReport]]:
    """turned1 and turned6 in png at several fits, and as jpg and tiff at full size."""
    base = tmp_path_factory.mktemp("formats")
    sources = [rendered.raw(1), rendered.raw(6)]
    made = {}
    for name, fit in FITS.items():
        form: Any = {"none": "jpg", "enlarging": "tiff"}.get(name, "png")
        settings = EnhanceSettings(format=form, fit=fit)
        made[name] = (base / name, enhance_folder(sources, base / name, settings, options=TWO))
        assert made[name][1].exit_code == 0
    return made


@pytest.mark.parametrize("name", FITS)
def test_fit_sets_the_size_before_the_isp(
    rendered: Rendered, formats: dict[str, tuple[Path, RunReport]], default: Any, name: str
) -> None:
    fit = FITS[name]
    for orientation, size in ((1, (60, 40)), (6, (40, 60))):
        width, height = fit_size(*size, fit)
        out, report = formats[name]
        record = next(r for r in report.records if f"turned{orientation}" in r["source"])
        assert record["output_size"] == [width, height]
        packed = rawisp.open_raw(rendered.raw(orientation)).pack(orient="upright")
        image = pixels(out / record["output"])
        assert image.shape == (height, width, 3)
        if not record["output"].endswith("jpg"):
            assert np.array_equal(image, default(packed, fit=fit))
    if name == "20x10":
        assert (formats[name][1].records[0]["output_size"]) == [15, 10]


@pytest.mark.parametrize("name", ["20x10", "none", "enlarging"], ids=["png", "jpg", "tiff"])
def test_images_are_plain_rgb_without_an_orientation_tag(
    formats: dict[str, tuple[Path, RunReport]], name: str
) -> None:
    for path in formats[name][0].glob("turned*"):
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert 274 not in image.getexif()
            assert "exif" not in image.info
            if image.format == "JPEG":
                assert image.layer[0][1:3] == (1, 1), "no chroma subsampling"
        if path.suffix == ".tiff":
            with tifffile.TiffFile(path) as tiff:
                assert 274 not in tiff.pages.first.tags
                assert tiff.pages.first.dtype == np.uint8


def test_a_jpg_is_close_to_the_png(
    rendered: Rendered, formats: dict[str, tuple[Path, RunReport]]
) -> None:
    png = pixels(rendered.upright / "raw" / "turned6.png").astype(int)
    jpg = pixels(formats["none"][0] / "turned6.jpg").astype(int)
    assert np.abs(png - jpg).mean() < 6


def broken_npy(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[:-100])


ODD_INPUTS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "cut_short": (broken_npy, "damaged"),
    "not_an_array": (lambda path, good: path.write_text("hello"), "damaged"),
    "empty": (lambda path, good: path.touch(), "damaged"),
    "pickled": (lambda path, good: np.save(path, np.array([{}, 1], object)), "damaged"),
    "one_channel": (lambda path, good: np.save(path, np.ones((8, 8), np.float32)), "shape"),
    "planar": (lambda path, good: np.save(path, np.ones((3, 8, 8), np.float32)), "shape"),
    "no_pixels": (lambda path, good: np.save(path, np.ones((0, 8, 3), np.float32)), "shape"),
    "doubles": (lambda path, good: np.save(path, np.ones((8, 8, 3))), "float64"),
    "nan": (lambda path, good: np.save(path, np.full((8, 8, 3), np.nan, "f4")), "NaN"),
}


@pytest.fixture(scope="module")
def odd(rendered: Rendered, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run over packed files with something the matter; records by stem."""
    base = tmp_path_factory.mktemp("odd")
    good = rendered.sources / "npy-sensor" / "turned1.npy"
    (base / "in").mkdir()
    for name, (write, _) in ODD_INPUTS.items():
        write(base / "in" / f"{name}.npy", good)
    for name, dtype in (("foreign", "<f4"), ("half", "<f2"), ("big_endian", ">f4")):
        np.save(base / "in" / f"{name}.npy", np.load(good).astype(dtype))
    np.save(base / "in" / "fortran.npy", np.asfortranarray(np.load(good)))
    for name, settings in (("camera", PackSettings(color="camera")), ("pending", PackSettings())):
        pack_folder(rendered.raw(1), base / "in" / name, settings, options=TWO)
    manifest = base / "in" / "pending" / "manifest.jsonl"  # as after kill -9 before its own line
    line = '{"source": "x.ARW", "output": "turned1.npy", "status": "pending", "settings": '
    manifest.write_text(line + '{"color": "xyz", "orient": "sensor"}, "reason": ""}\n')
    pack_folder(rendered.raw(1), base / "in" / "swapped", options=TWO)
    np.save(base / "in" / "swapped" / "turned1.npy", np.ones((9, 9, 3), np.float32))
    shutil.copy(rendered.sources / "raw" / "nikon.NEF", base / "in" / "raw.NEF")
    Image.new("RGB", (20, 20)).save(base / "in" / "photo.tif")
    settings = EnhanceSettings(input_color="xyz")  # what the arrays without a manifest are
    report = enhance_folder(base / "in", base / "out", settings, options=TWO)
    records = {r["output"].removesuffix(".png"): r for r in report.records}
    assert "photo" not in records, "a TIFF that pack did not write is no input"
    return {"out": base / "out", "report": report, **records}


@pytest.mark.parametrize("name", ODD_INPUTS)
def test_a_packed_file_that_is_none_fails_with_a_sentence(odd: dict[str, Any], name: str) -> None:
    assert odd[name]["status"] == "failed"
    assert ODD_INPUTS[name][1] in odd[name]["reason"]
    assert "\n" not in odd[name]["reason"] and "rawisp itself" not in odd[name]["reason"]


def test_a_file_packed_to_camera_rgb_is_multiplied_by_its_cameras_matrix(
    odd: dict[str, Any],
) -> None:
    assert odd["camera/turned1"]["status"] == "done"
    from_camera, from_xyz = (
        np.asarray(Image.open(odd["out"] / name), dtype=np.int16)
        for name in ("camera/turned1.png", "half.png")
    )
    difference = np.abs(from_camera - from_xyz)
    assert from_xyz.std() > 10
    assert difference.max() <= 2 and difference.mean() < 0.1  # both are rounded on their way


def test_a_file_that_is_not_what_its_manifest_says_is_refused(odd: dict[str, Any]) -> None:
    assert "manifest says" in odd["swapped/turned1"]["reason"]


def test_a_file_whose_pack_run_was_killed_is_no_bug(odd: dict[str, Any]) -> None:
    record = odd["pending/turned1"]
    assert "rawisp itself failed" not in record["reason"], record["reason"]


@pytest.mark.parametrize("name", ["foreign", "half", "fortran", "big_endian"])
def test_a_foreign_array_is_accepted_with_a_warning(
    odd: dict[str, Any], rendered: Rendered, default: Any, name: str
) -> None:
    assert odd[name]["status"] == "done", odd[name]["reason"]
    assert odd[name]["warnings"] == [
        "no manifest knows this file; taken as xyz, sensor orientation"
    ]
    packed = np.load(rendered.sources / "npy-sensor" / "turned1.npy")
    packed = packed.astype("f2" if name == "half" else "f4").astype("f4")
    assert np.array_equal(pixels(odd["out"] / f"{name}.png"), default(packed))


def test_good_files_beside_them_are_rendered(odd: dict[str, Any], rendered: Rendered) -> None:
    assert odd["report"].exit_code == 1
    assert odd["raw"]["status"] == "done"
    truth = (rendered.upright / "raw" / "nikon.png").read_bytes()
    assert (odd["out"] / "raw.png").read_bytes() == truth
