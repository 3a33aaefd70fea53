"""The published form of the staged ISP against its formulas, pixel by pixel, in plain Python."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from rawisp.checkpoint import CheckpointMetadata, load_isp, save_native
from rawisp.checkpoint.torchscript import deprecation_silenced
from rawisp.errors import UsageError
from rawisp.isp import contract
from rawisp.isp.base import Isp, config_of
from rawisp.isp.registry import create_isp

Array = npt.NDArray[np.float64]

GROUPS = {
    "colour": ("color_matrix", (3, 3)),
    "grey": ("desaturation", (1,)),
    "tone": ("tone", (16,)),
    "gamma": ("log_gamma", (1,)),
    "sharpening strength": ("sharpening", (1,)),
    "sharpening kernel": ("kernel", (3, 3)),
}


def parity(**values: Any) -> Isp:
    """In eval mode; `values` are put in place of the start."""
    isp = create_isp("staged", parity=True).eval()
    with torch.no_grad():
        for name, value in values.items():
            isp.get_parameter(f"published.{name}").copy_(torch.as_tensor(value))
    return isp


def shaken(seed: int, by: float = 0.3) -> Isp:
    """Every parameter away from its start, the tone's so far that sorting matters."""
    generator = torch.Generator().manual_seed(seed)
    isp = parity()
    with torch.no_grad():
        for parameter in isp.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))
        isp.get_parameter("published.kernel").abs_()  # keeps its sum away from 0
    return isp


def scene(seed: int = 0, height: int = 9, width: int = 11) -> Array:
    """Values below black, up to white, and above it, (3, H, W), exact in float32."""
    image = np.random.default_rng(seed).uniform(-0.1, 1.2, (3, height, width))
    image[:, 0, 0], image[:, -1, -1], image[:, 4, 4] = 0.0, 1.0, 1 / 15
    return image.astype(np.float32).astype(np.float64)


def run(isp: Isp, image: Array) -> Array:
    with torch.no_grad():
        return isp(torch.tensor(image, dtype=torch.float32)[None])[0].double().numpy()


