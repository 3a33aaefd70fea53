"""A fresh night is what the RAW file would have been."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import rawisp
from rawisp.batch.manifest import FILE_NAME, read_manifest
from rawisp.batch.synth import SynthSettings, synth_folder
from rawisp.data.augment import WHOLE, AugmentSettings, Window, draw_window
from rawisp.data.fresh import FreshNight, fresh_night
from rawisp.data.synth.render import night_generator
from rawisp.data.synth.settings import NightSettings


@pytest.mark.parametrize("camera", ["DSC-RX100M7", "NIKON D750", "dng"])
@pytest.mark.parametrize("color", ["xyz", "camera"])
def test_with_the_same_draws_it_is_the_files_packed_image(
    camera: str, color: str, tmp_path: Path
) -> None:
    photographs, nights = tmp_path / "photographs", tmp_path / "nights"
    photographs.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(photographs / "a.png")
    synth_folder([photographs], nights, SynthSettings(cameras=(camera,), seed=4))
    (entry,) = read_manifest(str(nights / FILE_NAME)).values()
    fresh = fresh_night(entry, color, (80, 60))  # type: ignore[arg-type]
    assert fresh is not None
    path = nights / entry["output"]
    frame = rawisp.open_raw(path)
    packed = frame.pack(color=color, layout="chw", highlights="neutral")  # type: ignore[arg-type]
    again = fresh(night_generator(4, entry["name"], entry["number"]))
    np.testing.assert_allclose(again, packed, atol=2e-6)
    other = fresh(np.random.default_rng(1))
    assert other.shape == packed.shape
    assert np.abs(other - packed).max() > 1e-3


def test_without_its_photograph_there_is_none(tmp_path: Path) -> None:
    gone = {"source": str(tmp_path / "gone.png"), "source_bytes": 5}
    entry = {**gone, "settings": {}, "camera": "dng"}
    assert fresh_night(entry, "xyz", (8, 8)) is None


def test_it_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    synth_folder("a.png", "nights", SynthSettings())
    (entry,) = read_manifest(str(tmp_path / "nights" / FILE_NAME)).values()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert fresh_night(entry, "xyz", (30, 20)) is not None


def test_by_day_it_is_the_photograph_at_the_packed_size(tmp_path: Path) -> None:
    photographs, nights = tmp_path / "photographs", tmp_path / "nights"
    photographs.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(photographs / "a.png")
    synth_folder([photographs], nights, SynthSettings())
    (entry,) = read_manifest(str(nights / FILE_NAME)).values()
    same = fresh_night(entry, "xyz", (80, 60))
    half = fresh_night(entry, "xyz", (40, 30))
    assert same is not None and half is not None
    np.testing.assert_allclose(same.by_day(), np.moveaxis(pixels, -1, 0) / 255, atol=1e-6)
    assert half.by_day().shape == (3, 30, 40)
    assert float(half.by_day().mean()) == pytest.approx(pixels.mean() / 255, abs=5e-3)


def night_of(picture: np.ndarray, folder: Path, size: tuple[int, int]) -> FreshNight:
    (folder / "photographs").mkdir()
    Image.fromarray(picture).save(folder / "photographs" / "a.png")
    plain = NightSettings(lamps=(0, 0), stops=(5.0, 5.0))
    synth_folder([folder / "photographs"], folder / "nights", SynthSettings(night=plain))
    (entry,) = read_manifest(str(folder / "nights" / FILE_NAME)).values()
    fresh = fresh_night(entry, "xyz", size)
    assert fresh is not None
    return fresh


@given(seed=st.integers(0, 10_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_a_window_shows_the_same_by_day_as_of_any_picture(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    smooth = np.cumsum(np.random.default_rng(0).normal(size=(40, 60, 3)), axis=1)
    picture = (127 + 100 * np.sin(smooth / 3)).astype(np.uint8)
    fresh = night_of(picture, tmp_path_factory.mktemp("window"), (60, 40))
    window = draw_window(np.random.default_rng(seed), AugmentSettings(flip=0.5, crop=0.8))
    wanted = window.of(np.moveaxis(picture, -1, 0).astype(np.float32) / 255)
    np.testing.assert_allclose(fresh.by_day(window), wanted, atol=1.01 / 255)


def test_a_zoom_is_darkened_afterwards_and_has_the_sensors_noise(tmp_path: Path) -> None:
    grey = np.full((120, 160, 3), 110, np.uint8)
    fresh = night_of(grey, tmp_path, (160, 120))

    def roughness(window: Window) -> float:
        night = fresh(np.random.default_rng(0), window)
        return float(np.diff(night[1], axis=1).std())

    assert roughness(Window(0.2, 0.3, 0.5)) == pytest.approx(roughness(WHOLE), rel=0.05)
