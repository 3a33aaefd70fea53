"""The papers' schedules and losses, as layers of settings that flags may override."""

from __future__ import annotations

from typing import Any

# Where `staged` begins unless settings say otherwise: its own start, without automatic exposure, is
# black at night, and 40 parameters take epochs to find the light.
STAGED_START = {"exposure_percentile": 0.75, "grey_world": True, "shoulder": 0.6}

RECIPES: dict[str, dict[str, Any]] = {
    # GenISP (CVPRW 2022), as its reproductions quote it: Adam 1e-2, divided by ten after epochs 5
    # and 10, 15 epochs of batch 8, images within 1333x800, focal and smooth-L1 loss of a frozen
    # RetinaNet. Augmentation: geometric, brightness and contrast, of unknown strength.
    "genisp": {
        "isp": "genisp",
        "detector": "retinanet_resnet50_fpn",
        "box_loss": "smooth_l1",
        "fit": [1333, 800],
        "epochs": 15,
        "batch_size": 8,
        "lr": 1e-2,
        "milestones": [5, 10],
        "cosine": False,
        "augment": {"flip": 0.5, "crop": 0.0, "exposure_stops": 0.5, "illuminant": 0.0},
    },
    # TA-ISP's detection runs, PASCAL RAW: lr 5e-4, 10 epochs of the data repeated 5 times, divided
    # by ten after 8 of 10; a RetinaNet at 667x400. There the detector learns along from the start.
    "ta-isp": {
        "isp": "ta-isp",
        "detector": "retinanet_resnet50_fpn",
        "fit": [667, 400],
        "epochs": 50,
        "batch_size": 4,
        "lr": 5e-4,
        "milestones": [40],
        "cosine": False,
        "augment": {"flip": 0.5, "crop": 0.0, "exposure_stops": 0.0, "illuminant": 0.0},
    },
    # datarax's five stages in two phases: ISP alone 5 epochs at 1e-2, then both 10 epochs, with a
    # detector that is trained before (its own run began with a random one, and learned nothing).
    "staged": {
        "isp": "staged",
        "isp_config": STAGED_START,
        "detector": "retinanet_resnet50_fpn",
        "fit": [667, 400],
        "epochs": 5,
        "phase2_epochs": 10,
        "batch_size": 8,
        "lr": 1e-2,
        "cosine": False,
        "augment": {"flip": 0.5, "crop": 0.0, "exposure_stops": 0.0, "illuminant": 0.0},
    },
    # AdaptiveISP (NeurIPS 2024), trained on LOD's 1,830 photographs within 512x512 without
    # augmentation: Adam 3e-5, falling exponentially to 3e-8 over 100,000 steps of 8, which are 437
    # epochs of as many photographs. The paper's objective; its clipping at 1e-5 is not taken over,
    # and operators are not used twice, where the paper only discourages it.
    "adaptive-isp": {
        "isp": "adaptive-isp",
        "isp_config": {"steps": 5, "repeat": False},
        "reinforce": "td",
        "input_color": "camera",
        "detector": "retinanet_resnet50_fpn",
        "fit": [512, 512],
        "epochs": 437,
        "batch_size": 8,
        "lr": 3e-5,
        "final_lr": 1e-3,
        "cosine": False,
        "replay": 128,
        "discount": 1.0,
        "entropy_weight": 0.05,
        "explore": 0.05,
        "augment": {"flip": 0.0, "crop": 0.0, "exposure_stops": 0.0, "illuminant": 0.0},
    },
}
