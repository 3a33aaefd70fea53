"""What the folder-run tests share: the installed command, tiny RAW files, and looks into /proc."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rawisp.raw.container import CAMERA_BODIES, write_container

RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]
MakeRaw = Callable[..., Path]
Digests = Callable[..., dict[str, str]]
ReadLines = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def rawisp_command() -> list[str]:
    """The installed command, as a list to append arguments to."""
    beside = Path(sys.executable).with_name("rawisp")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "rawisp"]


@pytest.fixture(scope="session")
def run_rawisp(rawisp_command: list[str]) -> RunCommand:
    """run_rawisp("pack", folder, "-o", out, cwd=..., ...) -> the finished process, as text."""

    def run(*arguments: object, timeout: float = 90, **options: Any) -> Any:
        return subprocess.run(
            [*rawisp_command, *(a if isinstance(a, bytes) else str(a) for a in arguments)],
            capture_output=True,
            text=True,
            errors="backslashreplace",
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            **options,
        )

    return run


@pytest.fixture(scope="session")
def make_raw() -> MakeRaw:
    """make_raw(path, seed=0, height=40, width=60, model=..., camera="", **options) -> path."""

    def make(
        path: Path,
        seed: int = 0,
        height: int = 40,
        width: int = 60,
        model: str = "DSC-RX100M7",
        camera: str = "",
        **options: Any,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        body = CAMERA_BODIES[model]
        rng = np.random.default_rng(seed)
        ramp = np.linspace(0.0, 0.6, width) ** 2
        values = body.black + (16383 - body.black) * ramp + rng.normal(0, 30, (height, width))
        mosaic = np.clip(np.rint(values), 0, 16383).astype(np.uint16)
        make_name, model_name = (camera, camera) if camera else (body.make, body.model)
        write_container(path, mosaic, make=make_name, model=model_name, **options)
        return path

    return make


@pytest.fixture(scope="session")
def digests() -> Digests:
    """digests(folder) -> {relative path: sha256}, the run's own bookkeeping left out."""

    def collect(folder: Path, bookkeeping: bool = False) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and (bookkeeping or path.name not in ("manifest.jsonl", ".rawisp.lock"))
        }

    return collect


@pytest.fixture(scope="session")
def read_manifest_lines() -> ReadLines:
    """The manifest of an output folder, strictly parsed, line by line."""

    def reject(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    def read(folder: Path) -> list[dict[str, Any]]:
        text = (folder / "manifest.jsonl").read_text("ascii")
        assert text.endswith("\n")
        return [json.loads(line, parse_constant=reject) for line in text.splitlines()]

    return read


@pytest.fixture(scope="session")
def worker_processes() -> Callable[[str], list[int]]:
    """worker_processes(mark) -> ids of live rawisp workers whose command line contains `mark`.

    A worker's command line names its parent's sys.path; tests put something unique there.
    """

    def find(mark: str) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                command = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if "rawisp.batch.worker" in command and mark in command and state != "Z":
                found.append(int(entry.name))
        return found

    return find


@pytest.fixture(scope="session")
def eventually() -> Callable[..., bool]:
    """eventually(condition, seconds) -> whether it came true in time."""

    def wait(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.05)
        return condition()

    return wait
