"""manifest.jsonl: what is read of it and how quickly, and what is kept when it is written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rawisp.batch.manifest import FILE_NAME, Manifest, iterate_manifest, read_manifest
from rawisp.batch.manifest_lines import LineReader, line_of
from rawisp.errors import OutputError

ODD_NAMES = [
    "plain",
    'say "source": "x", "output": "y"',
    "back\\slash",
    "brace}{",
    "closing}}}",
    "Jos\u00e9 \u2603",
    "\udcff no UTF-8",
    "line\nbreak",
]


def record(output: str = "a.npy", **changes: Any) -> dict[str, Any]:
    values = {
        "camera": {"make": "SONY", "lens": "50mm {f/2}"},
        "source": f"in/{output}.ARW",
        "output": output,
        "status": "done",
        "reason": "",
        "source_bytes": 123,
        "source_modified_ns": 1795865977736850374,
        "settings": {"verb": "pack", "fit": [1333, 800], "matrix": None},
        "checkpoint": {"name": "night", "sha256": "a4"},
        "version": "0.1.0",
        "seconds": 0.25,
        "affine": [[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]],
    }
    return {**values, **changes}


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("key", ["output", "source", "reason"])
def test_a_line_read_quickly_says_what_its_json_says(key: str, name: str) -> None:
    reader = LineReader()
    one = record(**{key: name})
    line = line_of(one)
    assert json.loads(line) == one
    output, entry = reader.read(7, line) or pytest.fail("is no line of ours")
    assert output == one["output"]
    assert entry == reader.entry(7, len(line), one)


def test_the_settings_of_all_lines_are_one_object() -> None:
    reader = LineReader()
    entries = [reader.read(0, line_of(record(f"{n}.npy"))) for n in range(3)]
    assert len({id(found[1].settings) for found in entries if found}) == 1


def test_our_own_lines_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 65,000 lines that takes a second and not ten; seen without a stop watch."""
    reader = LineReader()
    lines = [line_of(record(f"{n}.npy", status="pending" if n % 2 else "done")) for n in range(9)]
    assert reader.read(0, lines[0]) and reader.read(0, lines[1])

    def no_parser(text: object) -> None:
        raise AssertionError(f"parsed {text!r}")

    monkeypatch.setattr(json, "loads", no_parser)
    assert all(reader.read(0, line) for line in lines)


@pytest.mark.parametrize("order", ["sorted", "reversed"])
def test_lines_of_another_order_are_ours_too(order: str) -> None:
    one = record()
    keys = sorted(one, reverse=order == "reversed")
    ordered = {key: one[key] for key in keys}
    line = (json.dumps(ordered) + "\n").encode()
    reader = LineReader()
    assert reader.read(0, line) == ("a.npy", reader.entry(0, len(line), one))
    assert reader.renewed(line) == line_of(ordered) != line


def test_every_beginning_of_a_line_is_none_of_ours() -> None:
    """Torn by a kill; also when another run has written its own line behind it."""
    line, other = line_of(record()), line_of(record("b.npy"))
    for end in range(len(line) - 1):
        assert LineReader().read(0, line[:end]) is None
        assert end == 0 or LineReader().read(0, line[:end] + other) is None
    assert LineReader().read(0, line[:-1]) is not None  # only its line end is missing


def write(folder: Path, *lines: bytes) -> str:
    folder.mkdir(exist_ok=True)
    (folder / FILE_NAME).write_bytes(b"".join(lines))
    return str(folder / FILE_NAME)


def test_the_last_line_of_an_output_counts(tmp_path: Path) -> None:
    pending = [record(f"{n}.npy", status="pending") for n in range(3)]
    done = [record("2.npy"), record("0.npy", status="failed", reason="cut short")]
    path = write(tmp_path, *map(line_of, pending), b'{"torn": \n', *map(line_of, done))
    assert list(iterate_manifest(path)) == [pending[1], *done]
    assert read_manifest(path) == {one["output"]: one for one in [pending[1], *done]}


def test_no_manifest_has_no_records(tmp_path: Path) -> None:
    assert list(iterate_manifest(str(tmp_path / FILE_NAME))) == []


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"audio_filepath": "a.wav"}\n')
    with pytest.raises(OutputError, match="not written by rawisp"):
        next(iterate_manifest(path))


def test_records_are_read_on_while_the_manifest_is_rewritten_or_deleted(tmp_path: Path) -> None:
    ones = [record(f"{n}.npy") for n in range(4)]
    path = write(tmp_path, *map(line_of, reversed(ones)))
    reading = iterate_manifest(path)
    assert next(reading) == ones[3]
    Manifest(str(tmp_path)).compact()
    assert next(reading) == ones[2]
    os.unlink(path)
    assert list(reading) == [ones[1], ones[0]]


def test_a_torn_end_is_closed_before_the_next_line(tmp_path: Path) -> None:
    """Otherwise the first line of the next run would be lost with it."""
    write(tmp_path, line_of(record("a.npy")), line_of(record("b.npy"))[:100])
    manifest = Manifest(str(tmp_path))
    manifest.append([record("c.npy")])
    assert sorted(Manifest(str(tmp_path)).entries) == ["a.npy", "c.npy"]
    assert manifest.load("c.npy") == record("c.npy")


def test_compacting_keeps_the_last_lines_sorted_and_loadable(tmp_path: Path) -> None:
    manifest = Manifest(str(tmp_path))
    manifest.append(record(name, status="pending") for name in ("b", "c", "a"))
    manifest.append([record("b", reason="second")])
    manifest.compact()
    expected = [record("a", status="pending"), record("b", reason="second"),
                record("c", status="pending")]  # fmt: skip
    assert (tmp_path / FILE_NAME).read_bytes() == b"".join(map(line_of, expected))
    assert [manifest.load(name) for name in "abc"] == expected
    manifest.append([record("d")])
    assert manifest.load("d") == record("d")


def test_what_another_run_has_appended_is_seen_by_refresh(tmp_path: Path) -> None:
    write(tmp_path, line_of(record("a")))
    first, second = Manifest(str(tmp_path)), Manifest(str(tmp_path))
    second.append([record("b")])
    first.refresh()
    assert sorted(first.entries) == ["a", "b"]
    second.compact()
    second.append([record("c")])
    first.refresh()
    assert sorted(first.entries) == ["a", "b", "c"] and first.load("c") == record("c")


def test_a_damaged_record_is_a_sentence_when_it_is_needed(tmp_path: Path) -> None:
    line = line_of(record()).replace(b'{"make": "SONY"', b'{"make": "SONY')
    write(tmp_path, line)
    manifest = Manifest(str(tmp_path))
    with pytest.raises(OutputError, match=r"its line of a\.npy is damaged"):
        manifest.load("a.npy")
