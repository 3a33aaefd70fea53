"""`kill -9` at any time, `--resume`: the same weights as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file


def test_a_killed_run_continues_bit_for_bit(
    cache: Path, guide_weights: Path, sample_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "often.toml").write_text("save_every_s = 0.0\npreviews = 1\n")

    def command(out: Path) -> list[str]:
        return [
            *(sys.executable, "-m", "rawisp", "train", str(sample_data), "-o", str(out)),
            *("--isp", "staged", "--detector", "tiny", "--detector-weights", str(guide_weights)),
            *("--fit", "90x60", "--epochs", "3", "--batch-size", "3", "--device", "cpu"),
            *("--config", str(tmp_path / "often.toml"), "--cache", str(cache), "--quiet"),
        ]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    start = time.monotonic()
    subprocess.run(command(whole), env=environment, check=True, timeout=300)
    whole_s = time.monotonic() - start

    kills = 0
    moments = random.Random(0)
    for _ in range(4):
        again = ["--resume"] if (killed / "state.pt").exists() else []
        process = subprocess.Popen([*command(killed), *again], env=environment)
        _wait_for_state(killed, process)
        time.sleep(moments.uniform(0.0, 0.3 * whole_s))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    subprocess.run([*command(killed), "--resume"], env=environment, check=True, timeout=300)

    assert kills >= 1
    for name, tensor in load_file(whole / "isp.safetensors").items():
        assert torch.equal(tensor, load_file(killed / "isp.safetensors")[name]), name
    epochs = [len((f / "metrics.jsonl").read_text().splitlines()) for f in (whole, killed)]
    assert epochs == [4, 4]  # with that before learning
    left = [p for p in killed.rglob("*") if "tmp" in p.name]
    assert not left


def _wait_for_state(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Until there is something to continue from, or the run has ended."""
    while not (folder / "state.pt").exists() and process.poll() is None:
        time.sleep(0.02)
