"""GenISP against the network written out with plain layers, and what the paper's unknowns do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rawisp.checkpoint.torchscript import deprecation_silenced
from rawisp.isp import contract
from rawisp.isp.contract import night
from rawisp.isp.genisp import GenIsp, GenIspConfig, combined_rows
from rawisp.isp.stream import render_in_tiles

# What the reference needs to know of an architecture, from the specification, not from our presets.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "paper": {"same": True, "pools": (2, 2, 2), "cells": 1, "resize": "bilinear", "q": 0.99},
    "capsar": {"same": True, "pools": (2, 2, 2), "cells": 1, "resize": "bilinear", "q": None},
    "revilla": {"same": False, "pools": (4, 3, 2), "cells": 3, "resize": "nearest", "q": None},
}


def shaken(preset: str = "paper", seed: int = 0, **settings: Any) -> GenIsp:
    """In eval mode, with every parameter away from its start."""
    torch.manual_seed(seed)
    isp = GenIsp(GenIspConfig(preset=preset, **settings)).eval()
    with torch.no_grad():
        for parameter in isp.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for head, start in ((isp.conv_wb, torch.ones(3)), (isp.conv_cc, torch.eye(3).flatten())):
            list(head.parameters())[-1].add_(start)
    return isp


def written_out(isp: GenIsp, image: Tensor, same: bool, pools: Any, **how: Any) -> Tensor:
    """One image (3, H, W) through the network of the paper, in float64, biases and all."""
    x = image.double()[None]
    small = functional.interpolate(x, (256, 256), mode=how["resize"])
    if how["q"] is not None:
        brightest = small.abs().amax(dim=1).flatten()
        gain = 1 / torch.quantile(brightest, how["q"], interpolation="nearest")
        x, small = x * gain, small * gain

    def image_to_parameters(head: torch.nn.Module, t: Tensor, cells: int) -> Tensor:
        weights = [value.double() for value in head.state_dict().values()]
        for n, size in enumerate((7, 5, 3)):
            padding = (size - 1) // 2 if same else 0
            t = functional.conv2d(t, weights[2 * n], weights[2 * n + 1], padding=padding)
            t = functional.max_pool2d(functional.leaky_relu(t, 0.01), pools[n])
        t = functional.adaptive_avg_pool2d(t, cells).flatten()
        for n in range(6, len(weights), 2):
            t = weights[n] @ t + weights[n + 1]
        return t

    balance = torch.diag(image_to_parameters(isp.conv_wb, small, 1))
    x = torch.einsum("ij,njhw->nihw", balance, x)
    small = torch.einsum("ij,njhw->nihw", balance, small)
    color = image_to_parameters(isp.conv_cc, small, how["cells"]).reshape(3, 3)
    x = torch.einsum("ij,njhw->nihw", color, x)
    p = {name: value.double() for name, value in isp.state_dict().items()}
    norm, padding = torch.nn.functional.instance_norm, 1 if same else 0
    x = functional.conv2d(x, p["conv1.weight"], p["conv1.bias"], padding=padding)
    x = functional.leaky_relu(norm(x, eps=1e-5), 0.01)
    x = functional.conv2d(x, p["conv2.weight"], p["conv2.bias"], padding=padding)
    x = functional.leaky_relu(norm(x, eps=1e-5), 0.01)
    return functional.conv2d(x, p["conv3.weight"], p["conv3.bias"])[0]


@pytest.mark.parametrize("preset", ARCHITECTURES)
def test_equals_the_network_written_out(preset: str) -> None:
    isp = shaken(preset)
    isp.strip_pixels = 300  # several strips of rows
    x = night(31, 44, batch=2, level=0.05)
    with torch.no_grad():
        y = isp.apply(x, isp.predict(x))
        if preset == "revilla":
            y = y[:, :, 2:-2, 2:-2]  # what the unpadded convolutions leave
        for n in range(2):
            expected = written_out(isp, x[n], **ARCHITECTURES[preset])
            torch.testing.assert_close(y[n].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("padding", ["zero", "reflect", "none"])
@pytest.mark.parametrize("affine", [False, True])
def test_training_at_once_is_predict_and_apply(padding: str, affine: bool) -> None:
    isp = shaken(shallow_padding=padding, norm_affine=affine).train()
    isp.strip_pixels, isp.thumbnail = 200, 48
    x = night(21, 34, batch=2)
    with torch.no_grad():
        torch.testing.assert_close(isp(x), isp.apply(x, isp.predict(x)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 115_855),
        ({"norm_affine": True}, 116_015),
        ({"preset": "capsar"}, 115_855),
        ({"preset": "revilla"}, 86_309),
    ],
)
def test_parameter_counts(settings: dict[str, Any], count: int) -> None:
    isp = GenIsp(GenIspConfig(**settings))
    assert sum(p.numel() for p in isp.parameters()) == count


def test_parameter_counts_of_the_parts() -> None:
    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    paper, revilla = GenIsp(), GenIsp(GenIspConfig(preset="revilla"))
    assert count(paper.conv_wb.trunk) == 52_192
    assert (count(paper.conv_wb), count(paper.conv_cc)) == (52_579, 53_353)
    assert (count(revilla.conv_wb), count(revilla.conv_cc)) == (33_891, 42_495)


def test_identity_start_leaves_the_image_as_it_is_before_the_shallow_network() -> None:
    x = night(20, 31, batch=2)
    plain = GenIsp(GenIspConfig(pre_gain_percentile=0.0)).eval()
    with torch.no_grad():
        torch.testing.assert_close(plain.corrected(x, plain.predict(x)), x, atol=0, rtol=0)
        isp = GenIsp().eval()
        parameters = isp.predict(x)
        gained = x * parameters["gain"].view(2, 1, 1, 1)
        torch.testing.assert_close(isp.corrected(x, parameters), gained, atol=0, rtol=1e-6)


def test_the_color_matrix_multiplies_column_vectors() -> None:
    matrix = torch.arange(1.0, 10.0).view(3, 3)
    x = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    for row_vector in (False, True):
        isp = GenIsp(GenIspConfig(pre_gain_percentile=0.0, row_vector=row_vector)).eval()
        with torch.no_grad():
            isp.conv_cc.head.bias.copy_(matrix.flatten())
            y = isp.corrected(x, isp.predict(x))
        r, g, b = x[0, :, 1, 0].tolist()
        red = r + 4 * g + 7 * b if row_vector else r + 2 * g + 3 * b
        assert y[0, 0, 1, 0].item() == pytest.approx(red, rel=1e-6)


def test_the_color_network_sees_the_balanced_image() -> None:
    isp = shaken(pre_gain_percentile=0.0)
    x = night(20, 31)
    with torch.no_grad():
        before = isp.predict(x)
        isp.conv_wb.head.weight.zero_()
        isp.conv_wb.head.bias.fill_(1.0)
        after = isp.predict(x * before["white_balance"].view(1, 3, 1, 1))
    torch.testing.assert_close(after["color"], before["color"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [2, 3])
def test_images_of_a_batch_keep_their_own_matrices(size: int) -> None:
    """`diag` of a squeezed batch of two takes the first channel of each image for the gains."""
    isp = shaken()
    x = torch.cat([night(20, 31, seed=n, level=0.003 * 4**n) for n in range(size)])
    with torch.no_grad():
        together = isp.predict(x)
        for n in range(size):
            for name, value in isp.predict(x[n : n + 1]).items():
                torch.testing.assert_close(together[name][n], value[0], atol=1e-5, rtol=1e-4)
    assert (together["white_balance"][0] - together["white_balance"][1]).abs().max() > 1e-3


def test_batch_averaging_is_there_for_parity() -> None:
    own, averaged = shaken(), shaken(batch_averaged=True)
    x = torch.cat([night(20, 31, seed=n, level=0.003 * 4**n) for n in range(3)])
    with torch.no_grad():
        mean = own.predict(x)["white_balance"].mean(dim=0)
        found = averaged.predict(x)["white_balance"]
    torch.testing.assert_close(found, mean.expand(3, 3), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("gain", "least", "most"), [(0.1, 0.0, 0.02), (0.01, 0.02, 0.3)])
def test_without_pre_gain_dark_images_lose_to_eps(gain: float, least: float, most: float) -> None:
    torch.manual_seed(0)
    isp = GenIsp(GenIspConfig(pre_gain_percentile=0.0)).train()
    x = torch.rand(1, 3, 40, 50)
    with torch.no_grad():
        change = ((isp(gain * x) - isp(x)).norm() / isp(x).norm()).item()
    assert least <= change <= most


@pytest.mark.parametrize("gain", [3.0, 0.01, 2.0**-18])
def test_with_pre_gain_exposure_does_not_matter(gain: float) -> None:
    isp = shaken().train()
    x = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(isp(gain * x), isp(x), atol=1e-5, rtol=1e-4)


def test_fixed_pre_gain_multiplies() -> None:
    isp = shaken(pre_gain=8.0, pre_gain_percentile=0.0).train()
    plain = shaken(pre_gain_percentile=0.0).train()
    x = night(20, 31)
    with torch.no_grad():
        torch.testing.assert_close(isp(x), plain(8.0 * x), atol=1e-6, rtol=1e-5)


class Quick(GenIsp):
    """With a smaller thumbnail; test_contract.py has the default as it is."""

    def __init__(self, config: GenIspConfig) -> None:
        super().__init__(config)
        self.thumbnail = 128


@pytest.mark.parametrize("preset", ARCHITECTURES)
def test_contract(preset: str) -> None:
    torch.manual_seed(0)
    contract.check_isp(lambda: Quick(GenIspConfig(preset=preset)))


@pytest.mark.parametrize("padding", ["zero", "reflect", "none"])
def test_tiles_of_any_size_and_images_of_any_size(padding: str) -> None:
    isp = shaken(shallow_padding=padding)
    isp.strip_pixels, isp.thumbnail = 40, 48  # a small thumbnail for speed
    with torch.no_grad():
        for height, width in ((1, 1), (1, 7), (2, 3), (4, 9), (5, 6), (9, 13)):
            x = night(16, 16, batch=2)[:, :, :height, :width].contiguous()
            whole = isp(x)
            assert torch.isfinite(whole).all()
            for tile in (1, 4, 6):
                torch.testing.assert_close(render_in_tiles(isp, x, tile), whole, atol=1e-5, rtol=0)
            isp.train()
            assert torch.isfinite(isp(x)).all()
            isp.eval()


def test_gradients_reach_every_tensor_that_has_an_effect() -> None:
    torch.manual_seed(0)
    isp = GenIsp(GenIspConfig(norm_affine=True, init="default")).train()
    x = night(24, 30, batch=2)
    (isp(x) * torch.rand_like(x)).sum().backward()
    for name, parameter in isp.named_parameters():
        if name in ("conv1.bias", "conv2.bias"):
            assert not parameter.requires_grad
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_identity_start_learns_its_trunks_from_the_second_step_on() -> None:
    torch.manual_seed(0)
    isp = GenIsp().train()
    isp.thumbnail = 48  # for speed
    x = night(24, 30)
    optimizer = torch.optim.Adam([p for p in isp.parameters() if p.requires_grad], 1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        (isp(x) * torch.linspace(0, 1, 30)).square().sum().backward()
        optimizer.step()
    for head in (isp.conv_wb, isp.conv_cc):
        gradient = next(iter(head.parameters())).grad
        assert gradient is not None
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("preset", ["paper", "revilla"])
def test_scripted_is_the_same(preset: str) -> None:
    isp = shaken(preset)
    isp.strip_pixels = 500
    x = night(33, 41, batch=2)
    valid = torch.ones(2, 1, 33, 41, dtype=torch.bool)
    valid[0, :, 20:] = False
    with deprecation_silenced(), torch.no_grad():
        scripted = torch.jit.script(isp)
        torch.testing.assert_close(scripted(x), isp(x), atol=0, rtol=0)
        torch.testing.assert_close(scripted(x, valid), isp(x, valid), atol=0, rtol=0)


def test_exports_with_any_size() -> None:
    isp = shaken()
    batch, height, width = (torch.export.Dim(name, min=1, max=4096) for name in ("b", "h", "w"))
    exported = torch.export.export(
        isp, (night(20, 31, batch=2),), dynamic_shapes={"x": {0: batch, 2: height, 3: width}}
    ).module()
    x = night(37, 24, batch=3)
    with torch.no_grad():
        torch.testing.assert_close(exported(x), isp(x), atol=1e-5, rtol=0)


def test_row_statistics_keep_small_deviations_from_large_means() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 100.0 + 1e-3 * torch.randn(2, 3, 200, 300, generator=generator)
    x[1] = 2.0**-22 * (1 + 0.01 * x[1] - 1)
    variances, means = torch.var_mean(x, dim=[3], unbiased=False)
    mean, variance = combined_rows(means, variances)
    exact = x.double().flatten(2)
    torch.testing.assert_close(mean.double(), exact.mean(dim=2), atol=0, rtol=1e-7)
    torch.testing.assert_close(
        variance.double(), exact.var(dim=2, unbiased=False), atol=0, rtol=1e-3
    )


def test_the_configuration_names_every_choice() -> None:
    config = GenIspConfig(preset="revilla", pools=(2, 2, 2))
    assert (config.third_width, config.hidden_cc, config.pools) == (64, 15, (2, 2, 2))
    assert None not in vars(GenIspConfig()).values()


@pytest.mark.parametrize(
    "settings", [{"preset": "r3"}, {"padding": "valid"}, {"pools": (2, 2)}, {"resize": "area"}]
)
def test_unknown_choices_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        GenIspConfig(**settings)
