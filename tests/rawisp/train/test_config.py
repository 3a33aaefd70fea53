"""Where a setting comes from: flag, environment, file, recipe, default."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rawisp.data.augment import AugmentSettings
from rawisp.errors import UsageError
from rawisp.isp.registry import create_isp
from rawisp.train import TrainConfig, resolve_config
from rawisp.train.recipes import RECIPES, STAGED_START
from rawisp.train.schedule import lr_at


def test_flags_go_before_environment_before_file_before_recipe(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('recipe = "genisp"\nlr = 0.1\nepochs = 3\nseed = 5\nfit = "none"\n')
    environment = {"RAWISP_TRAIN_LR": "0.2", "RAWISP_TRAIN_EPOCHS": "4", "OTHER": "x"}
    config = resolve_config({"lr": 0.3, "seed": None}, file=file, environment=environment)
    assert (config.lr, config.epochs, config.seed, config.fit) == (0.3, 4, 5, None)
    assert config.milestones == (5, 10)  # the recipe's
    assert config.batch_size == 8  # the default


def test_files_and_variables_are_spelled_as_options_are(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('batch-size = 3\nphase2 = 2\nfit = "160x120"\n')
    environment = {"RAWISP_TRAIN_DETECTOR_SIZE": "300x400"}
    config = resolve_config({}, file=file, environment=environment)
    assert (config.batch_size, config.phase2_epochs) == (3, 2)
    assert (config.fit, config.detector_size) == ((160, 120), (400, 300))
    with pytest.raises(UsageError, match="RAWISP_TRAIN_EPOCS stands for no setting"):
        resolve_config({}, environment={"RAWISP_TRAIN_EPOCS": "9"})


def test_tables_are_merged() -> None:
    flags = {"recipe": "staged", "isp_config": {"gamma": 0.5}, "augment": {"noise": 0.1}}
    config = resolve_config(flags, environment={})
    assert config.isp_config["gamma"] == 0.5
    assert config.isp_config["grey_world"] is True
    assert config.augment == AugmentSettings(
        flip=0.5, crop=0.0, exposure_stops=0.0, illuminant=0.0, noise=0.1
    )


def test_staged_begins_where_night_can_be_seen() -> None:
    config = resolve_config({"isp": "staged"}, environment={})
    assert config.isp_config == {**STAGED_START, "input_color": "xyz"}
    flags = {"isp": "staged", "isp_config": {"grey_world": False}, "input_color": "camera"}
    config = resolve_config(flags, environment={})
    assert config.isp_config == {**STAGED_START, "grey_world": False, "input_color": "camera"}
    published = {"isp": "staged", "isp_config": {"parity": True}}
    assert resolve_config(published, environment={}).isp_config == {"parity": True}
    assert resolve_config({"isp": "genisp"}, environment={}).isp_config == {}
    again = resolve_config({}, environment={}, base=config)
    assert again == config


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_a_configuration_of_an_isp_that_exists(recipe: str) -> None:
    config = resolve_config({"recipe": recipe}, environment={})
    create_isp(config.isp, **config.isp_config)


def test_a_configuration_survives_json() -> None:
    config = resolve_config({"recipe": "ta-isp", "detector_size": (400, 300)}, environment={})
    assert TrainConfig.from_record(json.loads(json.dumps(config.record()))) == config


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"speed": 1}, "the command line: there is no setting 'speed'"),
        ({"lr": "fast"}, "the command line: lr = 'fast' is of the wrong kind"),
        ({"epochs": 1.5}, "the command line: epochs = 1.5 is of the wrong kind"),
        ({"epochs": -1}, "--epochs -1 is negative"),
        ({"recipe": "soup"}, "no recipe is called 'soup'"),
        ({"augment": {"blur": 1}}, "augment: knows only flip"),
        ({"box_loss": "l2"}, "--box-loss 'l2'"),
        ({"epochs": 0}, "there is nothing to learn"),
    ],
)
def test_what_is_wrong_is_said(flags: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_config(flags, environment={})
    assert said in str(caught.value)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("lr = = 1")
    with pytest.raises(UsageError, match=r"bad\.toml: is no TOML"):
        resolve_config({}, file=tmp_path / "bad.toml", environment={})
    with pytest.raises(UsageError, match="cannot be read"):
        resolve_config({}, file=tmp_path / "none.toml", environment={})


def test_genisps_schedule_is_divided_by_ten_after_epochs_5_and_10() -> None:
    config = resolve_config({"recipe": "genisp"}, environment={})
    rates = [lr_at(config, epoch, 0, 100) for epoch in range(15)]
    assert rates == pytest.approx([1e-2] * 5 + [1e-3] * 5 + [1e-4] * 5)


def test_warm_up_rises_and_the_cosine_falls() -> None:
    config = TrainConfig(lr=1.0, epochs=10, warm_up_steps=10)
    rates = [lr_at(config, step // 10, step % 10, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=2e-3)
