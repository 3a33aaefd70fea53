"""A fresh night is what the RAW file would have been."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rawisp
from rawisp.batch.manifest import FILE_NAME, read_manifest
from rawisp.batch.synth import SynthSettings, synth_folder
from rawisp.data.fresh import fresh_night
from rawisp.data.synth.render import night_generator


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
    packed = rawisp.open_raw(path).pack(color=color, layout="chw")  # type: ignore[arg-type]
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