def sigma(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def cut(value: float, low: float = 0.0, high: float = 1.0) -> float:
    return min(max(value, low), high)


def reference(isp: Isp, image: Array) -> Array:
    """The five stages of the guide, one number after the other."""
    p = {name: isp.get_parameter(f"published.{name}").tolist() for name, _ in GROUPS.values()}
    _, height, width = image.shape
    pixels = [[image[:, i, j].tolist() for j in range(width)] for i in range(height)]
    A, a = p["color_matrix"], sigma(p["desaturation"][0])
    v = sorted(sigma(c) for c in p["tone"])
    gamma = cut(math.exp(p["log_gamma"][0]), 0.1, 5.0)

    def before_sharpening(x: list[float]) -> list[float]:
        y = [cut(sum(x[c] * A[c][d] for c in range(3))) for d in range(3)]
        grey = sum(y) / 3
        y = [cut(value * (1 - a) + grey * a) for value in y]
        y = [cut(float(np.interp(value, [k / 15 for k in range(16)], v))) for value in y]
        return [cut(cut(value, 1e-6, 1.0) ** gamma) for value in y]

    y = [[before_sharpening(x) for x in row] for row in pixels]
    total = sum(sum(row) for row in p["kernel"]) + 1e-6
    strength = sigma(p["sharpening"][0])
    result = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            for c in range(3):
                blur = 0.0
                for di in (-1, 0, 1):
                    for dj in (-1, 0, 1):
                        near_i, near_j = cut(i + di, 0, height - 1), cut(j + dj, 0, width - 1)
                        weight = p["kernel"][di + 1][dj + 1] / total
                        blur += weight * y[int(near_i)][int(near_j)][c]
                result[c, i, j] = cut(y[i][j][c] + strength * (y[i][j][c] - blur))
    return result


def test_equals_the_formulas_at_the_start() -> None:
    image = scene()
    np.testing.assert_allclose(run(parity(), image), reference(parity(), image), atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_formulas_away_from_it(seed: int) -> None:
    isp, image = shaken(seed), scene(seed)
    expected = reference(isp, image)
    assert np.mean((expected > 0.01) & (expected < 0.99)) > 0.3, "most would be cut"
    np.testing.assert_allclose(run(isp, image), expected, atol=1e-5)


@pytest.mark.parametrize("log_gamma", [-9.0, 9.0])
def test_gamma_lies_between_a_tenth_and_five(log_gamma: float) -> None:
    isp = parity(log_gamma=[log_gamma])
    gamma = isp.predict(torch.zeros(1, 3, 4, 4))["gamma"].detach()
    torch.testing.assert_close(gamma, torch.tensor([[0.1 if log_gamma < 0 else 5.0]]))
    image = scene()
    np.testing.assert_allclose(run(isp, image), reference(isp, image), atol=1e-5)


def test_gamma_takes_a_millionth_for_black() -> None:
    isp = parity(tone=[-60.0] * 8 + [60.0] * 8, log_gamma=[math.log(0.1)])
    image = scene()
    black = run(isp, np.zeros((3, 4, 4)))
    np.testing.assert_allclose(black, 1e-6**0.1, rtol=1e-4)
    np.testing.assert_allclose(run(isp, image), reference(isp, image), atol=1e-4)


def test_a_kernel_whose_sum_is_near_zero_is_divided_by_a_millionth_more() -> None:
    isp = parity(kernel=torch.tensor([[0, 0, 0], [0, 1e-6, 0], [0, 0, 0]]), tone=[-1.0] * 16)
    level = sigma(-1.0)
    shown = run(isp, np.full((3, 4, 4), 0.5))
    np.testing.assert_allclose(shown, level + sigma(0.5) * level / 2, rtol=1e-4)


def test_the_last_cut_is_there_in_training_too() -> None:
    isp = parity(tone=torch.linspace(-6, 6, 16), sharpening=[30.0]).train()
    edges = torch.tensor(scene(), dtype=torch.float32)[None].clamp(0, 1)
    with torch.no_grad():
        y = isp(edges)
    assert (float(y.min()), float(y.max())) == (0.0, 1.0)
    np.testing.assert_allclose(y[0].numpy(), reference(isp, edges[0].double().numpy()), atol=1e-5)


def test_values_at_the_start_are_those_of_the_published_code() -> None:
    with torch.no_grad():
        values = parity().predict(torch.zeros(2, 3, 4, 4))
    for value in values.values():
        assert value.shape[0] == 2
        torch.testing.assert_close(value[0], value[1])
    torch.testing.assert_close(values["color_matrix"][0], torch.eye(3))
    assert values["desaturation"][0].tolist() == [0.5], "half grey"
    tone = values["tone"][0]
    assert (float(tone[0]), float(tone[-1])) == pytest.approx((0.5, 0.731), abs=5e-4)
    assert values["gamma"][0].tolist() == [1.0]
    assert float(values["sharpening"][0]) == pytest.approx(0.622, abs=5e-4)
    binomial = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    torch.testing.assert_close(values["kernel"][0], binomial, atol=1e-6, rtol=1e-5)


def test_the_start_lifts_black_to_a_half_and_greys_colours_by_half() -> None:
    flat = np.zeros((3, 5, 5))
    np.testing.assert_allclose(run(parity(), flat), 0.5, atol=1e-6)
    flat[0] = 0.6  # (0.6, 0, 0), half way to its mean of 0.2: (0.4, 0.1, 0.1)
    lifted = [1 / (1 + math.exp(-value)) for value in (0.4, 0.1, 0.1)]  # c_k = u_k: sigma, nearly
    for channel in range(3):
        np.testing.assert_allclose(run(parity(), flat)[channel], lifted[channel], atol=1e-4)


def test_the_matrix_multiplies_row_vectors() -> None:
    isp = parity(color_matrix=[[1.0, 0.5, 0.25], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    isp.get_parameter("published.desaturation").data.fill_(-30.0)
    red = np.zeros((3, 4, 4))
    red[0] = 0.8
    shown = run(isp, red)[:, 1, 1]
    expected = [sigma(0.8), sigma(0.4), sigma(0.2)]
    np.testing.assert_allclose(shown, expected, atol=1e-3)


def test_has_the_37_published_parameters_and_the_default_its_40() -> None:
    published = dict(parity().named_parameters())
    shapes = {name: tuple(value.shape) for name, value in published.items()}
    assert shapes == {f"published.{name}": shape for name, shape in GROUPS.values()}
    assert sum(value.numel() for value in published.values()) == 37
    assert not list(parity().buffers())
    ours = dict(create_isp("staged").named_parameters())
    assert sum(value.numel() for value in ours.values()) == 40
    assert not any("published" in name for name in ours)


@pytest.mark.parametrize("group", GROUPS)
def test_gradients_reach_every_number_of_each_group(group: str) -> None:
    """One group at a time, as learned; from the start, where nothing but the last cut is active."""
    name, shape = GROUPS[group]
    isp = parity().train()
    for label, parameter in isp.named_parameters():
        parameter.requires_grad_(label == f"published.{name}")
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 20, 30, generator=generator)
    (isp(x) * torch.rand(x.shape, generator=generator)).sum().backward()
    gradient = isp.get_parameter(f"published.{name}").grad
    assert gradient is not None
    assert gradient.shape == shape
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).all()


@pytest.mark.parametrize("group", GROUPS)
def test_gradients_agree_with_differences(group: str) -> None:
    name, _ = GROUPS[group]
    isp = shaken(2, by=0.05).double().train()
    x = torch.tensor(scene(3) * 0.6 + 0.2)[None]
    weights = torch.rand(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    parameter = isp.get_parameter(f"published.{name}")
    (isp(x) * weights).sum().backward()
    assert parameter.grad is not None
    with torch.no_grad():
        for at in range(parameter.numel()):
            number = parameter.view(-1)[at : at + 1]
            number.add_(1e-6)
            more = (isp(x) * weights).sum()
            number.sub_(2e-6)
            less = (isp(x) * weights).sum()
            number.add_(1e-6)
            expected = pytest.approx(float((more - less) / 2e-6), rel=1e-4, abs=1e-4)
            assert float(parameter.grad.view(-1)[at]) == expected


def test_contract() -> None:
    contract.check_isp(parity)
    contract.check_isp(lambda: shaken(1, by=0.1))


def test_nothing_looks_further_than_one_pixel() -> None:
    x = torch.tensor(scene(), dtype=torch.float32)[None]
    changed = x.clone()
    changed[:, :, 4, 5] = 0.5
    with torch.no_grad():
        moved = (shaken(0)(x) - shaken(0)(changed)).abs().amax(dim=(0, 1)).nonzero()
    assert moved.amin(dim=0).tolist() == [3, 4]
    assert moved.amax(dim=0).tolist() == [5, 6]


def test_each_image_can_have_its_own_values() -> None:
    first, second = shaken(0), shaken(1)
    x = torch.tensor(np.stack([scene(0), scene(1)]), dtype=torch.float32)
    with torch.no_grad():
        values = [first.predict(x[:1]), second.predict(x[1:])]
        together = {name: torch.cat([values[0][name], values[1][name]]) for name in values[0]}
        y = first.apply(x, together)
        torch.testing.assert_close(y[:1], first(x[:1]))
        torch.testing.assert_close(y[1:], second(x[1:]))


@pytest.mark.parametrize("training", [False, True])
def test_scripted_is_the_same(training: bool) -> None:
    isp = shaken(4).train(training)
    x = torch.tensor(np.stack([scene(0), scene(1)]), dtype=torch.float32)
    valid = torch.ones(2, 1, 9, 11, dtype=torch.bool)
    valid[0, :, 5:] = False
    with deprecation_silenced(), torch.no_grad():
        scripted = torch.jit.script(isp)
        torch.testing.assert_close(scripted(x), isp(x), atol=0, rtol=0)
        torch.testing.assert_close(scripted(x, valid), isp(x, valid), atol=0, rtol=0)


def test_exports_with_any_size() -> None:
    isp = shaken(5)
    batch, height, width = (torch.export.Dim(name, min=1, max=4096) for name in ("b", "h", "w"))
    exported = torch.export.export(
        isp,
        (contract.night(20, 31, batch=2),),
        dynamic_shapes={"x": {0: batch, 2: height, 3: width}},
    ).module()
    x = contract.night(37, 24, batch=3)
    with torch.no_grad():
        torch.testing.assert_close(exported(x), isp(x), atol=1e-6, rtol=0)


def test_a_checkpoint_brings_it_back(tmp_path: Path) -> None:
    isp = shaken(6)
    path = tmp_path / "published.safetensors"
    save_native(isp, str(path), CheckpointMetadata("published", "", "camera"))
    loaded = load_isp(path, device="cpu")
    x = contract.night(20, 31)
    with torch.no_grad():
        torch.testing.assert_close(loaded.run(x), isp(x), atol=0, rtol=0)


def test_autocast_changes_nothing() -> None:
    isp = shaken(7)
    x = contract.night(20, 30)
    with torch.no_grad():
        plain = isp(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(isp(x), plain)


@pytest.mark.parametrize("settings", [{}, {"parity": True}])
def test_nan_stays_nan_and_is_no_index_out_of_range(settings: dict[str, Any]) -> None:
    """So that a loop that looks for NaN in the loss finds it."""
    x = torch.full((1, 3, 6, 6), 0.3)
    x[0, 0, 2, 2] = float("nan")
    y = create_isp("staged", **settings).train()(x)
    assert torch.isnan(y[0, :, 2, 2]).all()
    assert torch.isfinite(y[0, :, 5, 5]).all()


@pytest.mark.parametrize("settings", [{"gamma": 0.5}, {"grey_world": True}, {"input_color": "x"}])
def test_other_settings_are_refused(settings: dict[str, Any]) -> None:
    said = f"staged: {next(iter(settings))} is .*; parity goes with no other setting"
    with pytest.raises(UsageError, match=said):
        create_isp("staged", parity=True, **settings)


def test_the_configuration_survives_json() -> None:
    config = json.loads(json.dumps(config_of(parity())))
    assert config["parity"] is True
    assert sum(p.numel() for p in create_isp("staged", **config).parameters()) == 37
