"""What a re-implementation of AdaptiveISP has to show, beyond the formulas of its operators.

The formulas are in adaptive/test_operators.py, the agent's own rules in
adaptive/test_adaptive_isp.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from rawisp.checkpoint.torchscript import deprecation_silenced
from rawisp.isp import contract
from rawisp.isp.adaptive import operators
from rawisp.isp.adaptive.adaptive_isp import AdaptiveConfig, AdaptiveIsp
from rawisp.isp.adaptive.policy import Policy, ValueNetwork

Array = npt.NDArray[np.float64]

# Order, number of parameters and cost in milliseconds, as published.
TABLE = [
    ("E", 1, 1.7),
    ("G", 1, 2.0),
    ("CCM", 9, 1.9),
    ("Shr", 1, 6.3),
    ("NLM", 1, 10.0),
    ("T", 8, 2.7),
    ("Ct", 1, 2.1),
    ("S+", 1, 2.0),
    ("BW", 1, 1.9),
    ("W", 3, 1.7),
]
E, G, CCM, SHARPEN, DENOISE, TONE, CONTRAST, SATURATE, DESATURATE, BALANCE = range(10)
STOP = 10
FORMS = pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "parity"])


def picture(height: int, width: int, seed: int = 0, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, height, width, generator=generator)


def operated(number: int, x: Tensor, theta: Any, fixed: bool = False) -> Tensor:
    values = torch.as_tensor(theta, dtype=x.dtype).view(1, -1)
    return operators.run_operator(number, x, values, fixed)


def deciding(seed: int = 0, **config: Any) -> AdaptiveIsp:
    """An agent in eval mode whose choices and parameters depend on the image."""
    torch.manual_seed(seed)
    isp = AdaptiveIsp(AdaptiveConfig(**config)).eval()
    with torch.no_grad():
        for head in isp.policy.heads:
            nn.init.normal_(head.fc_filter.weight, std=0.05)  # type: ignore[arg-type, union-attr]
        nn.init.normal_(isp.policy.choice[2].weight, std=3.0)  # type: ignore[arg-type]
    return isp


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# --- Golden values of the released operators ---------------------------------------------------


def test_the_operators_have_the_order_sizes_and_costs_of_the_released_table() -> None:
    found = zip(operators.KEYS, operators.PARAMETER_COUNTS, operators.COST_MS, strict=True)
    assert list(found) == TABLE


@FORMS
def test_gamma_lifts_black_to_a_tenth(fixed: bool) -> None:
    y = operated(G, torch.zeros(1, 3, 4, 4), [1 / 3], fixed)
    torch.testing.assert_close(y, torch.full_like(y, 0.1))


@FORMS
def test_white_balance_of_raw_fives(fixed: bool) -> None:
    raw = torch.tensor([[5.0, 5.0, 5.0]])
    theta = operators.parameters_from_raw(BALANCE, raw, fixed)
    y = operators.run_operator(BALANCE, torch.ones(1, 3, 2, 2), theta, fixed)
    for channel, expected in enumerate((0.6786, 1.1188, 1.1188)):
        assert float(y[0, channel, 0, 0]) == pytest.approx(expected, abs=1e-4)


def test_a_constant_tone_curve_is_the_identity_and_saturates_at_one() -> None:
    x = torch.linspace(0.0, 1.0, 33).view(1, 1, 1, 33).expand(1, 3, 1, 33)
    torch.testing.assert_close(operated(TONE, x, [1.7] * 8), x)
    above = operated(TONE, torch.full((1, 3, 2, 2), 3.0), [0.5, 2.0] * 4)
    torch.testing.assert_close(above, torch.ones_like(above))


@pytest.mark.parametrize("segment", range(8))
def test_slopes_of_the_tone_curve_lie_between_0_28_and_2_91(segment: int) -> None:
    slopes = []
    for own, others in ((0.5, 2.0), (2.0, 0.5)):
        theta = [others] * 8
        theta[segment] = own
        ends = torch.tensor([segment / 8, (segment + 1) / 8]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
        y = operated(TONE, ends, theta)[0, 0, 0]
        slopes.append(8 * float(y[1] - y[0]))
    assert slopes == pytest.approx([8 * 0.5 / 14.5, 8 * 2.0 / 5.5], rel=1e-5)
    assert (round(slopes[0], 2), round(slopes[1], 2)) == (0.28, 2.91)


def test_sharpening_by_three_is_three_times_the_image_less_twice_its_blur() -> None:
    x = picture(7, 9)
    y = operated(SHARPEN, x, [3.0])
    p = x[0].double().numpy()
    for i in range(7):
        for j in range(9):
            if i in (0, 6) or j in (0, 8):
                expected = p[:, i, j]  # the frame keeps the input
            else:
                near = p[:, i - 1 : i + 2, j - 1 : j + 2].sum((1, 2))
                expected = 3 * p[:, i, j] - 2 * (near + 4 * p[:, i, j]) / 13
            np.testing.assert_allclose(y[0, :, i, j].numpy(), expected, atol=1e-5)


def test_published_saturation_turns_grey_red_and_blows_up_its_noise() -> None:
    grey = torch.full((1, 3, 2, 2), 0.5)
    red = operated(SATURATE, grey, [1.0])[0, :, 0, 0]
    torch.testing.assert_close(red, torch.tensor([0.5, 0.3, 0.3]))
    noisy = grey.clone()
    noisy[:, 2] = 0.499
    vivid = operated(SATURATE, noisy, [1.0])[0, :, 0, 0]
    assert 1 - float(vivid.min() / vivid.max()) >= 0.4 * 0.99
    mended = operated(SATURATE, noisy, [1.0], fixed=True)
    assert float((mended - noisy).abs().max()) < 0.02


def non_local_means(image: Array, theta: float, mode: Any) -> Array:
    """Pixel by pixel: 11x11 window, 5x5 patches of luma, weight exp(-distance / theta)."""
    _, height, width = image.shape
    luma = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    rows = np.pad(np.arange(height), 7, mode=mode)  # where each padded row comes from
    columns = np.pad(np.arange(width), 7, mode=mode)
    result = np.zeros_like(image)

    def patch(i: int, j: int) -> Array:
        return luma[np.ix_(rows[i + 5 : i + 10], columns[j + 5 : j + 10])]

    for i in range(height):
        for j in range(width):
            weighted, weights = np.zeros(3), 0.0
            for di in range(-5, 6):
                for dj in range(-5, 6):
                    squares = (patch(i, j) - patch(i + di, j + dj)) ** 2
                    weight = math.exp(-math.sqrt(squares.sum()) / (theta + 1e-8))
                    weighted += weight * image[:, rows[i + di + 7], columns[j + dj + 7]]
                    weights += weight
            result[:, i, j] = weighted / weights
    return result


@FORMS
@pytest.mark.parametrize("theta", [0.003, 0.15])
def test_denoising_is_within_a_millionth_of_the_slow_way(theta: float, fixed: bool) -> None:
    """Also where all patches are equal, and the root of their distance has no slope."""
    image = 0.5 + 0.02 * np.random.default_rng(0).standard_normal((3, 9, 8))
    image[:, :, 4:] = np.array([0.2, 0.5, 0.3])[:, None, None]
    got = operated(DENOISE, torch.tensor(image)[None], [theta], fixed)[0].numpy()
    expected = non_local_means(image, theta, "edge" if fixed else "wrap")
    np.testing.assert_allclose(got, expected, atol=1e-6)


# --- Gradients, NaN, batches -------------------------------------------------------------------

IMAGES = {
    "black": torch.zeros(2, 3, 8, 9),
    "white": torch.ones(2, 3, 8, 9),
    "constant": torch.full((2, 3, 8, 9), 0.5),
    "random": picture(8, 9, batch=2),
}


@FORMS
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("number", range(10), ids=operators.KEYS)
def test_gradients_are_finite_at_the_image_and_the_parameters(
    number: int, image: str, fixed: bool
) -> None:
    for raw_value in (0.4, -1.3):
        raw = torch.full((2, TABLE[number][1]), raw_value, requires_grad=True)
        x = IMAGES[image].clone().requires_grad_(True)
        theta = operators.parameters_from_raw(number, raw, fixed)
        y = operators.run_operator(number, x, theta, fixed).clamp(0.0, 1.0)
        (y * torch.linspace(-1, 2, 9)).sum().backward()
        for tensor in (raw.grad, x.grad):
            assert tensor is not None
            assert torch.isfinite(tensor).all()


@FORMS
def test_a_batch_of_all_operators_is_each_image_alone(fixed: bool) -> None:
    isp = AdaptiveIsp(AdaptiveConfig(parity=not fixed)).eval()
    x = picture(12, 14, batch=STOP + 1)
    raw = 0.5 * torch.randn(STOP + 1, 27, generator=torch.Generator().manual_seed(1))
    choice = torch.tensor([7, 0, 4, STOP, 9, 2, 5, 1, 8, 3, 6])
    with torch.no_grad():
        together = isp.step(x, choice, raw)
        for n in range(STOP + 1):
            alone = isp.step(x[n : n + 1], choice[n : n + 1], raw[n : n + 1])
            torch.testing.assert_close(together[n : n + 1], alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(together[3], x[3], atol=0, rtol=0)


def test_images_that_choose_differently_keep_their_own_pipelines() -> None:
    isp = deciding()
    x = torch.cat([contract.night(30, 36, seed=n, level=0.003 * 4**n) for n in range(4)])
    with torch.no_grad():
        together = isp.predict(x)["operators"]
        assert len({tuple(row.tolist()) for row in together}) > 1, "all choose alike"
        for n in range(4):
            assert torch.equal(isp.predict(x[n : n + 1])["operators"][0], together[n])
            torch.testing.assert_close(isp(x)[n], isp(x[n : n + 1])[0], atol=1e-5, rtol=0)


def test_what_explodes_in_one_operator_reaches_no_image_that_did_not_choose_it() -> None:
    """A row sum of zero makes the released colour matrix NaN, and there the whole batch."""
    isp = AdaptiveIsp(AdaptiveConfig(parity=True)).eval()
    x = picture(8, 9, batch=2)
    with torch.no_grad():
        y = isp.step(x, torch.tensor([CCM, G]), torch.zeros(2, 27))
    assert torch.isnan(y[0]).any()
    torch.testing.assert_close(y[1], x[1].clamp(min=1e-3))


@pytest.mark.parametrize("seed", range(5))
def test_the_mended_matrix_stays_bounded_and_keeps_grey(seed: int) -> None:
    raw = 10 * torch.randn(1, 9, generator=torch.Generator().manual_seed(seed))
    theta = operators.parameters_from_raw(CCM, raw, True)
    units = torch.eye(3).view(1, 3, 3, 1)  # pixel k shows column k of the matrix
    matrix = operators.run_operator(CCM, units, theta, True)[0, :, :, 0]
    assert float(matrix.abs().max()) <= 1 + 4 / 3
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(3), atol=1e-5, rtol=0)


# --- The agent ---------------------------------------------------------------------------------


def test_each_step_is_cut_so_that_highlights_are_lost_as_released() -> None:
    isp = AdaptiveIsp(AdaptiveConfig(steps=2, parity=True)).eval()
    raw = torch.zeros(1, 2, 27)
    raw[0, :, 0] = torch.tensor([50.0, -50.0])  # 3.5 stops up, then down again
    parameters = {"operators": torch.tensor([[E, E]]), "raw": raw}
    y = isp.apply(torch.full((1, 3, 4, 4), 0.5), parameters)
    torch.testing.assert_close(y, torch.full_like(y, 2**-3.5))


def test_fewer_steps_are_the_beginning_of_more() -> None:
    x = contract.night(30, 36, level=0.05)
    with torch.no_grad():
        five = deciding(steps=5).predict(x)
        two = deciding(steps=2).predict(x)
    assert torch.equal(two["operators"], five["operators"][:, :2])
    torch.testing.assert_close(two["raw"], five["raw"][:, :2])


def test_an_operator_used_twice_is_marked_once() -> None:
    isp = AdaptiveIsp()
    state = isp.start_state(torch.zeros(1, 3, 4, 4))
    assert state.tolist() == [[0.0] * 13]
    for _ in range(2):
        state = isp.next_state(state, torch.tensor([BALANCE]))
    assert state.tolist() == [[0, 0, 2] + [0] * 9 + [1]]


def all_in_turn(parity: bool) -> tuple[AdaptiveIsp, dict[str, Tensor]]:
    """An agent of ten steps that takes the operators one after another, with mild parameters."""
    isp = AdaptiveIsp(AdaptiveConfig(steps=10, parity=parity)).eval()
    raw = 0.2 + 0.1 * torch.randn(1, 10, 27, generator=torch.Generator().manual_seed(0))
    order = [BALANCE, SATURATE, CCM, SHARPEN, DENOISE, TONE, CONTRAST, DESATURATE, E, G]
    return isp, {"operators": torch.tensor([order]), "raw": raw}


@pytest.mark.parametrize("parity", [False, True])
def test_padding_reaches_no_operator(parity: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gamma's floor brightens bars of padding, and circular shifts bring them into the picture."""
    isp, fixed_plan = all_in_turn(parity)
    monkeypatch.setattr(isp, "predict", lambda x: fixed_plan)
    image = picture(20, 24) * 0.6
    padded = torch.full((1, 3, 32, 40), 0.9)
    padded[:, :, 5:25, 3:27] = image
    valid = torch.zeros(1, 1, 32, 40, dtype=torch.bool)
    valid[:, :, 5:25, 3:27] = True
    with torch.no_grad():
        y = isp(padded, valid)
        torch.testing.assert_close(y[:, :, 5:25, 3:27], isp(image), atol=1e-6, rtol=0)
    assert float((y * ~valid).abs().max()) == 0.0


