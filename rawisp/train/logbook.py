"""What a run leaves to read: metrics.jsonl and .csv, TensorBoard where installed."""

from __future__ import annotations

import csv
import json
import os
from typing import Any

_JSONL, _CSV = "metrics.jsonl", "metrics.csv"


class Logbook:
    """Appends one JSON object per epoch, and keeps a CSV of the same numbers.

    `lines` that a continued run does not know of (written after its last saved state) are cut off,
    so that no epoch appears twice.
    """

    def __init__(self, folder: str, lines: int) -> None:
        self.folder = folder
        self.records = _read(os.path.join(folder, _JSONL))[:lines]
        self._rewrite()
        self._board = _tensorboard(folder)

    def append(self, record: dict[str, Any]) -> None:
        """One epoch; nested tables are flattened with dots in the CSV."""
        self.records.append(record)
        with open(os.path.join(self.folder, _JSONL), "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self._write_csv()
        if self._board is not None:
            for name, value in flat(record).items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self._board.add_scalar(name, value, record["epoch"])
            self._board.flush()

    def close(self) -> None:
        """Ends the TensorBoard file."""
        if self._board is not None:
            self._board.close()

    def _rewrite(self) -> None:
        path = os.path.join(self.folder, _JSONL)
        temporary = f"{path}.rawisp-tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in self.records)
        os.replace(temporary, path)
        self._write_csv()

    def _write_csv(self) -> None:
        rows = [flat(record) for record in self.records]
        names = list(dict.fromkeys(name for row in rows for name in row))
        path = os.path.join(self.folder, _CSV)
        temporary = f"{path}.rawisp-tmp"
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, path)


def flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, keys joined by dots; lists by number."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, list):
            value = {str(n): item for n, item in enumerate(value)}
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _read(path: str) -> list[dict[str, Any]]:
    if not os.path.exists(path):
        return []
    records = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                records.append(json.loads(line))
            except ValueError:  # the last line of a killed run
                break
    return records


def _tensorboard(folder: str) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(os.path.join(folder, "tensorboard"))
