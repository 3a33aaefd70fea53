"""The papers' schedules and losses, setting by setting, each with where it comes from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rawisp.errors import UsageError

# Where `staged` begins unless settings say otherwise: its own start, without automatic exposure, is
# black at night, and 40 parameters take epochs to find the light.
STAGED_START = {"exposure_percentile": 0.75, "grey_world": True, "shoulder": 0.6}

_FLIP_ONLY = {"flip": 0.5, "crop": 0.0, "exposure_stops": 0.0, "illuminant": 0.0}
_NOTHING = {"flip": 0.0, "crop": 0.0, "exposure_stops": 0.0, "illuminant": 0.0}


@dataclass(frozen=True)
class RecipeSetting:
    """One setting of a recipe.

    name: as in `TrainConfig`. value: JSON. follows: whether it is the source's; else `source` says
    what the source does and why it is not done here.
    """

    name: str
    value: Any
    source: str
    follows: bool = True


@dataclass(frozen=True)
class Recipe:
    """name: of `--recipe`. what: one line. settings: all that it sets. left_out: what the source
    does that no setting here stands for."""

    name: str
    what: str
    settings: tuple[RecipeSetting, ...]
    left_out: tuple[str, ...] = ()

    def values(self) -> dict[str, Any]:
        """The settings as a layer of the configuration."""
        return {one.name: one.value for one in self.settings}

    def record(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def _follows(name: str, value: Any, source: str) -> RecipeSetting:
    return RecipeSetting(name, value, source)


def _differs(name: str, value: Any, source: str) -> RecipeSetting:
    return RecipeSetting(name, value, source, follows=False)


_GENISP = Recipe(
    "genisp",
    "GenISP (CVPRW 2022), as its reproductions quote it",
    (
        _follows("isp", "genisp", "the paper's network"),
        _follows("detector", "retinanet_resnet50_fpn", "a frozen RetinaNet"),
        _follows("box_loss", "smooth_l1", "focal and smooth-L1 loss"),
        _follows("fit", [1333, 800], "images within 1333x800, in training and test"),
        _follows("epochs", 15, "15 epochs"),
        _follows("batch_size", 8, "batches of 8"),
        _follows("optimizer", "adam", "Adam; its betas are not told, PyTorch's are taken"),
        _follows("lr", 1e-2, "1e-2"),
        _follows("milestones", [5, 10], "divided by ten after epochs 5 and 10"),
        _follows("cosine", False, "a rate in steps"),
        _follows("clip_norm", 0.0, "no clipping of gradients is told of"),
        _differs(
            "augment",
            {"flip": 0.5, "crop": 0.0, "exposure_stops": 0.5, "illuminant": 0.0},
            "geometric, brightness and contrast, of unknown strength; here a mirror image in half "
            "of the cases and up to half a stop",
        ),
    ),
)

_TA_ISP = Recipe(
    "ta-isp",
    "TA-ISP's RetinaNet with a ResNet-50 on PASCAL RAW, as its code's configuration files say",
    (
        _follows("isp", "ta-isp", "the published network"),
        _differs(
            "detector",
            "retinanet_resnet50_fpn",
            "a RetinaNet that learns along from the first step, from ImageNet's weights; here "
            "COCO's, frozen",
        ),
        _follows("fit", [667, 400], "images within 667x400"),
        _follows("epochs", 50, "10 epochs of the data repeated 5 times"),
        _follows("batch_size", 4, "4 for each of 4 GPUs"),
        _follows("accumulate", 4, "4 GPUs, so 16 photographs a step"),
        _follows("optimizer", "sgd", "SGD, the ISP included"),
        _follows("momentum", 0.9, "momentum 0.9"),
        _follows("nesterov", False, "plain momentum"),
        _follows("weight_decay", 1e-4, "weight decay 1e-4, the ISP included"),
        _follows("lr", 2e-3, "2e-3 with a ResNet-50 (5e-4 with a ResNet-18, 5e-3 on LOD)"),
        _follows("milestones", [40], "divided by ten after 8 of 10 epochs"),
        _follows("cosine", False, "a rate in steps"),
        _follows("warm_up_steps", 2000, "a linear rise over 500 steps, here of 4 batches each"),
        _follows("clip_norm", 35.0, "the norm of gradients is limited to 35"),
        _follows("augment", _FLIP_ONLY, "a mirror image in half of the cases"),
    ),
    (
        "photographs without boxes are left out there and used here",
        "the source feeds its detector 0 to 255; here a detector gets 0 to 1 and normalises itself",
    ),
)

_STAGED = Recipe(
    "staged",
    "datarax's guide of five stages in two phases: the ISP alone, then both",
    (
        _follows("isp", "staged", "the guide's five stages"),
        _differs(
            "isp_config",
            STAGED_START,
            "its own start is black at night; here an automatic exposure and balance",
        ),
        _differs(
            "detector",
            "retinanet_resnet50_fpn",
            "a classifier of 0.4 M parameters that begins random, in front of which the first "
            "phase learned nothing; here a trained detector",
        ),
        _differs("fit", [667, 400], "pictures of 32x32"),
        _follows("epochs", 5, "phase 1: 5 epochs, the ISP alone"),
        _follows("phase2_epochs", 10, "phase 2: 10 epochs, both"),
        _follows("batch_size", 8, "batches of 32, here as 4 of 8"),
        _follows("accumulate", 4, "batches of 32, here as 4 of 8"),
        _follows("optimizer", "adam", "Adam, one for each of both"),
        _follows("lr", 1e-2, "1e-2 for the ISP"),
        _follows("cosine", False, "no schedule"),
        _follows("clip_norm", 0.0, "no clipping of gradients"),
        _follows("phase2_lr", 1e-2, "1e-2 for the ISP in phase 2, too"),
        _differs(
            "phase2_detector_lr",
            1e-4,
            "1e-3 for a detector that begins random; Adam at that rate undoes a trained one",
        ),
        _differs("augment", _FLIP_ONLY, "none; here a mirror image in half of the cases"),
    ),
    (
        "in phase 2 the guide's classifier learns in training mode; here running statistics of "
        "BatchNorm stay, as batches are small",
        "darkness is made from 8-bit pictures there; here photographs are RAW",
    ),
)

_ADAPTIVE = Recipe(
    "adaptive-isp",
    "AdaptiveISP (NeurIPS 2024) on LOD: the paper's objective",
    (
        _follows("isp", "adaptive-isp", "the paper's operators and policy"),
        _differs(
            "isp_config",
            {"steps": 5, "repeat": False},
            "five steps; an operator that comes twice is only discouraged there, here excluded",
        ),
        _follows("reinforce", "td", "one step at a time, from a pool"),
        _follows("input_color", "camera", "LOD's pictures are in the camera's colours"),
        _differs("detector", "retinanet_resnet50_fpn", "YOLOv3"),
        _follows("fit", [512, 512], "pictures within 512x512"),
        _follows("epochs", 437, "100,000 steps, which are 437 epochs of LOD's 1,830 photographs"),
        _follows("batch_size", 8, "batches of 8"),
        _follows("optimizer", "adam", "Adam"),
        _follows("lr", 3e-5, "3e-5"),
        _follows("final_lr", 1e-3, "falling exponentially to 3e-8"),
        _follows("cosine", False, "an exponential"),
        _differs(
            "clip_norm", 1.0, "1e-5, which is below Adam's epsilon and all but stops the learning"
        ),
        _follows("replay", 128, "a pool of 128 episodes"),
        _follows("discount", 1.0, "no discount"),
        _follows("entropy_weight", 0.05, "0.05, falling to zero"),
        _follows("explore", 0.05, "0.05"),
        _follows("augment", _NOTHING, "none"),
    ),
)

_ALL = {one.name: one for one in (_GENISP, _TA_ISP, _STAGED, _ADAPTIVE)}

RECIPES: dict[str, dict[str, Any]] = {name: one.values() for name, one in _ALL.items()}


def describe_recipe(name: str) -> Recipe:
    """A recipe, setting by setting, with sources. UsageError for an unknown name."""
    if name not in _ALL:
        raise UsageError(f"no recipe is called {name!r}; there are {', '.join(_ALL)}")
    return _ALL[name]
