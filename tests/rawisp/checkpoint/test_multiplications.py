"""The count of multiply-accumulates is PyTorch's own, and cheap to start."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import rawisp
from rawisp.checkpoint.multiplications import MultiplicationCounter

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "convolution": (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 10, 12), 2 * 120 * 8 * 27),
    "grouped": (nn.Conv2d(4, 8, 3, groups=2), (1, 4, 10, 10), 64 * 8 * 18),
    "transposed": (nn.ConvTranspose2d(3, 5, 2, stride=2), (1, 3, 4, 4), 16 * 3 * 5 * 4),
    "linear": (nn.Linear(7, 9), (4, 7), 4 * 63),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_counted(name: str) -> None:
    layer, shape, expected = LAYERS[name]
    with torch.no_grad(), MultiplicationCounter() as counter:
        layer(torch.zeros(shape))
    assert counter.count == expected


@pytest.mark.parametrize("name", ["film-unet", "genisp", "raw-adapter", "mw-ispnet", "ta-isp"])
def test_isps_are_counted_as_pytorch_does(name: str) -> None:
    isp = rawisp.create_isp(name).eval()
    x = torch.linspace(0.0, 0.05, 3 * 64 * 96).view(1, 3, 64, 96)
    theirs = FlopCounterMode(display=False)
    with torch.no_grad():
        with theirs:
            isp(x)
        with MultiplicationCounter() as ours:
            isp(x)
    assert ours.count == theirs.get_total_flops() // 2 > 0


def test_describe_imports_no_compiler() -> None:
    code = (
        "import sys\n"
        "from rawisp.checkpoint import load_isp\n"
        "from rawisp.checkpoint.describe import described\n"
        "described(load_isp('night', device='cpu'))\n"
        "print([m for m in ('torch._dynamo', 'sympy') if m in sys.modules])\n"
    )
    answer = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_list_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from rawisp.isp.registry import described_isps, isp_class\n"
        "from rawisp.checkpoint.load import shipped_checkpoints\n"
        "rows = described_isps(); shipped_checkpoints()\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "for row in rows:\n"
        "    doc = isp_class(row['name']).__doc__\n"
        "    assert row['what'] and row['what'] == doc.strip().split(chr(10))[0], row\n"
        "print(len(rows))\n"
    )
    answer = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) >= 14
