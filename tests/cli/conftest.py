"""The installed command, run as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rawisp.raw.container import CAMERA_BODIES, write_container


@pytest.fixture(scope="session")
def rawisp_command() -> list[str]:
    """The installed command, as a list to append arguments to."""
    beside = Path(sys.executable).with_name("rawisp")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "rawisp"]


@pytest.fixture(scope="session")
def plain_environment() -> dict[str, str]:
    """Wide lines and no colours forced by whoever runs the tests."""
    kept = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR", "TERM")}
    return {**kept, "COLUMNS": "220", "TERMINAL_WIDTH": "220"}


@pytest.fixture(scope="session")
def run_rawisp(
    rawisp_command: list[str], plain_environment: dict[str, str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run_rawisp("pack", folder, "-o", out) -> the finished process, as text."""

    def run(*arguments: object, timeout: float = 60, **options: Any) -> Any:
        options.setdefault("env", plain_environment)
        return subprocess.run(
            [*rawisp_command, *map(str, arguments)],
            capture_output=True,
            text=True,
            errors="backslashreplace",
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            **options,
        )

    return run


@pytest.fixture
def call_main(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """As run_rawisp, but in this process: for what ends before any work, many times over."""
    from rawisp.cli.app import main

    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["rawisp", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        code = end.value.code
        return subprocess.CompletedProcess(sys.argv, code if isinstance(code, int) else 0, out, err)

    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small RAW files."""
    folder = tmp_path_factory.mktemp("photos")
    body = CAMERA_BODIES["DSC-RX100M7"]
    for n in range(6):
        rng = np.random.default_rng(n)
        mosaic = rng.integers(700, 4000, (40, 60)).astype(np.uint16)
        write_container(folder / f"{n}.ARW", mosaic, make=body.make, model=body.model)
    return folder
