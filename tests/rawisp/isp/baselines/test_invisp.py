"""InvISP against its formulas written out, and its inverse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rawisp.checkpoint.torchscript import deprecation_silenced
from rawisp.isp.baselines.invisp import InvispConfig, InvispIsp


def reference(w: Any, image: Any, steps: int) -> Any:
    def dense(x: Any, name: str) -> Any:
        for layer in ("first", "second", "third", "fourth"):
            v = w.conv(x, f"{name}.{layer}")
            x = np.concatenate([x, np.where(v > 0, v, 0.2 * v)])
        return w.conv(x, f"{name}.last")

    for n in range(steps):
        step = f"steps.{n}"
        lower = np.tril(w[f"{step}.lower"], -1) + np.eye(3)
        diagonal = np.diag(w[f"{step}.sign"] * np.exp(w[f"{step}.log_diagonal"]))
        upper = np.triu(w[f"{step}.upper"], 1) + diagonal
        x = np.einsum("ij,jhw->ihw", w[f"{step}.permutation"] @ lower @ upper, image)
        y1 = x[:1] + dense(x[1:], f"{step}.add_to_one")
        s = 0.8 * (2 / (1 + np.exp(-dense(y1, f"{step}.scale_two"))) - 1)
        y2 = x[1:] * np.exp(s) + dense(y1, f"{step}.add_to_two")
        image = np.concatenate([y1, y2])
    return image


@pytest.mark.parametrize(("steps", "init"), [(1, "paper"), (2, "paper"), (6, "identity")])
def test_equals_the_formulas(steps: int, init: str, shaken: Any, weights: Any, scene: Any) -> None:
    torch.manual_seed(0)
    isp = shaken(InvispIsp(InvispConfig(steps=steps, init=init)), by=0.02)
    x = torch.tensor(scene[None, :, :15, :18], dtype=torch.float32)
    with torch.no_grad():
        got = isp.apply(x, isp.predict(x))[0].numpy()
    expected = reference(weights(isp), scene[:, :15, :18], steps)
    assert np.abs(expected - scene[:, :15, :18]).max() > 0.05
    np.testing.assert_allclose(got, expected, atol=2e-4 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6, 8])
def test_identity_start_is_the_identity(steps: int) -> None:
    isp = InvispIsp(InvispConfig(steps=steps)).eval()
    x = torch.rand(1, 3, 9, 12)
    with torch.no_grad():
        torch.testing.assert_close(isp(x), x, atol=1e-6, rtol=0)


def test_each_channel_takes_its_turn_from_the_identity_start() -> None:
    """A coupling changes channels 1, 2 and 3 once each in three steps, as their first."""
    isp = InvispIsp().eval()
    so_far, firsts = torch.eye(3), []
    for step in isp.steps:
        so_far = step.matrix().detach() @ so_far
        firsts.append(int(so_far[0].argmax()))
    assert sorted(firsts[:3]) == [0, 1, 2]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-11)])
@pytest.mark.parametrize("init", ["identity", "paper"])
def test_there_and_back(dtype: torch.dtype, tolerance: float, init: str, shaken: Any) -> None:
    torch.manual_seed(1)
    isp = shaken(InvispIsp(InvispConfig(steps=3, init=init)), by=0.02).to(dtype)
    x = torch.rand(2, 3, 20, 26, dtype=dtype)
    with torch.no_grad():
        y = isp.apply(x, isp.predict(x))
        assert float((y - x).abs().max()) > 0.05
        torch.testing.assert_close(isp.inverse(y), x, atol=tolerance, rtol=0)
        again = isp.inverse(x)
        forth = isp.apply(again, isp.predict(again))
        torch.testing.assert_close(forth, x, atol=10 * tolerance, rtol=0)


def test_the_inverse_can_be_scripted(shaken: Any) -> None:
    isp = shaken(InvispIsp(InvispConfig(steps=2)), by=0.02)
    with deprecation_silenced():
        scripted = torch.jit.script(isp)
    y = torch.rand(1, 3, 12, 14)
    with torch.no_grad():
        torch.testing.assert_close(scripted.inverse(y), isp.inverse(y))


def test_the_matrices_start_as_rotations() -> None:
    torch.manual_seed(2)
    matrices = InvispIsp(InvispConfig(init="paper")).predict(torch.zeros(1, 3, 2, 2))["matrices"][0]
    turned = matrices @ matrices.transpose(1, 2)
    torch.testing.assert_close(turned, torch.eye(3).expand(6, 3, 3), atol=1e-5, rtol=0)


def test_wrong_halves_of_the_factors_count_for_nothing(shaken: Any) -> None:
    isp = shaken(InvispIsp(InvispConfig(steps=1)), by=0.1)
    before = isp.steps[0].matrix().detach()
    with torch.no_grad():
        isp.steps[0].lower.add_(torch.ones(3, 3).triu())
        isp.steps[0].upper.add_(torch.ones(3, 3).tril())
    torch.testing.assert_close(isp.steps[0].matrix().detach(), before)


def test_looks_exactly_as_far_as_it_says(shaken: Any) -> None:
    isp = shaken(InvispIsp(InvispConfig(steps=1)), by=0.1).double()
    x = torch.rand(1, 3, 41, 41, dtype=torch.float64)
    changed = x.clone()
    changed[:, :, 20, 20] += 1.0
    with torch.no_grad():
        moved = (isp.apply(x, isp.predict(x)) - isp.apply(changed, isp.predict(x))).abs()
    rows = moved.amax(dim=(0, 1, 3)).nonzero().flatten()
    assert (int(rows.min()), int(rows.max())) == (20 - isp.halo, 20 + isp.halo)


def test_needs_a_step() -> None:
    with pytest.raises(ValueError, match="steps is 0; there must be at least one"):
        InvispIsp(InvispConfig(steps=0))
