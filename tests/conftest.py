"""Fixtures that many tests share: RAW files written on the spot, real ones where they lie about."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings

from rawisp.raw.container import CAMERA_BODIES, write_container

REPOSITORY = Path(__file__).parent.parent

# A shell that runs the tests in the background has children ignore Ctrl-C; some tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "rawisp", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("rawisp")

WriteRaw = Callable[..., Path]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The committed night set."""
    return REPOSITORY / "sample_data" / "night"


@pytest.fixture(scope="session")
def real_raw() -> Path:
    """Real RAW files, which are not part of the repository; the test is skipped without them."""
    folder = Path(
        os.environ.get("RAWISP_REAL_FILES", REPOSITORY.parent / "shared" / "data" / "raw")
    )
    if not folder.is_dir():
        pytest.skip("no real RAW files here; RAWISP_REAL_FILES names their folder")
    return folder


def night_mosaic(
    height: int = 40, width: int = 60, seed: int = 0, black: int = 800, white: int = 16383
) -> npt.NDArray[np.uint16]:
    """A noisy mosaic whose brightness grows from left to right, some of it below black."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0.0, 0.6, width) ** 2
    values = black + (white - black) * ramp + rng.normal(0, 30, (height, width))
    return np.clip(np.rint(values), 0, white).astype(np.uint16)


@pytest.fixture
def write_raw(tmp_path: Path) -> WriteRaw:
    """write_raw("a.ARW", mosaic=None, model="DSC-RX100M7", **container options) -> path."""

    def write(
        name: str = "night.ARW",
        mosaic: npt.NDArray[np.uint16] | None = None,
        model: str = "DSC-RX100M7",
        **options: Any,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        body = CAMERA_BODIES[model]
        write_container(
            path,
            night_mosaic() if mosaic is None else mosaic,
            make=body.make,
            model=body.model,
            **options,
        )
        return path

    return write
