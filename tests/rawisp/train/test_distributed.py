"""Two gloo processes learn what one learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ISPS = {
    "staged": ["--isp-config", "exposure_percentile=0.75", "--isp-config", "shoulder=0.6"],
    "genisp": [],
    # Without dropout, which draws in another order.
    "adaptive-isp": [
        *("--isp-config", "steps=2", "--isp-config", "dropout=0.0"),
        *("--isp-config", "exposure_ev=3.0"),
    ],
}


@pytest.mark.parametrize(
    "isp", ["staged", "adaptive-isp", pytest.param("genisp", marks=pytest.mark.soak)]
)
def test_two_processes_give_the_same_result_as_one(
    isp: str, cache: Path, guide_weights: Path, sample_data: Path, tmp_path: Path
) -> None:
    def command(out: str) -> list[str]:
        return [
            *("-m", "rawisp", "train", str(sample_data), "-o", str(tmp_path / out)),
            *("--isp", isp, *ISPS[isp], "--detector", "tiny"),
            *("--detector-weights", str(guide_weights), "--fit", "90x60", "--epochs", "1"),
            *("--batch-size", "4", "--device", "cpu", "--lr", "0.001", "--optimizer", "sgd"),
            *("--cache", str(cache), "--quiet"),
        ]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = {"env": environment, "capture_output": True, "text": True, "timeout": 300}
    one = subprocess.run([sys.executable, *command("one")], **run)  # type: ignore[call-overload]
    assert one.returncode == 0, one.stderr
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launcher += ["--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    two = subprocess.run([*launcher, *command("two")], **run)  # type: ignore[call-overload]
    assert two.returncode == 0, two.stderr
    a, b = (load_file(tmp_path / name / "isp.safetensors") for name in ("one", "two"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-5, rtol=0)
    losses = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[1])["loss"]
        for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
