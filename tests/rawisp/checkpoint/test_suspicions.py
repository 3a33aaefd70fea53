"""A checkpoint made for another scale is reported, not silently rendered black or cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rawisp.batch import EnhanceSettings, enhance_folder
from rawisp.checkpoint.loaded import LoadedIsp
from rawisp.checkpoint.metadata import CheckpointMetadata


class Scaled(torch.nn.Module):
    """The image times a number, cut or not."""

    def __init__(self, factor: float, cut: bool) -> None:
        super().__init__()
        self.factor, self.cut = factor, cut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * self.factor
        return y.clamp(0.0, 1.0) if self.cut else y


def judged(module: torch.nn.Module, image: Any) -> tuple[str, ...]:
    isp = LoadedIsp(
        module, CheckpointMetadata("mine", "foreign", "camera"), "m.ts", "", torch.device("cpu")
    )
    return isp.render_and_judge(image)[1]


def night(height: int = 50, width: int = 71) -> Any:
    rng = np.random.default_rng(0)
    return (0.03 * rng.uniform(0.2, 1.5, (3, height, width))).astype(np.float32)


@pytest.mark.parametrize(
    ("factor", "cut", "said"),
    [
        (1 / 255, False, "the picture is flat, 0.000 nearly everywhere"),
        (1 / 255, True, "the picture is flat, 0.000 nearly everywhere"),
        (255.0, False, "of the picture lies outside 0 to 1"),
        (-20.0, False, "of the picture lies outside 0 to 1"),
        (255.0, True, "100 % of the picture is 0 or 1"),
    ],
)
def test_another_scale_is_told(factor: float, cut: bool, said: str) -> None:
    (warning,) = judged(Scaled(factor, cut), night())
    assert said in warning
    assert "numbers of another scale" in warning


def test_good_pictures_and_flat_photographs_are_not() -> None:
    assert judged(Scaled(20.0, True), night()) == ()
    assert judged(Scaled(20.0, False), night()) == ()
    flat = np.full((3, 40, 40), 0.03, np.float32)
    assert judged(Scaled(10.0, True), flat) == ()
    lamps = night()
    lamps[:, :, :20] = 3.0  # a quarter of the picture is cut
    assert judged(Scaled(10.0, False), lamps) == ()


def test_the_manifest_and_the_summary_say_so(write_raw: Any, tmp_path: Path) -> None:
    from rawisp.checkpoint.torchscript import save_module

    metadata = CheckpointMetadata("dark", "foreign", "camera", fit=None)
    save_module(Scaled(1 / 255, True), str(tmp_path / "dark.ts"), metadata)
    report = enhance_folder(
        write_raw(), tmp_path / "out", EnhanceSettings(str(tmp_path / "dark.ts"), device="cpu")
    )
    assert report.exit_code == 0
    line = json.loads((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[-1])
    (warning,) = line["warnings"]
    assert "the picture is flat" in warning
    assert report.records[0]["warnings"] == [warning]
