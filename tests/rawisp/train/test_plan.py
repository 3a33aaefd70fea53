"""The plan of a run: what it says, that the run keeps to it, and what is checked before it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from rawisp.errors import (
    CheckpointError,
    NothingToDoError,
    OutputError,
    OutputFullError,
    TrainingError,
    UsageError,
)
from rawisp.train import TrainConfig, plan_training, resolve_config, train
from rawisp.train.events import TrainEvent
from rawisp.train.plan import phases_of
from rawisp.train.recipes import RECIPES, describe_recipe
from rawisp.train.schedule import lr_at

from .conftest import SMALL, Run
from .test_train import lines


def epochs(flags: dict[str, Any]) -> tuple[int, int]:
    config = resolve_config(flags, environment={})
    return config.epochs, config.phase2_epochs


@pytest.mark.parametrize(
    ("flags", "both"),
    [
        ({}, (5, 10)),
        ({"epochs": 1}, (1, 0)),
        ({"epochs": 5}, (5, 0)),
        ({"epochs": 7}, (5, 2)),
        ({"epochs": 15}, (5, 10)),
        ({"epochs": 20}, (10, 10)),
        ({"epochs": 1, "phase2_epochs": 10}, (1, 10)),  # the user asks for both
        ({"phase2_epochs": 0}, (5, 0)),
    ],
)
def test_epochs_that_the_user_gives_limit_both_phases(
    flags: dict[str, Any], both: tuple[int, int]
) -> None:
    assert epochs({"recipe": "staged", **flags}) == both


def test_epochs_of_a_file_and_of_the_environment_limit_both_phases(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('recipe = "staged"\nepochs = 6\n')
    assert resolve_config({}, file=file, environment={}).phase2_epochs == 1
    environment = {"RAWISP_TRAIN_EPOCHS": "2"}
    assert resolve_config({}, file=file, environment=environment).phase2_epochs == 0
    # Without a recipe's second phase they are those of the first, as --phase2 says.
    assert epochs({"epochs": 3, "phase2_epochs": 4}) == (3, 4)


def test_a_plan_says_what_a_run_then_does(
    small_run: Run, guide_weights: Path, sample_data: Path, cache: Path, tmp_path: Path
) -> None:
    events: list[TrainEvent] = []
    settings = {"epochs": 1, "phase2_epochs": 1, "cosine": False, "accumulate": 2}
    small_run(tmp_path / "run", on_event=events.append, **settings)
    assert events[0].kind == "plan"
    plan = events[0].values
    assert json.loads(json.dumps(plan)) is not None
    (start,) = (event.values for event in events if event.kind == "start")
    assert (plan["training"], plan["held_out"]) == (start["training"], start["held_out"])
    assert (plan["isp"], plan["parameters"], plan["device"]) == ("staged", 40, "cpu")
    assert (plan["batch"], plan["batch_size"], plan["fit"]) == (8, 4, (150, 100))
    assert (plan["folder"], plan["cache"]) == (str(tmp_path / "run"), str(cache))
    assert plan["detector_weights"] == str(guide_weights)
    alone, joint = plan["phases"]
    assert (alone["learns"], alone["frozen"]) == (("staged",), ("tiny",))
    assert (joint["learns"], joint["frozen"]) == (("staged", "tiny"), ())
    for phase, record in zip((alone, joint), lines(tmp_path / "run")[1:], strict=True):
        assert (phase["phase"], phase["last_lr"]) == (record["phase"], record["lr"])
        assert phase["first_epoch"] == phase["last_epoch"] == record["epoch"]
        assert phase["detector_lr"] == record.get("detector_lr")


def test_a_plan_writes_decodes_and_downloads_nothing(sample_data: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    config = replace(SMALL, detector="retinanet_resnet50_fpn", detector_weights=None)
    out, cache = tmp_path / "run", tmp_path / "cache"
    plan = plan_training(sample_data, out, config, cache=cache)
    assert plan.training + plan.held_out == 14 and plan.held_out > 0
    assert list(tmp_path.iterdir()) == []


def test_rates_of_the_plan_are_those_of_the_schedule() -> None:
    config = TrainConfig(lr=0.1, epochs=4, batch_size=2, warm_up_steps=3)
    (phase,) = phases_of(config, 10)
    assert (phase.lr, phase.last_lr) == (lr_at(config, 0, 3, 5), lr_at(config, 3, 4, 5))
    assert phase.schedule == "3 steps of warm-up, half a cosine"
    config = resolve_config({"recipe": "genisp"}, environment={})
    (phase,) = phases_of(config, 10)
    assert (phase.lr, phase.last_lr) == (1e-2, pytest.approx(1e-4))
    assert phase.schedule == "divided by ten after epoch 5 and 10"


NOTHING = {"detector": "tiny", "detector_weights": "random", "isp": "staged"}


def test_mistakes_are_found_before_anything_is_downloaded_or_decoded(
    sample_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("too late")

    monkeypatch.setattr("rawisp.train.run.prepare", never)
    monkeypatch.setattr("rawisp.detect.settings.create_guide", never)
    out, cache = tmp_path / "run", tmp_path / "cache"
    empty, file = tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.write_text("")

    def mistake(data: Path = sample_data, out: Path = out, **changes: Any) -> Any:
        config = TrainConfig(**{**NOTHING, **changes})
        return lambda: train(data, out, config, cache=cache)

    cases: list[tuple[type[Exception], str, Any]] = [
        (UsageError, "is no folder", mistake(tmp_path / "none")),
        (NothingToDoError, "empty: holds no camera RAW files", mistake(empty)),
        (CheckpointError, "no such checkpoint", mistake(start=str(tmp_path / "no.safetensors"))),
        (CheckpointError, "classic, not staged", mistake(start="classic")),
        (CheckpointError, "no such file of weights", mistake(detector_weights="none.pth")),
        (UsageError, "no detector is called", mistake(detector="tinyy")),
        (UsageError, "cannot be imported", mistake(detector="no_such_module:build")),
        (TrainingError, "no parameters to learn", mistake(isp="classic")),
        (OutputError, "file/run: the run's folder cannot be written", mistake(out=file / "run")),
    ]
    for kind, said, call in cases:
        with pytest.raises(kind, match=said):
            call()
    cache = file / "cache"
    with pytest.raises(OutputError, match=r"file/cache: the cache .* with --cache"):
        mistake()()
    assert sorted(tmp_path.iterdir()) == [empty, file]


def test_a_set_without_photographs_to_learn_from_is_nothing_to_do(
    sample_data: Path, tmp_path: Path
) -> None:
    import shutil

    data = tmp_path / "data"
    shutil.copytree(sample_data, data)
    (data / "annotations.json").rename(data / "test.json")
    with pytest.raises(NothingToDoError, match="no annotated photographs to train on"):
        plan_training(data, tmp_path / "run", TrainConfig(**NOTHING), cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOSPC, OutputFullError, "the disk is full; make room and continue"),
        (errno.EROFS, OutputError, r"state\.pt.*cannot be written \(Read-only file system\)"),
    ],
)
def test_a_folder_that_can_no_longer_be_written_is_named(
    number: int,
    kind: type[Exception],
    said: str,
    small_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(folder: str, *_: Any) -> None:
        raise OSError(number, os.strerror(number), os.path.join(folder, "state.pt"))

    monkeypatch.setattr("rawisp.train.state.save_state", refuse)
    with pytest.raises(kind, match=said):
        small_run(tmp_path / "run", epochs=1)


def test_a_full_disk_is_told_and_the_last_state_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rawisp.train import state

    class Module:
        def state_dict(self) -> dict[str, Any]:
            return {"weights": torch.zeros(100_000)}

    def save() -> None:
        with state.files_of(str(tmp_path)):
            state.save_state(str(tmp_path), state.Position(), {"m": Module()}, {}, "", "")

    save()
    before = (tmp_path / "state.pt").read_bytes()
    real = state._Told.write
    written = 0

    def full(self: Any, data: bytes) -> int:
        nonlocal written
        written += len(data)
        if written > 200_000:
            self.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise self.error
        return real(self, data)

    monkeypatch.setattr(state._Told, "write", full)
    with pytest.raises(OutputFullError, match="the disk is full; make room and continue with"):
        save()
    assert (tmp_path / "state.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_of_a_recipe_has_a_source(name: str) -> None:
    recipe = describe_recipe(name)
    assert recipe.values() == RECIPES[name]
    assert all(len(one.source) > 3 for one in recipe.settings)
    config = resolve_config({"recipe": name}, environment={}).record()
    for one in recipe.settings:
        value = config[one.name]
        if isinstance(value, dict):
            assert {key: value[key] for key in one.value} == one.value
        else:
            assert (list(value) if isinstance(value, tuple) else value) == one.value


def test_recipes_follow_their_sources() -> None:
    taken = {name: resolve_config({"recipe": name}, environment={}) for name in RECIPES}
    ta = taken["ta-isp"]
    assert (ta.optimizer, ta.momentum, ta.nesterov, ta.weight_decay) == ("sgd", 0.9, False, 1e-4)
    assert (ta.clip_norm, ta.batch_size * ta.accumulate, ta.epochs) == (35.0, 16, 50)
    assert taken["genisp"].clip_norm == 0.0
    staged = taken["staged"]
    assert (staged.batch_size * staged.accumulate, staged.joint_lr) == (32, 1e-2)
    (differs,) = [s for s in describe_recipe("staged").settings if s.name == "phase2_detector_lr"]
    assert not differs.follows and "1e-3" in differs.source
    assert TrainConfig(lr=1e-2).joint_lr == pytest.approx(1e-3)
