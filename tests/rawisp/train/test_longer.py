"""Runs that are continued beyond their end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rawisp.errors import UsageError
from rawisp.train import TrainConfig, resolve_config
from rawisp.train.events import TrainEvent
from rawisp.train.plan import phases_of
from rawisp.train.schedule import lr_at

from .conftest import Run
from .test_train import Stop, lines


def rates(config: TrainConfig, steps: int = 4) -> list[float]:
    return [lr_at(config, e, s, steps) for e in range(config.epochs) for s in range(steps)]


def test_the_schedule_begins_anew_for_what_is_added() -> None:
    first = TrainConfig(lr=1.0, epochs=10, warm_up_steps=2)
    longer = first.until(20)
    assert (longer.epochs, longer.extended) == (20, (10,))
    assert rates(longer) == rates(first) * 2
    third = longer.until(25)
    assert rates(third)[: 20 * 4] == rates(longer)  # what was done stays as it was
    assert rates(third)[20 * 4 :] == rates(TrainConfig(lr=1.0, epochs=5, warm_up_steps=2))


def test_or_the_last_rate_stays() -> None:
    for first in (
        TrainConfig(lr=1.0, epochs=10, extended_lr="constant"),
        TrainConfig(lr=1.0, epochs=10, cosine=False, milestones=(4,), extended_lr="constant"),
        TrainConfig(lr=1.0, epochs=10, cosine=False, final_lr=0.1, extended_lr="constant"),
    ):
        longer = first.until(12).until(13)
        assert rates(longer)[: 10 * 4] == rates(first)
        assert rates(longer)[10 * 4 :] == [rates(first)[-1]] * 3 * 4


def test_what_is_added_after_joint_epochs_is_joint() -> None:
    config = TrainConfig(epochs=2, phase2_epochs=3).until(9)
    assert (config.epochs, config.phase2_epochs, config.extended) == (2, 7, ())


def test_a_run_is_not_made_shorter() -> None:
    with pytest.raises(UsageError, match="--epochs 4 is less than the 10 that the run was begun"):
        TrainConfig(epochs=10).until(4)
    assert TrainConfig(epochs=10).until(10) == TrainConfig(epochs=10)


def test_epochs_of_a_continued_run_are_those_it_shall_have_in_all() -> None:
    base = resolve_config({"recipe": "staged", "epochs": 7}, environment={})

    def again(**flags: Any) -> tuple[int, int]:
        config = resolve_config(flags, environment={}, base=base)
        return config.epochs, config.phase2_epochs

    assert again() == again(recipe="staged") == (5, 2)
    assert again(epochs=7) == again(recipe="staged", epochs=7) == (5, 2)
    assert again(epochs=9) == (5, 4)
    assert again(epochs=5, phase2_epochs=3) == (5, 3)


def test_a_run_goes_on_with_its_recipe_as_it_was_when_it_was_begun() -> None:
    base = TrainConfig(recipe="staged", isp="staged", epochs=5, phase2_epochs=10, accumulate=1)
    again = resolve_config({"recipe": "staged"}, environment={}, base=base)
    assert again == base
    other = resolve_config({"recipe": "genisp"}, environment={}, base=base)
    assert other.isp == "genisp"  # which `train` then refuses by name


def test_the_plan_of_a_longer_run_says_what_its_rate_does() -> None:
    config = TrainConfig(lr=0.1, epochs=10).until(20)
    (phase,) = phases_of(config, 8, done=10)
    assert (phase.first_epoch, phase.last_epoch, phase.lr) == (11, 20, 0.1)
    assert phase.schedule == "half a cosine, begun anew"
    config = TrainConfig(lr=0.1, epochs=10, extended_lr="constant").until(20)
    (phase,) = phases_of(config, 8, done=12)
    assert (phase.first_epoch, phase.lr) == (13, phase.last_lr)
    assert phase.schedule == "constant, as it ended"


def test_a_finished_run_goes_on_bit_for_bit_when_that_is_interrupted(
    small_run: Run, tmp_path: Path
) -> None:
    def stop(event: TrainEvent) -> None:
        if event.kind == "step" and (event.values["epoch"], event.values["step"]) == (2, 2):
            raise Stop

    whole, parts = tmp_path / "a" / "run", tmp_path / "b" / "run"
    for run in (whole, parts):
        small_run(run, epochs=1, save_every_s=0.0)
    before = lines(whole)
    result = small_run(whole, epochs=2, save_every_s=0.0, resume=True)
    assert result.epochs == 2
    assert lines(whole)[:2] == before
    assert [r["epoch"] for r in lines(whole)] == [0, 1, 2]
    with pytest.raises(Stop):
        small_run(parts, epochs=2, save_every_s=0.0, resume=True, on_event=stop)
    small_run(parts, epochs=2, save_every_s=0.0, resume=True)
    assert lines(parts) == lines(whole)
    assert (parts / "isp.safetensors").read_bytes() == (whole / "isp.safetensors").read_bytes()
    assert json.loads((whole / "config.json").read_text())["extended"] == [1]


def test_a_run_of_an_earlier_version_continues(small_run: Run, tmp_path: Path) -> None:
    """Whose settings, position and metrics knew nothing of all this."""
    run = tmp_path / "run"
    small_run(run, epochs=1)
    state = torch.load(run / "state.pt", weights_only=True)
    for name in ("momentum", "nesterov", "phase2_lr", "extended", "extended_lr"):
        del state["config"][name]
    del state["position"]["best_joint"]
    state["position"]["lines"] = 1
    torch.save(state, run / "state.pt")
    old = (run / "metrics.jsonl").read_text().splitlines()[1]
    (run / "metrics.jsonl").write_text(old + "\n")
    small_run(run, epochs=2, resume=True)
    assert [r["epoch"] for r in lines(run)] == [1, 2]
