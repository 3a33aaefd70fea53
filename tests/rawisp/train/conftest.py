"""A small run on the sample data: tiny detector with random weights, 150x100, two minutes' worth
of nothing to learn but all that a run does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rawisp.data.augment import AugmentSettings
from rawisp.train import TrainConfig, TrainResult, train
from rawisp.train.events import TrainEvent

SMALL = TrainConfig(
    isp="staged",
    isp_config={"exposure_percentile": 0.75, "shoulder": 0.6},
    detector="tiny",
    detector_weights="random",
    fit=(150, 100),
    epochs=2,
    batch_size=4,
    lr=1e-2,
    val=0.3,
    previews=1,
    augment=AugmentSettings(noise=0.01),
)

Run = Callable[..., TrainResult]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def guide_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same random detector for all runs."""
    from rawisp.detect import create_guide, save_guide

    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("guide") / "guide.safetensors"
    save_guide(create_guide("tiny", "random"), "tiny", path)
    return path


@pytest.fixture
def small_run(cache: Path, guide_weights: Path, sample_data: Path) -> Run:
    """run(folder, on_event=..., resume=..., **settings)."""

    def run(
        folder: Path,
        *,
        on_event: Callable[[TrainEvent], None] = lambda _: None,
        resume: bool = False,
        **settings: Any,
    ) -> TrainResult:
        config = replace(SMALL, **{"detector_weights": str(guide_weights), **settings})
        return train(sample_data, folder, config, cache=cache, resume=resume, on_event=on_event)

    return run
