"""MW-ISPNet against its graph written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from rawisp.isp.baselines.mw_ispnet import MwIspNetConfig, MwIspNetIsp, haar, inverse_haar

FILTERS = 0.5 * np.array(
    [[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]]
)


def dwt(x: Any) -> Any:
    planes = []
    for channel in x:
        square = channel.reshape(channel.shape[0] // 2, 2, channel.shape[1] // 2, 2)
        planes += [np.einsum("hawb,ab->hw", square, kernel) for kernel in FILTERS]
    return np.stack(planes)


def iwt(x: Any) -> Any:
    channels = []
    for four in x.reshape(-1, 4, *x.shape[1:]):
        square = np.einsum("khw,kab->hawb", four, FILTERS)
        channels.append(square.reshape(2 * x.shape[1], 2 * x.shape[2]))
    return np.stack(channels)


def reference(w: Any, image: Any, blocks: int) -> Any:
    def prelu(x: Any, name: str) -> Any:
        return np.where(x > 0, x, w[f"{name}.weight"][0] * x)

    def group(x: Any, name: str) -> Any:
        v = x
        for n in range(blocks):
            block = f"{name}.body.{n}"
            r = np.maximum(w.conv(v, f"{block}.body.0"), 0)
            r = w.conv(r, f"{block}.body.2")
            mean = r.mean(axis=(1, 2), keepdims=True)
            hidden = np.maximum(w.conv(mean, f"{block}.attention.1"), 0)
            v = v + r / (1 + np.exp(-w.conv(hidden, f"{block}.attention.3")))
        return x + w.conv(v, f"{name}.body.{blocks}")

    height, width = image.shape[1:]
    x = np.pad(image, ((0, 0), (0, -height % 8), (0, -width % 8)), mode="edge")
    a = dwt(x)
    b = group(prelu(w.conv(a, "down_2.0"), "down_2.1"), "down_2.2")
    c = group(prelu(w.conv(dwt(b), "down_4.0"), "down_4.1"), "down_4.2")
    d = prelu(w.conv(dwt(c), "down_8.0"), "down_8.1")
    m = group(group(d, "middle.0"), "middle.1")
    e = iwt(prelu(w.conv(m, "up_8.0"), "up_8.1")) + c
    f = iwt(prelu(w.conv(group(e, "up_4.0"), "up_4.1"), "up_4.2")) + b
    g = w.conv(group(f, "up_2.0"), "up_2.1") + a
    return w.conv(iwt(g), "out")[:, :height, :width]


@pytest.mark.parametrize(("blocks", "init"), [(1, "identity"), (2, "paper"), (5, "paper")])
def test_equals_the_formulas(blocks: int, init: str, shaken: Any, weights: Any, scene: Any) -> None:
    torch.manual_seed(0)
    isp = shaken(MwIspNetIsp(MwIspNetConfig(blocks=blocks, init=init)), by=0.002)
    image = scene[:, :18, :21]
    x = torch.tensor(image[None], dtype=torch.float32)
    with torch.no_grad():
        got = isp.apply(x, isp.predict(x))[0].numpy()
    expected = reference(weights(isp), image, blocks)
    assert np.abs(expected - image).max() > 0.02
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_haar_is_a_strided_convolution_and_its_inverse_the_transposed_one() -> None:
    x = torch.randn(2, 5, 8, 12, dtype=torch.float64)
    kernel = torch.tensor(FILTERS)[:, None].repeat(5, 1, 1, 1)
    planes = functional.conv2d(x, kernel, stride=2, groups=5)
    torch.testing.assert_close(haar(x), planes)
    back = functional.conv_transpose2d(planes, kernel, stride=2, groups=5)
    torch.testing.assert_close(inverse_haar(planes), back)
    torch.testing.assert_close(inverse_haar(haar(x)), x)


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (33, 20), (7, 65)])
def test_identity_start_is_the_identity_at_any_size(size: tuple[int, int]) -> None:
    isp = MwIspNetIsp(MwIspNetConfig(blocks=1)).eval()
    x = torch.rand(1, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(isp(x), x, atol=1e-6, rtol=0)


def test_needs_a_block() -> None:
    with pytest.raises(ValueError, match="blocks is 0; there must be at least one"):
        MwIspNetIsp(MwIspNetConfig(blocks=0))
