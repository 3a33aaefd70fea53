"""The settings of a training run, and where each came from: flag > environment > file > recipe."""

from __future__ import annotations

import os
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rawisp.data.augment import AugmentSettings
from rawisp.errors import UsageError, display_path
from rawisp.geometry import Fit, parse_fit
from rawisp.train.recipes import RECIPES, STAGED_START

ENVIRONMENT_PREFIX = "RAWISP_TRAIN_"

# Options whose names are not those of their fields.
_SPELLED = {"phase2": "phase2_epochs"}
# Gradients clipped to AdaptiveISP's published 1e-5 are below the epsilon of Adam.
_LEAST_CLIP_NORM = 1e-3
# What learning by reinforcement does not take, and why.
_WHY_NOT = {
    "phase2_epochs": "its reward is a frozen detector's loss",
    "color_weight": "its reward is the detector's loss alone",
    "day_weight": "its reward is the detector's loss alone",
    "day_response": "its reward is the detector's loss alone",
    "amp": "its rewards are differences finer than bfloat16",
}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that changes the result of a run; written to RUN/config.json.

    isp, isp_config: as for `create_isp`. start: a safetensors checkpoint to go on from. recipe: the
    preset that was asked for. input_color: what the ISP is fed. fit: limits of the (long, short)
    side of the packed images. detector, detector_weights, detector_classes: as for `create_guide`.
    detector_size: (long, short) to which detectors scale their input, None for their own.
    epochs, batch_size, accumulate: an optimiser step every `accumulate` batches; together
    batch_size x accumulate images. lr: of the ISP; milestones: epochs after which it is divided by
    ten; final_lr: share of it that an exponential ends at; cosine: fall to zero along half a cosine
    instead; warm_up_steps: linear rise.
    optimizer: "adam", "adamw" or "sgd", the last with `momentum`, Nesterov's or plain. clip_norm:
    of the gradients, 0 for none.
    box_loss_beta: of box_loss "smooth_l1", on deltas as `rawisp.detect` divides them.
    color_weight: of the grey-world term on the enhanced image. day_weight: of the difference from
    the well-lit photograph, for nights that `synth` made of one; day_response: of the difference
    between the detector's responses to both. box_loss: "own" or "smooth_l1".
    phase2_epochs: after `epochs`, detector and ISP together, the ISP at phase2_lr (None: lr / 10)
    and the detector at phase2_detector_lr, both constant.
    extended: of a run that was continued beyond its end, the numbers of epochs of phase 1 after
    which it was. extended_lr: what its rate does then, "restart" the schedule or stay "constant".
    amp: bfloat16 autocast for the detector and the ISP's U-Net (float16 with scaling on older GPUs
    is not offered).
    augment: see `AugmentSettings`. val: share of the images held out, seeded, where the data have
    no split of their own. fresh_nights: photographs that `rawisp synth` made are darkened anew for
    each epoch. device, workers: where, and how many loading threads. save_every_s: how often the
    state is written within an epoch. previews: how many validation images are rendered each epoch.

    Of adaptive-isp alone, see docs/reinforcement.md. reinforce: "terminal", "td" or "greedy".
    runtime_penalty: taken off the reward per millisecond of the paper's table. replay: episodes in
    the pool of td and greedy. discount: of a step's future, there. entropy_weight: of the penalty
    on certain choices, falling to zero over the run. explore: share of choices left to chance.
    """

    isp: str = "genisp"
    isp_config: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    recipe: str | None = None
    input_color: str = "xyz"
    fit: Fit | None = (1333, 800)
    detector: str = "retinanet_resnet50_fpn"
    detector_weights: str | None = None
    detector_classes: tuple[str, ...] | None = None
    detector_size: tuple[int, int] | None = None
    epochs: int = 15
    batch_size: int = 8
    accumulate: int = 1
    lr: float = 1e-3
    milestones: tuple[int, ...] = ()
    final_lr: float = 1.0
    cosine: bool = True
    warm_up_steps: int = 0
    optimizer: str = "adam"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    color_weight: float = 0.0
    day_weight: float = 0.0
    day_response: float = 0.0
    box_loss_beta: float = 1.0 / 9.0
    box_loss: str = "own"
    phase2_epochs: int = 0
    phase2_lr: float | None = None
    phase2_detector_lr: float = 1e-4
    extended: tuple[int, ...] = ()
    extended_lr: str = "restart"
    amp: bool = False
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    annotation_frame: str = "auto"
    val: float = 0.0
    fresh_nights: bool = True
    seed: int = 0
    device: str = "auto"
    workers: int = 2
    save_every_s: float = 300.0
    previews: int = 4
    reinforce: str = "terminal"
    runtime_penalty: float = 0.0
    replay: int = 128
    discount: float = 1.0
    entropy_weight: float = 0.05
    explore: float = 0.05

    def __post_init__(self) -> None:
        positive = ("batch_size", "accumulate", "lr", "final_lr", "workers")
        for name in positive:
            if not getattr(self, name) > 0:
                raise UsageError(f"--{_option(name)} {getattr(self, name)} must be above 0")
        counts = (
            "epochs",
            "phase2_epochs",
            "warm_up_steps",
            "clip_norm",
            "color_weight",
            "day_weight",
            "day_response",
        )
        for name in (*counts, "runtime_penalty", "entropy_weight"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{_option(name)} {getattr(self, name)} is negative")
        if self.epochs + self.phase2_epochs == 0:
            raise UsageError("--epochs 0 without --phase2: there is nothing to learn")
        if self.optimizer not in ("adam", "adamw", "sgd"):
            raise UsageError(f"--optimizer {self.optimizer!r} is none of adam, adamw, sgd")
        if self.box_loss not in ("own", "smooth_l1"):
            raise UsageError(f"--box-loss {self.box_loss!r} is neither own nor smooth_l1")
        if self.phase2_lr is not None and not self.phase2_lr > 0.0:
            raise UsageError(f"phase2_lr {self.phase2_lr} must be above 0")
        if self.extended_lr not in ("restart", "constant"):
            raise UsageError(f"--extended-lr {self.extended_lr!r} is neither restart nor constant")
        if self.optimizer == "sgd" and self.nesterov and not self.momentum > 0.0:
            raise UsageError(f"momentum {self.momentum} is not above 0, which nesterov needs")
        if not 0.0 <= self.val < 1.0:
            raise UsageError(f"--val {self.val} is no share between 0 and 1")
        self._check_reinforcement()

    @property
    def total_epochs(self) -> int:
        """Of both phases."""
        return self.epochs + self.phase2_epochs

    @property
    def joint_lr(self) -> float:
        """The ISP's learning rate in phase 2."""
        return self.lr / 10 if self.phase2_lr is None else self.phase2_lr

    @property
    def reinforces(self) -> bool:
        """Whether the ISP learns by reinforcement and not by gradient alone."""
        return self.isp == "adaptive-isp"

    def _check_reinforcement(self) -> None:
        if self.reinforce not in ("terminal", "td", "greedy"):
            raise UsageError(f"--reinforce {self.reinforce!r} is none of terminal, td, greedy")
        for name in ("discount", "explore"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"{name} {getattr(self, name)} is not between 0 and 1")
        if not self.reinforces:
            if self.runtime_penalty > 0.0:
                raise UsageError("--runtime-penalty is for --isp adaptive-isp")
            return
        if self.replay < self.batch_size:
            raise UsageError(f"replay {self.replay} is less than a batch of {self.batch_size}")
        for name, why in _WHY_NOT.items():
            if getattr(self, name):
                option = _option(name.removesuffix("_epochs"))
                raise UsageError(f"--{option} is not for adaptive-isp: {why}")
        released = self.reinforce == "greedy" and self.isp_config.get("parity") is True
        if 0.0 < self.clip_norm < _LEAST_CLIP_NORM and not released:
            raise UsageError(
                f"clip_norm {self.clip_norm} is below {_LEAST_CLIP_NORM}, where Adam hardly moves; "
                "it is for --reinforce greedy with --isp-config parity=true"
            )

    def record(self) -> dict[str, Any]:
        """JSON values, from which `from_record` makes it again."""
        return asdict(self)

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> TrainConfig:
        """The inverse of `record`. UsageError for what does not fit."""
        # Runs of earlier versions, which knew fewer settings, had what are the defaults now.
        return resolved([("the saved configuration", dict(record))])  # lists become tuples

    def until(self, total: int) -> TrainConfig:
        """This run with `total` epochs in all, for one that is continued. UsageError for fewer.

        What is added belongs to the last phase; in phase 1 the schedule that was begun ends as it
        was begun, and `extended` says where.
        """
        more = total - self.total_epochs
        if more < 0:
            raise UsageError(
                f"--epochs {total} is less than the {self.total_epochs} that the run was begun "
                "with; a run can only be made longer. What it has learned so far can be used at "
                "any time"
            )
        if more == 0:
            return self
        if self.phase2_epochs:
            return replace(self, phase2_epochs=self.phase2_epochs + more)
        return replace(self, epochs=total, extended=(*self.extended, self.epochs))


