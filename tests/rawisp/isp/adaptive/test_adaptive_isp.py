"""The agent: sizes of the released networks, choices, stopping, and that only choices run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rawisp.checkpoint.torchscript import deprecation_silenced
from rawisp.isp import contract
from rawisp.isp.adaptive import adaptive_isp, operators
from rawisp.isp.adaptive.adaptive_isp import AdaptiveConfig, AdaptiveIsp
from rawisp.isp.adaptive.policy import ValueNetwork


def shaken(seed: int = 0, **config: Any) -> AdaptiveIsp:
    """An agent that does something: random heads, trained BatchNorm statistics."""
    torch.manual_seed(seed)
    isp = AdaptiveIsp(AdaptiveConfig(**config))
    with torch.no_grad():
        for head in isp.policy.heads:
            torch.nn.init.normal_(head.fc_filter.weight, std=0.05)  # type: ignore[union-attr, arg-type]
        isp.policy.choice[2].bias.copy_(torch.randn_like(isp.policy.choice[2].bias))  # type: ignore[union-attr, arg-type]
    return isp.eval()


def test_sizes_are_those_of_the_released_networks() -> None:
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    parity = AdaptiveIsp(AdaptiveConfig(parity=True))
    assert count(parity) == 7_176_609
    assert count(ValueNetwork()) == 1_223_841
    dead = 10 * (128 * 6 + 6)
    assert count(AdaptiveIsp(AdaptiveConfig(stop=False))) == 7_176_609 - dead


@pytest.mark.parametrize("parity", [False, True])
def test_contract(parity: bool) -> None:
    checks = [
        contract.check_sizes,
        contract.check_batch,
        contract.check_padding,
        contract.check_extremes,
        contract.check_autocast,
        contract.check_config,
        contract.check_parameters,
    ]
    if not parity:  # circular shifts and the kept border do not tile
        checks += [contract.check_tiles, contract.check_gradients]
    for check in checks:
        torch.manual_seed(1)
        check(lambda: AdaptiveIsp(AdaptiveConfig(parity=parity)))


def test_tiles_give_the_whole_also_when_every_operator_runs() -> None:
    isp = shaken(steps=10, stop=False, repeat=False)
    x = contract.night(60, 70, level=0.2)
    with torch.no_grad():
        chosen = isp.predict(x)["operators"]
        assert sorted(chosen[0].tolist()) == list(range(10)), "each once"
    contract.check_tiles(lambda: isp)


def test_a_fresh_agent_leaves_the_picture_nearly_as_it_is() -> None:
    torch.manual_seed(0)
    isp = AdaptiveIsp().eval()
    x = contract.night(40, 50, level=0.2).clamp(0, 1)
    with torch.no_grad():
        assert float((isp(x) - x).abs().max()) < 0.05


def test_only_chosen_operators_run(monkeypatch: pytest.MonkeyPatch) -> None:
    isp = shaken()
    x = contract.night(40, 50, level=0.1)
    with torch.no_grad():
        parameters = isp.predict(x)
        seen: list[int] = []
        real = operators.run_operator

        def spy(index: int, *rest: Any) -> Tensor:
            seen.append(index)
            return real(index, *rest)

        monkeypatch.setattr(adaptive_isp.operators, "run_operator", spy)
        isp.apply(x, parameters)
    assert seen == [n for n in parameters["operators"][0].tolist() if n < 10]


def test_apply_is_the_operators_one_after_another() -> None:
    isp = shaken(seed=2)
    x = contract.night(40, 50, level=0.1)
    with torch.no_grad():
        parameters = isp.predict(x)
        y = x.clamp(0, 1)
        first = [sum(operators.PARAMETER_COUNTS[:n]) for n in range(10)]
        for t, index in enumerate(parameters["operators"][0].tolist()):
            if index == 10:
                break
            raw = parameters["raw"][:, t, first[index] :][:, : operators.PARAMETER_COUNTS[index]]
            theta = operators.parameters_from_raw(index, raw, True)
            y = operators.run_operator(index, y, theta, True).clamp(0, 1)
        torch.testing.assert_close(isp(x), y)


def test_stopping_ends_the_sequence_for_that_image_alone() -> None:
    isp = shaken()
    with torch.no_grad():
        isp.policy.choice[2].bias[10] = 50.0  # type: ignore[union-attr, operator, index]
        x = contract.night(40, 50, batch=2, level=0.1)
        assert isp.predict(x)["operators"].tolist() == [[10] * 5] * 2
        torch.testing.assert_close(isp(x), x.clamp(0, 1))


def test_the_state_tells_step_and_used_operators() -> None:
    isp = AdaptiveIsp()
    state = isp.start_state(torch.zeros(2, 3, 4, 4))
    state = isp.next_state(state, torch.tensor([3, 10]))
    assert state[0].tolist() == [0, 0, 1] + [0, 0, 0, 1] + [0] * 6
    assert state[1].tolist() == [0, 0, 1] + [0] * 10


def test_scripted_is_eager() -> None:
    isp = shaken(seed=3)
    with deprecation_silenced():
        scripted = torch.jit.script(isp)
    for height, width in ((40, 50), (33, 71)):
        x = contract.night(height, width, batch=2, level=0.1)
        with torch.no_grad():
            torch.testing.assert_close(scripted(x), isp(x), atol=1e-6, rtol=0)


def test_the_value_network_tells_images_and_states_apart() -> None:
    torch.manual_seed(0)
    network = ValueNetwork().eval()
    x = contract.night(40, 50, batch=2, level=0.1)
    state = torch.zeros(2, 13)
    with torch.no_grad():
        value = network(x, state)
        assert value.shape == (2,)
        later = state.clone()
        later[:, 2] = 3.0
        assert not torch.equal(network(x, later), value)
        assert not torch.equal(network(2 * x, state), value)


def test_too_many_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="steps 11"):
        AdaptiveIsp(AdaptiveConfig(steps=11))


def centred(x: Tensor) -> tuple[Tensor, slice, slice]:
    """x in the middle of a black square, as the published loader puts it, and where it lies."""
    height, width = x.shape[2:]
    side = max(height, width)
    # Its own rounding: half of what is left less 0.1 in front, plus 0.1 behind.
    top, left = round((side - height) / 2 - 0.1), round((side - width) / 2 - 0.1)
    square = torch.zeros(x.shape[0], 3, side, side)
    rows, columns = slice(top, top + height), slice(left, left + width)
    square[:, :, rows, columns] = x
    return square, rows, columns


@pytest.mark.parametrize("size", [(40, 61), (61, 40), (48, 48), (47, 60)])
def test_parity_renders_as_in_the_published_square(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    isp = AdaptiveIsp(AdaptiveConfig(parity=True)).eval()
    bare = AdaptiveIsp(AdaptiveConfig(parity=True, letterbox=False)).eval()
    bare.load_state_dict(isp.state_dict())
    differing = 0
    for seed in range(6):
        with torch.no_grad():
            for head in (isp.policy.choice[2], isp.policy.heads[3].fc_filter):
                assert isinstance(head, torch.nn.Linear)
                torch.nn.init.normal_(head.weight, std=0.5)
            bare.load_state_dict(isp.state_dict())
            x = contract.night(*size, seed=seed, level=0.2).clamp(0, 1)
            square, rows, columns = centred(x)
            ours, theirs = isp.predict(x), bare.predict(square)
            assert torch.equal(ours["operators"], theirs["operators"])
            torch.testing.assert_close(isp(x), bare(square)[:, :, rows, columns], atol=1e-6, rtol=0)
            differing += int(not torch.equal(ours["operators"], bare.predict(x)["operators"]))
    if size != (48, 48):
        assert differing > 0, "the bars make no difference here, so this shows nothing"


def test_only_parity_has_bars_and_is_rendered_at_once() -> None:
    assert AdaptiveIsp().streams
    assert not AdaptiveIsp(AdaptiveConfig(parity=True)).streams
    assert not AdaptiveIsp(AdaptiveConfig(letterbox=True)).streams
    x = contract.night(20, 30)
    with torch.no_grad():
        assert AdaptiveIsp(AdaptiveConfig(letterbox=True)).eval()(x).shape == x.shape
