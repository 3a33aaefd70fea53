"""The state of a run on disk: everything that the next step depends on, by atomic rename."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import torch

from rawisp.errors import CheckpointError, OutputError, OutputFullError, display_path

FILE_NAME = "state.pt"
_KEYS = {"position", "config", "frozen_hash", "data_hash", "random", "modules"}


@dataclass
class Position:
    """Where a run stands: the next step is `step` of `epoch` (epochs of both phases counted on).

    sums: of the loss terms in this epoch so far, and "images". best: (value, epoch) of the best
    validation so far; best_joint: of the second phase alone. lines: how many lines of metrics.jsonl
    belong to it.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: tuple[float, int] | None = None
    lines: int = 0
    best_joint: tuple[float, int] | None = None


@contextmanager
def files_of(folder: str) -> Iterator[None]:
    """What the file system refuses while a run writes into its folder, as a sentence naming it.

    Raises OutputFullError when the disk is full, OutputError for anything else.
    """
    try:
        yield
    except OSError as error:
        where = display_path(error.filename or folder)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputFullError(
                f"{where}: the disk is full; make room and continue with --resume"
            ) from None
        reason = error.strerror or str(error)
        raise OutputError(
            f"{where}: cannot be written ({reason}); mend that and continue with --resume"
        ) from None


def save_state(
    folder: str,
    position: Position,
    modules: dict[str, Any],
    config: dict[str, Any],
    frozen_hash: str,
    data_hash: str,
) -> None:
    """Writes RUN/state.pt. modules: whatever has a `state_dict`. Raises OSError."""
    state = {
        "position": vars(position),
        "config": config,
        "frozen_hash": frozen_hash,
        "data_hash": data_hash,
        "random": torch.get_rng_state(),
        "modules": {name: module.state_dict() for name, module in modules.items()},
    }
    path = os.path.join(folder, FILE_NAME)
    temporary = f"{path}.rawisp-tmp"
    try:
        with open(temporary, "wb") as file:
            _save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _save(state: dict[str, Any], file: BinaryIO) -> None:
    """torch.save, which makes an unintelligible RuntimeError of a full disk; here it is OSError."""
    told: Any = _Told(file)  # all of a file that torch asks for
    try:
        torch.save(state, told)
    except RuntimeError:
        if told.error is None:
            raise
        raise told.error from None


class _Told:
    """A file that remembers what the file system refused."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """As the file's."""
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """As the file's."""
        self.file.flush()


def read_state(folder: str) -> dict[str, Any]:
    """What `save_state` wrote. CheckpointError when it is missing or damaged."""
    path = os.path.join(folder, FILE_NAME)
    shown = display_path(path)
    if not os.path.exists(path):
        raise CheckpointError(f"{shown}: there is no run to continue; start it without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["position"] = Position(**state["position"])
        missing = _KEYS - state.keys()
        if missing:
            raise ValueError(f"of another version, without {', '.join(sorted(missing))}")
    except Exception as error:  # unpickler, zipfile and key errors
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{shown}: cannot be read ({reason}); start the run again") from None
    return dict(state)
