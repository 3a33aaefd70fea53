"""What can be checked of a run before torch is imported, or anything decoded or downloaded."""

from __future__ import annotations

import os

from rawisp.batch.prepare import cache_folder, check_cache
from rawisp.data.first_look import check_folder
from rawisp.errors import CheckpointError, OutputError, display_path
from rawisp.folders import unwritable
from rawisp.local import refuse_url
from rawisp.train.config import TrainConfig

Path = str | os.PathLike[str]


def check_paths(data: Path, out: Path, config: TrainConfig, cache: Path | None = None) -> None:
    """That DATA is a folder with RAW files, that checkpoint and weights exist, and that the run's
    folder and the cache can be written.

    Nothing is left behind. Raises UsageError, CheckpointError, OutputError, NothingToDoError.
    """
    for name, value in (("start", config.start), ("detector_weights", config.detector_weights)):
        if value is not None:
            refuse_url(value, name)  # a file of settings may name one
    check_folder(data)
    if config.start is not None:
        from rawisp.checkpoint.load import describe_checkpoint

        describe_checkpoint(config.start, safe=True)
    weights = config.detector_weights
    if weights not in (None, "random") and ":" not in config.detector:
        assert weights is not None
        if not os.path.exists(weights):
            raise CheckpointError(f"{display_path(weights)}: there is no such file of weights")
    reason = unwritable(os.fspath(out))
    if reason is not None:
        raise OutputError(
            f"{display_path(out)}: the run's folder cannot be written ({reason}); choose another -o"
        )
    check_cache(os.fspath(cache) if cache is not None else cache_folder(data))
