"""Random and planted truths; a detector that finds bright rectangles, photographs with some."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rawisp.detect import Detections, Guide, Target
from rawisp.evaluation.average_precision import Found, Truth
from rawisp.raw.container import CAMERA_BODIES, write_container

BLACK, BRIGHT = 800, 12000
# Sensor pixels; packing halves them.
HEIGHT, WIDTH = 120, 160


class BrightRectangles(Guide):
    """Finds what is bright: as a car if it is wider than high, as a person if not.

    Rectangles must not share columns. `threshold`: of the mean over channels.
    """

    def __init__(self, categories: Sequence[str | None] = (None, "person", "car")) -> None:
        super().__init__()
        self.categories = tuple(categories)
        self.register_buffer("threshold", torch.tensor(0.3))

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        raise AssertionError("evaluation needs no losses")

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        return [self._detect(image.mean(dim=0) > self.threshold) for image in images]

    def _detect(self, bright: Tensor) -> Detections:
        columns = [0, *bright.any(dim=0).int().tolist(), 0]
        starts = [n for n in range(len(columns) - 1) if columns[n] < columns[n + 1]]
        ends = [n for n in range(len(columns) - 1) if columns[n] > columns[n + 1]]
        boxes = []
        for left, right in zip(starts, ends, strict=True):
            rows = torch.nonzero(bright[:, left:right].any(dim=1)).flatten().tolist()
            boxes.append([left, rows[0], right, rows[-1] + 1])
        found = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        wide = found[:, 2] - found[:, 0] > found[:, 3] - found[:, 1]
        return Detections(found, torch.full((len(boxes),), 0.9), torch.where(wide, 2, 1))


# x, y, width, height in sensor pixels, even; more attributes of the annotation.
PERSON = ([20, 20, 12, 40], "person", {"isextreme": True})
CAR = ([60, 40, 40, 20], "car", {"isextreme": False})
OTHER_CAR = ([110, 60, 30, 16], "car", {})
DOG = ([10, 90, 8, 10], "dog", {})
PLANTED: list[list[Any]] = [[PERSON, CAR], [OTHER_CAR], [], [PERSON, CAR, OTHER_CAR]]


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., Path]:
    """plant(objects per photograph, folder=..., splits=...) -> a folder of RAW and COCO files.

    Ids are texts, as RAW-NOD has them. Objects that are dogs are annotated but not bright.
    """

    def write(
        scenes: Sequence[Sequence[Any]] = PLANTED,
        folder: str = "photos",
        splits: Sequence[str] = (),
    ) -> Path:
        root = tmp_path / folder
        root.mkdir()
        body = CAMERA_BODIES["DSC-RX100M7"]
        names = ["person", "car", "dog"]
        documents: dict[str, Any] = {}
        for number, scene in enumerate(scenes):
            mosaic = np.full((HEIGHT, WIDTH), BLACK, np.uint16)
            for (x, y, width, height), category, _ in scene:
                if category != "dog":
                    mosaic[y : y + height, x : x + width] = BRIGHT
            name = f"DSC{number:05}"
            write_container(root / f"{name}.ARW", mosaic, make=body.make, model=body.model)
            document = documents.setdefault(
                splits[number] if splits else "labels",
                {"images": [], "annotations": [], "categories": []},
            )
            image = {"id": name, "file_name": f"{name}.ARW", "width": WIDTH, "height": HEIGHT}
            document["images"].append(image)
            document["categories"] = [{"id": n + 1, "name": c} for n, c in enumerate(names)]
            for n, (box, category, more) in enumerate(scene):
                document["annotations"].append(
                    {
                        "id": f"{name}-{n}",
                        "image_id": name,
                        "category_id": names.index(category) + 1,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                        **more,
                    }
                )
        for split, document in documents.items():
            (root / f"{split}.json").write_text(json.dumps(document))
        return root

    return write


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def random_case(seed: int, images: int = 12, classes: int = 3) -> tuple[list[Truth], list[Found]]:
    """Boxes of all sizes, some of them crowds; detections near some, elsewhere, twice, or none.

    Scores have few values, so that many are equal. Some images are empty, some have no detections.
    """
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for image in range(images):
        count = 0 if image % 5 == 3 else int(rng.integers(0, 7))
        boxes = random_boxes(rng, count)
        kinds = rng.integers(0, classes, count)
        truths.append(Truth(boxes, kinds, rng.random(count) < 0.2))
        near = np.repeat(boxes, rng.integers(0, 3, count), axis=0)
        near = near + rng.normal(0, 0.06, near.shape) * np.tile(near[:, 2:] - near[:, :2], 2)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        stray = random_boxes(rng, int(rng.integers(0, 6)))
        all_boxes = np.concatenate([near, stray])[: 0 if image % 7 == 2 else None]
        found.append(
            Found(
                all_boxes,
                np.round(rng.random(len(all_boxes)), 1),
                rng.integers(0, classes, len(all_boxes)),
            )
        )
    return truths, found


def random_boxes(rng: np.random.Generator, count: int) -> Any:
    """(count, 4) corners, sides from 4 to 200 pixels."""
    corner = rng.random((count, 2)) * 400
    return np.concatenate([corner, corner + np.exp(rng.uniform(1.4, 5.3, (count, 2)))], axis=1)
