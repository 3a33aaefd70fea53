"""Whatever the bytes: labels, or one AnnotationError. Nothing else comes out."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawisp.data.annotations import read_annotations
from rawisp.errors import AnnotationError

COCO = {
    "images": [{"id": "a", "file_name": "a.ARW", "width": 100, "height": 60}],
    "categories": [{"id": 1, "name": "person"}],
    "annotations": [{"id": 0, "image_id": "a", "category_id": 1, "bbox": [1, 2, 3, 4]}],
}
TEXTS = {
    "a.json": json.dumps(COCO),
    "a.xml": "<annotation><size><width>100</width><height>60</height></size><object><name>car"
    "</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    "</annotation>",
    "data.yaml": "path: .\ntrain: images\nnames: [person, car]\n",
    "labels/a.txt": "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.2 0.2 0.3 0.1\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    return folder


def read(path: Path) -> None:
    with contextlib.suppress(AnnotationError):
        labels = read_annotations(path.parent if path.suffix == ".txt" else path)
        assert all(str(problem) for problem in labels.problems)
        for image in labels.images:
            assert np.isfinite(image.boxes).all() and (image.boxes[:, 2:] > 0).all()
            high = (image.boxes[:, :2] + image.boxes[:, 2:]) / (image.size or (1, 1))
            assert (image.boxes[:, :2] >= 0).all() and (high <= 1 + 1e-12).all()


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
def test_mutated_texts(folder: Path, name: str, data: st.DataObject) -> None:
    text = TEXTS[name].encode()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        snippet = st.sampled_from(
            [b"", b"nan", b"-", b"1e400", b"[", b"<a>", b"\xff", b"\0", b"&x;"]
        )
        text = text[:start] + data.draw(snippet | st.binary(max_size=4)) + text[end:]
    for other, content in TEXTS.items():
        (folder / other).write_text(content)
    (folder / name).write_bytes(text)
    read(folder / name)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["a", 1, "\ud800", "a/../..", "/", ""]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)
PLACES = [(part, None) for part in COCO] + [
    (part, key) for part, entries in COCO.items() for key in entries[0]
]


@given(place=st.sampled_from(PLACES), value=VALUES)
def test_any_value_anywhere_in_coco(
    folder: Path, place: tuple[str, str | None], value: Any
) -> None:
    document = json.loads(json.dumps(COCO))
    part, key = place
    if key is None:
        document[part] = value
    else:
        document[part][0][key] = value
    (folder / "a.json").write_text(json.dumps(document))
    read(folder / "a.json")


@given(key=st.sampled_from(["path", "train", "val", "names", "kpt_shape", "nc"]), value=VALUES)
def test_any_value_anywhere_in_data_yaml(folder: Path, key: str, value: Any) -> None:
    document = {"path": ".", "train": "images", "names": ["a", "b"], key: value}
    (folder / "labels" / "a.txt").write_text(TEXTS["labels/a.txt"])
    (folder / "data.yaml").write_text(json.dumps(document))  # JSON is YAML
    read(folder / "data.yaml")
