"""Runs of versions that numbered classes otherwise can still be continued."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rawisp.batch.prepare import prepare
from rawisp.data.folder import find_dataset
from rawisp.data.prepared import hash_of
from rawisp.errors import CheckpointError
from rawisp.train import train

from .conftest import SMALL


def test_a_run_that_numbered_only_used_classes_continues(
    sample_data: Path, guide_weights: Path, tmp_path: Path
) -> None:
    data, run, cache = tmp_path / "night", tmp_path / "run", tmp_path / "cache"
    shutil.copytree(sample_data, data)
    document = json.loads((data / "annotations.json").read_text())
    document["categories"].insert(0, {"id": 99, "name": "boat"})
    (data / "annotations.json").write_text(json.dumps(document))
    config = replace(SMALL, detector_weights=str(guide_weights), epochs=1, fit=(60, 40))
    train(data, run, config, cache=cache)
    before = find_dataset(data, val=config.val, seed=config.seed, keep_unused=False)
    assert before.categories == ("person", "bicycle", "car")
    prepared = prepare(before, str(cache), color="xyz", fit=(60, 40))
    state = torch.load(run / "state.pt", weights_only=True)
    now = state["data_hash"]
    state["data_hash"] = hash_of([*prepared.images["train"], *prepared.images["val"]])
    assert state["data_hash"] != now
    torch.save(state, run / "state.pt")
    assert train(data, run, None, cache=cache, resume=True).epochs == 1
    torch.save({**state, "data_hash": "another"}, run / "state.pt")
    with pytest.raises(CheckpointError, match="other photographs"):
        train(data, run, None, cache=cache, resume=True)
