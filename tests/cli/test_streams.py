"""stdout and stderr that are closed, full, or have lost their reader."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Shell = Callable[..., "subprocess.CompletedProcess[str]"]

ALL = "<&- >&- 2>&-"
# (command, what is closed) -> its exit code, which is the same with all streams open
CLOSED = {
    ("info IN", "2>&-"): 0,
    ("info IN", ">&-"): 0,
    ("pack IN -o OUT", "2>&-"): 0,
    ("pack IN/9.ARW -o OUT", ALL): 1,
    ("pack IN -o OUT --fit 0x0", "2>&-"): 2,
    ("pack IN --nope", ALL): 2,
    ("enhance IN/0.ARW -o OUT --ckpt classic", ALL): 0,
    ("list checkpoints", ">&-"): 0,
    ("validate nowhere", ALL): 2,
    ("--help", ALL): 0,
}


@pytest.fixture
def shell(rawisp_command: list[str], photos: Path, tmp_path: Path) -> Shell:
    """shell("pack IN -o OUT >&-") -> as bash runs it; the pipe's own exit code follows "code "."""

    def run(line: str, folder: Path = photos) -> subprocess.CompletedProcess[str]:
        line = line.replace("IN", str(folder)).replace("OUT", str(tmp_path / "out"))
        first, bar, rest = line.partition("|")
        script = f"{' '.join(rawisp_command)} {first} {bar} {rest}\n"
        script += 'code=("${PIPESTATUS[@]}"); [ -e /dev/fd/2 ] && echo "code ${code[0]}" >&2'
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=90)

    return run


def code_of(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    """(exit code of the command, what it said)."""
    said, _, code = done.stderr.rpartition("code ")
    return int(code), said


@pytest.mark.parametrize(("line", "closed"), CLOSED)
def test_closed_streams_change_nothing_else(shell: Shell, line: str, closed: str) -> None:
    code, said = code_of(shell(f"{line} {closed}"))
    assert code == CLOSED[line, closed], said
    assert "Traceback" not in said
    assert "2>&-" not in closed or said == ""


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What native libraries print would end up in it."""
    code = (
        "import os; from rawisp.cli.standard import watched_streams\n"
        "with watched_streams():\n"
        f"    with open({str(tmp_path / 'found')!r}, 'w') as file:\n"
        "        kinds = [os.path.sameopenfile(n, os.open(os.devnull, os.O_RDONLY))"
        " for n in (0, 1, 2)]\n"
        "        file.write(f'{file.fileno() > 2} {kinds}')\n"
    )
    subprocess.run(["bash", "-c", f'"$0" -c "$1" {ALL}', sys.executable, code], check=True)
    assert (tmp_path / "found").read_text() == "True [True, True, True]"


@pytest.mark.parametrize("line", ["info IN", "info --json IN", "pack -v --json IN -o OUT"])
def test_a_reader_that_has_gone_ends_the_command_quietly(
    shell: Shell, photos: Path, tmp_path: Path, line: str
) -> None:
    (tmp_path / "in").mkdir()
    for n in range(150):
        os.link(photos / "0.ARW", tmp_path / "in" / f"{n}.ARW")
    done = shell(f"{line} | head -1", tmp_path / "in")
    code, said = code_of(done)
    assert code == 141
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in said and "Exception ignored" not in said
    assert "BrokenPipe" not in said and "cannot write" not in said


def test_enhance_after_a_lost_reader_goes_on_where_it_was(shell: Shell, tmp_path: Path) -> None:
    code, said = code_of(shell("enhance IN -o OUT --ckpt classic --json | true"))
    assert (code, said) == (141, "")
    left = list((tmp_path / "out").rglob("*"))
    assert not [path for path in left if path.name.endswith(".rawisp-tmp")]
    code, said = code_of(shell("enhance IN -o OUT --ckpt classic"))
    assert code == 0 and len(list((tmp_path / "out").glob("*.png"))) == 6


def test_help_into_a_pipe_without_reader_is_quiet(shell: Shell) -> None:
    assert code_of(shell("enhance --help | true"))[1] == ""


def test_stderr_without_reader_ends_the_command_quietly(shell: Shell) -> None:
    code, _ = code_of(shell("pack IN -o OUT -v 2>&1 >/dev/null | true"))
    assert code == 141


@pytest.mark.parametrize("line", ["info IN", "info --json IN", "pack IN --json -o OUT"])
def test_a_full_disk_behind_stdout_is_a_sentence(shell: Shell, line: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    code, said = code_of(shell(f"{line} > /dev/full"))
    assert code == 1
    assert "Traceback" not in said, said
    assert "cannot write to stdout (No space left on device)" in said


@pytest.mark.parametrize("code", [1, 2])
def test_a_file_that_the_system_refuses_is_named(
    call_main: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    code: int,
) -> None:
    """Not blamed on stdout."""
    import errno

    def refused(*_: object, **__: object) -> None:
        number = errno.ENOSPC if code == 1 else errno.EROFS
        raise OSError(number, os.strerror(number), str(tmp_path / "cache"))

    monkeypatch.setattr("rawisp.batch.info_files", refused)
    done = call_main("info", tmp_path)
    reason = {
        1: "cannot be used (No space left on device); free some space",
        2: "cannot be used (Read-only file system); choose a place that can be written",
    }[code]
    assert done.stderr == f"rawisp: {tmp_path}/cache: {reason}\n"
    assert done.returncode == code and done.stdout == ""