def resolve_config(
    flags: Mapping[str, Any],
    *,
    file: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
    base: TrainConfig | None = None,
) -> TrainConfig:
    """The configuration of a run: base < recipe < TOML file < RAWISP_TRAIN_* variables < flags.

    flags: values given on the command line, by field name; None means not given. file: TOML with
    the fields as keys, `[isp_config]` and `[augment]` as tables. base: of the run that is
    continued; its recipe is in its values, and `epochs` is how many it shall have in all. Where a
    recipe has a second phase, epochs that the user gives are those of both. Where nothing else is
    said `staged` begins at `STAGED_START`. Raises UsageError naming the place of an unknown key or
    a wrong value.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    layers: list[tuple[str, dict[str, Any]]] = []
    if file is not None:
        layers.append((display_path(file), _read_toml(file)))
    layers.append(("the environment", _from_environment(environment or os.environ)))
    layers.append(("the command line", given))
    layers = [(place, _named(layer)) for place, layer in layers]
    recipe = next((v["recipe"] for _, v in reversed(layers) if v.get("recipe")), None)
    of_recipe: dict[str, Any] = {}
    if recipe is not None:
        if recipe not in RECIPES:
            raise UsageError(f"no recipe is called {recipe!r}; there are {', '.join(RECIPES)}")
        of_recipe = dict(RECIPES[recipe])
    if base is not None:
        return _continued(base, (f"the recipe {recipe}", of_recipe), layers)
    layers.insert(0, (f"the recipe {recipe}", of_recipe))
    config = _within_budget(resolved(layers), of_recipe, layers[1:])
    if config.isp != "staged" or config.isp_config.get("parity"):
        return config
    fed = "camera" if config.input_color == "camera" else "xyz"
    start = {"isp_config": {**STAGED_START, "input_color": fed}}
    started = resolved([("the start of staged", start), *layers])
    return replace(config, isp_config=started.isp_config)


def _named(layer: dict[str, Any]) -> dict[str, Any]:
    """A layer by the names of fields, which may be spelled as options are."""
    return {_SPELLED.get(name, name.replace("-", "_")): value for name, value in layer.items()}


def _asked(name: str, layers: Sequence[tuple[str, dict[str, Any]]]) -> bool:
    """Whether the user, and not a recipe, gives this setting."""
    return any(layer.get(name) is not None for _, layer in layers)


def _within_budget(
    config: TrainConfig, of_recipe: dict[str, Any], asked: Sequence[tuple[str, dict[str, Any]]]
) -> TrainConfig:
    """--epochs limits the whole run where a recipe and not the user asks for a second phase.

    The recipe's first phase comes first, then as much of its second as is left; what goes beyond
    both is learned by the ISP alone.
    """
    second = of_recipe.get("phase2_epochs", 0)
    if not second or not _asked("epochs", asked) or _asked("phase2_epochs", asked):
        return config
    joint = min(second, max(0, config.epochs - of_recipe["epochs"]))
    return replace(config, epochs=config.epochs - joint, phase2_epochs=joint)


def _continued(
    base: TrainConfig,
    recipe: tuple[str, dict[str, Any]],
    layers: Sequence[tuple[str, dict[str, Any]]],
) -> TrainConfig:
    """The configuration of a continued run: --epochs is how many it shall have in all."""
    if recipe[0] == f"the recipe {base.recipe}":
        recipe = recipe[0], {}  # its settings are the run's, as they were when that was begun
    length = ("epochs", "phase2_epochs")
    of_recipe = recipe[0], {k: v for k, v in recipe[1].items() if k not in length}
    rest = [(place, {k: v for k, v in one.items() if k not in length}) for place, one in layers]
    config = resolved([("the run", base.record()), of_recipe, *rest])
    wanted = resolved([("the run", base.record()), *layers])
    if not _asked("epochs", layers) and not _asked("phase2_epochs", layers):
        return config
    if not _asked("phase2_epochs", layers):
        return config.until(wanted.epochs)
    if wanted.epochs != base.epochs and _asked("epochs", layers):
        return replace(config, epochs=wanted.epochs, phase2_epochs=wanted.phase2_epochs)
    return config.until(base.epochs + wanted.phase2_epochs)


def resolved(layers: list[tuple[str, dict[str, Any]]]) -> TrainConfig:
    """One configuration from layers of values, later ones winning; tables are merged."""
    values: dict[str, Any] = {}
    types_of = typing.get_type_hints(TrainConfig)
    places: dict[str, str] = {}
    for place, layer in layers:
        for written, value in layer.items():
            # As the options are spelled, too.
            name = _SPELLED.get(written, written.replace("-", "_"))
            places[name] = place
            if name not in types_of:
                known = ", ".join(f.name for f in fields(TrainConfig))
                raise UsageError(f"{place}: there is no setting {written!r}; there are {known}")
            if isinstance(value, dict) and isinstance(values.get(name), dict):
                value = {**values[name], **value}
            values[name] = value
    if isinstance(values.get("augment"), dict):
        try:
            values["augment"] = AugmentSettings(**values["augment"])
        except TypeError:
            known = ", ".join(f.name for f in fields(AugmentSettings))
            raise UsageError(f"augment: knows only {known}") from None
    for name, value in values.items():
        if name in ("fit", "detector_size") and isinstance(value, str):
            value = parse_fit(value)
        values[name] = _typed(name, value, types_of[name], places[name])
    return TrainConfig(**values)


def _typed(name: str, value: Any, kind: Any, place: str) -> Any:
    """`value` as its field's type: lists become tuples, whole numbers floats. UsageError.

    "none" is how TOML and the command line say None.
    """
    if value == "none":
        value = None
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and type(None) in options:
        return None
    for option in options:
        origin = typing.get_origin(option) or option
        if origin is tuple and isinstance(value, list | tuple):
            return tuple(value)
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if origin in (bool, int, str, dict, AugmentSettings) and type(value) is origin:
            return value
    raise UsageError(f"{place}: {name} = {value!r} is of the wrong kind")


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """RAWISP_TRAIN_LR=0.01 and so on; values are written as in TOML, plain words need no quotes."""
    found = {}
    known = {ENVIRONMENT_PREFIX + f.name.upper() for f in fields(TrainConfig)}
    for name in environment:
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            raise UsageError(f"the environment: {name} stands for no setting of rawisp train")
    for field_ in fields(TrainConfig):
        text = environment.get(ENVIRONMENT_PREFIX + field_.name.upper())
        if text is not None:
            try:
                found[field_.name] = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                found[field_.name] = text
    return found


def _read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    shown = display_path(path)
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{shown}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{shown}: is no TOML ({error})") from None


def _option(name: str) -> str:
    return name.replace("_", "-")
