"""The staged ISP against a straight-line reference in NumPy, and what `classic` promises."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from rawisp.color import LINEAR_SRGB_FROM_XYZ
from rawisp.isp.fixed import ClassicConfig
from rawisp.isp.staged import StagedConfig, StagedIsp
from rawisp.isp.staged_kernels import usable

CLASSIC = ClassicConfig()
# What the compiled kernels know of it.
UNSMOOTHED = ClassicConfig(smooth_colors=False)

Array = npt.NDArray[np.float64]


def night_xyz(height: int = 48, width: int = 70, seed: int = 0, level: float = 0.004) -> Array:
    """A dim, tinted, noisy scene with a lamp, (3, H, W)."""
    rng = np.random.default_rng(seed)
    scene = (
        level * rng.uniform(0.3, 2.0, (3, height, width)) * np.array([1.2, 1.0, 0.5])[:, None, None]
    )
    scene += rng.normal(0, level / 5, scene.shape)
    scene[:, 5:9, 10:14] = 1.3
    return scene


def run(isp: StagedIsp, image: Array) -> Array:
    with torch.no_grad():
        return isp(torch.tensor(image, dtype=torch.float32)[None])[0].double().numpy()


def reference(isp: StagedIsp, image: Array, gain: Array) -> Array:
    """The stages written out, one pixel formula after the other, float64."""
    p = {name: value.detach().double().numpy() for name, value in isp.named_parameters()}
    rgb = np.einsum("ij,jhw->ihw", p["color_matrix"], image) * gain[:, None, None]
    if isp.neutral_clip:
        clipped = np.clip((image.max(axis=0) - 0.6) / 0.3, 0, 1)
        rgb = rgb + clipped * (rgb.max(axis=0) - rgb)
    grey = rgb.mean(axis=0)
    rgb = rgb + p["desaturation"] * (grey - rgb)
    rgb = np.maximum(rgb, 0)
    if isp.shoulder < 1:
        room = 1 - isp.shoulder
        rolled = 1 - room * np.exp(-(rgb - isp.shoulder) / room)
        rgb = np.where(rgb > isp.shoulder, rolled, rgb)
    rgb = np.minimum(rgb, 1)
    steps = np.exp(p["tone_logits"]) / np.exp(p["tone_logits"]).sum()
    knots = np.concatenate([[0], np.cumsum(steps)])
    rgb = np.interp(rgb, np.arange(17) / 16, knots)
    rgb = np.maximum(rgb, 1e-4) ** np.exp(p["log_gamma"])
    kernel = np.exp(p["blur_logits"]).reshape(3, 3)
    kernel /= kernel.sum()
    padded = np.pad(rgb, ((0, 0), (1, 1), (1, 1)), mode="edge")
    h, w = image.shape[1:]
    blurred = sum(
        kernel[dy, dx] * padded[:, dy : dy + h, dx : dx + w] for dy in range(3) for dx in range(3)
    )
    return np.clip(rgb + p["sharpening"] * (rgb - blurred), 0, 1)


def shaken(config: StagedConfig, seed: int) -> StagedIsp:
    """A staged ISP whose parameters are away from their start, so that every stage matters."""
    torch.manual_seed(seed)
    isp = StagedIsp(config).eval()
    with torch.no_grad():
        for parameter in isp.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return isp


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("config", [StagedConfig(), UNSMOOTHED, StagedConfig(input_color="camera")])
def test_equals_the_formulas_written_out(config: StagedConfig, seed: int) -> None:
    isp = shaken(config, seed)
    image = night_xyz(seed=seed)
    x = torch.tensor(image, dtype=torch.float32)[None]
    with torch.no_grad():
        gain = isp.predict(x)["gain"][0].double().numpy()
    np.testing.assert_allclose(run(isp, image), reference(isp, image, gain), atol=2e-4)


def averaged(y: Array) -> Array:
    padded = np.pad(y, ((0, 0), (3, 3), (3, 3)), mode="edge")
    h, w = y.shape[1:]
    mean: Array = sum(padded[:, i : i + h, j : j + w] for i in range(7) for j in range(7)) / 49
    return mean


def test_colours_are_smoothed_by_their_formula() -> None:
    isp = StagedIsp(ClassicConfig(saturation=1.0, neutral_clip=False)).eval()
    image = night_xyz()
    x = torch.tensor(image, dtype=torch.float32)[None]
    with torch.no_grad():
        parameters = isp.predict(x)
    gain, noise = (parameters[n][0].double().numpy() for n in ("gain", "noise"))
    rgb = np.einsum("ij,jhw->ihw", LINEAR_SRGB_FROM_XYZ, image) * gain[:, None, None]
    weights = np.array([0.2126, 0.7152, 0.0722])

    def chroma_of(y: Array) -> Array:
        return y - np.einsum("c,c...->...", weights, y)

    pairs = chroma_of(rgb[:, ::4, 1:] - rgb[:, ::4, :-1])
    median = np.sort(np.abs(pairs).reshape(3, -1), axis=1)[:, pairs[0].size // 2]
    np.testing.assert_allclose(noise, (median / 0.6745) ** 2 / 2, rtol=1e-4)
    luma, chroma = rgb - chroma_of(rgb), chroma_of(rgb)
    mean = averaged(chroma)
    apart = chroma - mean
    of_mean = 49 * (mean**2 / noise[:, None, None]).mean(axis=0)
    of_apart = averaged((apart**2 / noise[:, None, None]).mean(axis=0, keepdims=True))
    smooth = luma + mean * np.maximum(0, 1 - 3 / of_mean)
    smooth += apart * np.maximum(0, 1 - 3 / of_apart)
    plain = StagedIsp(ClassicConfig(saturation=1.0, neutral_clip=False, smooth_colors=False)).eval()
    from_rgb = np.linalg.inv(LINEAR_SRGB_FROM_XYZ)
    back = np.einsum("ij,jhw->ihw", from_rgb, smooth / gain[:, None, None])
    with torch.no_grad():
        expected = plain.apply(torch.tensor(back, dtype=torch.float32)[None], parameters)
    np.testing.assert_allclose(run(isp, image), expected[0].clamp(0, 1).numpy(), atol=2e-4)


def test_classic_has_no_neon_noise_at_iso_3200() -> None:
    rng = np.random.default_rng(3)
    grey = 0.002 * np.array([0.9505, 1.0, 1.0888])[:, None, None] * np.ones((3, 64, 96))
    noisy = grey + rng.normal(0, 0.002, grey.shape)  # per channel as strong as the light

    def saturated(config: ClassicConfig) -> float:
        """The share of pixels whose colours lie apart by more than half of the scale."""
        image = run(StagedIsp(config).eval(), noisy)
        return float((np.ptp(image, axis=0) > 0.5).mean())

    assert saturated(UNSMOOTHED) > 0.3
    assert saturated(CLASSIC) < 0.02


def test_smoothing_keeps_coloured_things() -> None:
    image = 0.002 * np.ones((3, 64, 96)) * np.array([0.9505, 1.0, 1.0888])[:, None, None]
    red = np.linalg.inv(LINEAR_SRGB_FROM_XYZ) @ np.array([0.02, 0.002, 0.002])
    image[:, 20:40, 30:60] = red[:, None, None]
    image += np.random.default_rng(4).normal(0, 0.0002, image.shape)
    kept = run(StagedIsp(CLASSIC).eval(), image)[:, 22:38, 32:58].mean(axis=(1, 2))
    plain = run(StagedIsp(UNSMOOTHED).eval(), image)[:, 22:38, 32:58].mean(axis=(1, 2))
    np.testing.assert_allclose(kept, plain, atol=0.02)


def test_what_the_sensor_clips_is_white_in_bright_pictures() -> None:
    image = np.ones((3, 64, 96)) * np.array([0.9505, 1.0, 1.0888])[:, None, None]
    image[:, 40:] *= 0.05  # a street under a clipped sky
    assert run(StagedIsp(CLASSIC).eval(), image)[:, :36].min() > 0.9
    assert run(StagedIsp(ClassicConfig(exposure_floor=0.0)).eval(), image)[:, :36].max() < 0.6


def test_has_the_forty_parameters_of_the_five_stages_and_three_gains() -> None:
    counts = {name: p.numel() for name, p in StagedIsp().named_parameters()}
    assert sum(counts.values()) == 40
    assert sum(n for name, n in counts.items() if name != "log_gain") == 37


def test_plain_start_on_linear_srgb_is_a_plain_rendering() -> None:
    isp = StagedIsp(StagedConfig(input_color="camera", gamma=1.0)).eval()
    image = np.random.default_rng(0).uniform(0.01, 0.99, (3, 9, 11))
    np.testing.assert_allclose(run(isp, image), image, atol=1e-6)


@pytest.mark.parametrize("stage", [name for name, _ in StagedIsp().named_parameters()])
def test_no_stage_is_silently_dead(stage: str) -> None:
    isp = StagedIsp(StagedConfig(sharpening=0.3)).eval()
    image = night_xyz(level=0.1)
    before = run(isp, image)
    with torch.no_grad():
        torch.manual_seed(1)
        parameter = dict(isp.named_parameters())[stage]
        parameter.add_(0.5 * torch.rand_like(parameter))
    assert np.abs(run(isp, image) - before).max() > 1e-3


@pytest.mark.parametrize("stage", [name for name, _ in StagedIsp().named_parameters()])
def test_gradients_reach_every_parameter(stage: str) -> None:
    isp = StagedIsp(StagedConfig(sharpening=0.3)).train()
    x = torch.tensor(night_xyz(level=0.1), dtype=torch.float32)[None]
    (isp(x) * torch.rand(1, 3, *x.shape[2:])).sum().backward()
    gradient = dict(isp.named_parameters())[stage].grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


def test_images_of_a_batch_do_not_influence_each_other() -> None:
    isp = StagedIsp(CLASSIC).eval()
    images = [night_xyz(seed=n, level=0.001 * 4**n) for n in range(3)]
    batch = torch.tensor(np.stack(images), dtype=torch.float32)
    with torch.no_grad():
        together = isp(batch)
        alone = torch.cat([isp(image[None]) for image in batch])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("gain", [0.2, 0.5, 3.0])
def test_classic_brings_any_exposure_to_the_same_brightness(gain: float) -> None:
    isp = StagedIsp(CLASSIC).eval()
    image = night_xyz()
    image[:, 5:9, 10:14] = 0.05  # no lamp that clips
    difference = np.abs(run(isp, image * gain) - run(isp, image))
    assert np.median(difference) < 0.01


@pytest.mark.parametrize("light", [(1.0, 0.56, 0.2), (0.7, 0.9, 1.2), (1.0, 1.0, 1.0)])
def test_classic_makes_a_grey_scene_neutral_under_any_light(light: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    grey = rng.uniform(0.002, 0.02, (1, 64, 64)) * np.array(light)[:, None, None]
    xyz = np.einsum("ij,jhw->ihw", np.linalg.inv(LINEAR_SRGB_FROM_XYZ), grey)
    middle = np.median(
        run(StagedIsp(StagedConfig(**{**vars(CLASSIC), "balance_limit": 10.0})).eval(), xyz),
        axis=(1, 2),
    )
    assert np.ptp(middle) < 0.02


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("black", np.zeros((3, 20, 30))),
        ("white", np.ones((3, 20, 30))),
        ("constant", np.full((3, 20, 30), 0.01)),
        ("negative", np.full((3, 20, 30), -0.02)),
        ("24-bit dark", np.random.default_rng(0).uniform(0, 2**-22, (3, 20, 30))),
        ("one pixel thin", np.full((3, 1, 64), 0.01)),
        ("huge values", np.full((3, 8, 8), 1e4)),
    ],
)
def test_classic_stays_finite_and_in_range(name: str, image: Array) -> None:
    result = run(StagedIsp(CLASSIC).eval(), image)
    assert np.isfinite(result).all(), name
    assert result.min() >= 0
    assert result.max() <= 1


def test_classic_shows_a_night_scene_brighter_than_a_plain_rendering() -> None:
    image = night_xyz()
    plain = StagedIsp(StagedConfig()).eval()
    assert run(StagedIsp(CLASSIC).eval(), image).mean() > 2 * run(plain, image).mean()


def test_classic_shows_no_colours_inside_clipped_lamps() -> None:
    """Where a channel clips, M^-1 gives colours that no light has, some of them negative."""
    camera = np.random.default_rng(0).uniform(0.0, 0.01, (3, 40, 60))
    camera[:, 10:14, 10:14] = 1.0
    camera[0, 20:24, 20:24], camera[1, 20:24, 20:24] = 1.0, 0.6  # a sodium lamp's edge
    to_xyz = np.array([[1.158, 0.396, 0.025], [0.436, 0.974, -0.316], [0.030, -0.201, 1.751]])
    result = run(StagedIsp(CLASSIC).eval(), np.einsum("ij,jhw->ihw", to_xyz, camera))
    for lamp in (result[:, 10:14, 10:14], result[:, 20:24, 20:24]):
        assert lamp.min() > 0.8
        assert np.ptp(lamp, axis=0).max() < 0.02


@pytest.mark.parametrize("config", [StagedConfig(), UNSMOOTHED, StagedConfig(shoulder=0.6)])
def test_in_training_compiled_kernels_give_the_same_values_and_gradients(
    config: StagedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    isp = shaken(config, 3).train()
    x = torch.tensor(np.stack([night_xyz(seed=n, level=0.1) for n in range(2)]).astype(np.float32))
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert usable(x) and not usable(x.double())
    y = isp(x)
    assert y.grad_fn is not None and "Sharpen" in y.grad_fn.name()
    compiled = torch.autograd.grad((y * weight).sum(), list(isp.parameters()))
    monkeypatch.setattr("rawisp.isp.staged.usable", lambda _: False)
    plain = isp(x)
    expected = torch.autograd.grad((plain * weight).sum(), list(isp.parameters()))
    torch.testing.assert_close(y, plain, atol=1e-5, rtol=1e-5)
    for found, wanted in zip(compiled, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_who_asks_for_the_gradient_of_the_image_gets_it() -> None:
    x = torch.tensor(night_xyz(level=0.1).astype(np.float32))[None].requires_grad_(True)
    StagedIsp(CLASSIC).train()(x).sum().backward()
    assert x.grad is not None and bool((x.grad != 0).any())