@pytest.mark.parametrize("parity", [False, True])
def test_scripted_steps_are_eager_for_every_operator(parity: bool) -> None:
    isp, plan = all_in_turn(parity)
    x = picture(17, 19) * 0.5
    with deprecation_silenced(), torch.no_grad():
        scripted = torch.jit.script(isp)
        for number in range(STOP + 1):
            arguments = (x, torch.tensor([number]), plan["raw"][:, 0])
            expected = isp.step(*arguments)
            torch.testing.assert_close(scripted.step(*arguments), expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(scripted(x), isp(x), atol=1e-6, rtol=0)


# --- The networks ------------------------------------------------------------------------------


def test_the_parts_of_the_agent_have_the_released_sizes() -> None:
    policy = Policy(stop=False, dead_mask=True, dropout=0.5)
    assert count(policy.parameter_trunk) == count(policy.choice_trunk) == 697_760
    assert count(policy.choice) == 4096 * 128 + 128 + 128 * 10 + 10
    for head, (_, outputs, _) in zip(policy.heads, TABLE, strict=True):
        assert count(head) == 4096 * 128 + 128 + 129 * (outputs + 6)


def first_input(network: nn.Module, trunk: Any, x: Tensor, state: Tensor) -> Tensor:
    """What the first convolution of the trunk sees."""
    seen: list[Tensor] = []
    hook = trunk[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network.eval()(x, state)
    hook.remove()
    return seen[0]


def test_the_policy_sees_a_thumbnail_and_then_the_state() -> None:
    policy = Policy(stop=True, dead_mask=False, dropout=0.5)
    x = picture(128, 192, batch=2)  # cells of 2x3 pixels
    state = torch.arange(26.0).view(2, 13)
    for trunk in (policy.parameter_trunk, policy.choice_trunk):
        seen = first_input(policy, trunk, x, state)
        assert seen.shape == (2, 16, 64, 64)
        cells = x.numpy().reshape(2, 3, 64, 2, 64, 3).mean(axis=(3, 5))
        np.testing.assert_allclose(seen[:, :3].numpy(), cells, atol=1e-6)
        for n in range(13):
            assert torch.equal(seen[:, 3 + n], state[:, n].view(2, 1, 1).expand(2, 64, 64))


def test_the_value_network_sees_mean_and_variance_of_luma_and_mean_saturation() -> None:
    network = ValueNetwork()
    x = picture(64, 64, batch=2) * 1.2 - 0.1  # of the thumbnail's own size
    seen = first_input(network, network.trunk, x, torch.zeros(2, 13))
    assert seen.shape == (2, 19, 64, 64)
    for n in range(2):
        r, g, b = x[n].double().numpy()
        luma = 0.27 * r + 0.67 * g + 0.06 * b + 1e-5
        cut = np.clip(x[n].double().numpy(), 0, 1)
        high, low = cut.max(axis=0), cut.min(axis=0)
        saturation = (high - low) / (np.minimum(high + low, 2 - high - low) + 0.01)
        expected = [luma.mean(), luma.var(ddof=1), saturation.mean()]
        np.testing.assert_allclose(seen[n, 16:, 0, 0].numpy(), expected, rtol=1e-4)


def test_dropout_acts_on_the_policy_in_training_only() -> None:
    policy = Policy(stop=True, dead_mask=False, dropout=0.5)
    x, state = picture(32, 32, batch=2), torch.zeros(2, 13)
    with torch.no_grad():
        policy.train()
        assert not torch.equal(policy(x, state)[1], policy(x, state)[1])
        policy.eval()
        assert torch.equal(policy(x, state)[1], policy(x, state)[1])
    assert not [m for m in ValueNetwork().modules() if isinstance(m, nn.Dropout) and m.p > 0]


# Use of each operator in percent on LOD, and the published milliseconds.
SWEEP = [
    ([0, 0, 99.75, 100, 0, 100, 0.25, 77.5, 100, 22.5], 14.73),
    ([4.75, 1, 55.5, 100, 0, 59.75, 43.75, 39.25, 100, 96.5], 14.30),
    ([57.5, 56.25, 100, 42.5, 0, 42.75, 37.5, 21, 42.5, 100], 11.54),
    ([100, 7, 100, 0, 0, 0, 48, 49.75, 95.25, 100], 9.26),
    ([100, 0.75, 99.5, 0, 0, 0, 0, 99.75, 100, 100], 9.20),
]


@pytest.mark.parametrize(("percent", "milliseconds"), SWEEP)
def test_the_cost_table_adds_up_to_the_published_totals(
    percent: list[float], milliseconds: float
) -> None:
    total = sum(p / 100 * cost for p, cost in zip(percent, operators.COST_MS, strict=True))
    assert total == pytest.approx(milliseconds, abs=0.015)


def test_five_different_operators_cost_9_2_milliseconds_at_least() -> None:
    assert sum(sorted(operators.COST_MS)[:5]) == pytest.approx(9.2)
