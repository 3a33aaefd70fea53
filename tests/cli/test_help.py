"""What the command says of itself, and how little it loads to say it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rawisp
from rawisp.cli import completion

RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]

COMMON = {
    "--workers": "one per core",
    "--overwrite": "skip-existing",
    "--skip-existing": "skip-existing",
    "--dry-run": "",
    "--json": "",
    "--max-errors": "never",
    "--timeout": "120",
    "--max-megapixels": "200",
    "--matrix": "",
    "--quiet": "",
    "-q": "",
    "--verbose": "",
    "-v": "",
    "-o": "",
}
# verb -> option of the contract -> its default as the help must show it
OPTIONS = {
    "info": {"--json": "", "--matrix": "", "--max-megapixels": "200", "--timeout": "120"},
    "pack": {
        "--format": "npy", "--dtype": "float32", "--color": "xyz", "--orient": "sensor", **COMMON,
    },
    "enhance": {
        "--ckpt": "night", "--device": "auto", "--format": "png",
        "--fit": "as the checkpoint says", "--orient": "upright", "--annotations": "",
        "--annotation-frame": "auto", "--input-color": "", **COMMON,
    },
}  # fmt: skip
CHOICES = {
    "pack": ["npy", "tiff", "float32", "float16", "uint16", "xyz", "camera", "xyz-uninverted",
             "sensor", "upright"],
    "enhance": ["png", "jpg", "tiff", "upright", "sensor", "1333x800", "none", "cpu", "cuda",
                "DIR/annotations.json"],
}  # fmt: skip


def words(text: str) -> str:
    """Help without its box lines, white space as one blank."""
    return re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]", " ", text))


@pytest.fixture(scope="module")
def helps(run_rawisp: RunCommand) -> dict[str, str]:
    texts = {}
    for verb in OPTIONS:
        done = run_rawisp(verb, "--help")
        assert done.returncode == 0 and done.stderr == ""
        texts[verb] = done.stdout
    return texts


def described(text: str, option: str) -> str:
    """The part of a help that belongs to `option`."""
    text = words(text).split(" Options ", 1)[1]
    match = re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text)
    assert match, f"{option} is not in the help"
    following = re.search(r" --[a-z][a-z-]+ (?!--)", text[match.end() + 25 :])
    return text[match.start() : match.end() + 25 + (following.start() if following else 400)]


@pytest.mark.parametrize(("verb", "option"), [(v, o) for v, all_ in OPTIONS.items() for o in all_])
def test_each_option_is_in_the_help_with_its_default(
    helps: dict[str, str], verb: str, option: str
) -> None:
    part = described(helps[verb], option)
    default = OPTIONS[verb][option]
    if default:
        assert re.search(rf"\[default: [^\]]*{re.escape(default)}", part), part


@pytest.mark.parametrize("verb", CHOICES)
def test_the_choices_are_in_the_help(helps: dict[str, str], verb: str) -> None:
    for choice in CHOICES[verb]:
        assert choice in words(helps[verb])


@pytest.mark.parametrize("verb", OPTIONS)
def test_each_help_has_an_example(helps: dict[str, str], verb: str) -> None:
    assert f"Example: rawisp {verb} " in words(helps[verb])


def test_the_short_form_of_help_works(run_rawisp: RunCommand, helps: dict[str, str]) -> None:
    assert run_rawisp("pack", "-h").stdout == helps["pack"]


def test_the_main_help_lists_the_verbs_and_the_exit_codes(run_rawisp: RunCommand) -> None:
    done = run_rawisp("--help")
    assert done.returncode == 0 and done.stderr == ""
    text = words(done.stdout)
    for verb in OPTIONS:
        assert f" {verb} " in text
    assert "0 all done, 1 some file failed, 2" in text and "3 nothing" in text and "130" in text


def test_help_on_a_pipe_has_no_escape_codes(run_rawisp: RunCommand) -> None:
    assert "\x1b" not in run_rawisp("enhance", "--help").stdout


@pytest.fixture
def offered(
    rawisp_command: list[str], plain_environment: dict[str, str]
) -> Callable[[str], list[str]]:
    """offered("enhance --ckpt n") -> what bash is told to offer for the last word."""

    def complete(line: str) -> list[str]:
        words_of_line = ["rawisp", *line.split(" ")]
        asked = {
            "_RAWISP_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(words_of_line),
            "COMP_CWORD": str(len(words_of_line) - 1),
        }
        done = subprocess.run(
            rawisp_command, env={**plain_environment, **asked},
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0 and done.stderr == ""
        return done.stdout.split()

    return complete


OFFERED = {
    "enh": ["enhance"],
    "enhance --ckpt n": ["night"],
    "enhance --annotation-f": ["--annotation-frame"],
    "pack --dtype ": ["float32", "float16", "uint16"],
    "train --isp gen": ["genisp"],
    "train --recipe sta": ["staged"],
    "train --detector tin": ["tiny"],
    "eval --detector rtdetr_v2_r1": ["rtdetr_v2_r18", "rtdetr_v2_r101"],
    "eval --baseline raw": ["rawpy-default"],
    "synth --camera DSC": ["DSC-RX100M7"],
    "describe cl": ["classic"],
    "pack night_pho": [],  # then the shell offers files
}


@pytest.mark.parametrize("line", OFFERED)
def test_the_shell_completes(offered: Callable[[str], list[str]], line: str) -> None:
    assert offered(line) == OFFERED[line]


def test_the_detectors_that_the_shell_offers_are_all_that_there_are() -> None:
    from rawisp.detect import guide_names

    assert list(completion.DETECTORS) == guide_names()


def test_the_completion_script_can_be_shown(run_rawisp: RunCommand) -> None:
    """For the shell that runs the command, which Typer looks for among its parents; named here."""
    named = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = run_rawisp("--show-completion", "bash", env=named)
    assert done.returncode == 0 and "complete -o default -F _rawisp_completion" in done.stdout


HEAVY = ("torch", "numba", "llvmlite", "rawpy", "numpy", "tifffile", "imageio", "PIL")


@pytest.mark.parametrize("arguments", [["--help"], ["enhance", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    """What makes `rawisp --help` quick, without a stop watch."""
    code = (
        "import sys\n"
        f"sys.argv = ['rawisp', *{arguments!r}]\n"
        "from rawisp.cli.app import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout + done.stderr


def test_the_library_loads_nothing_heavy_until_it_is_used() -> None:
    code = f"import sys, rawisp; dir(rawisp); print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done.stderr


def test_pack_and_info_never_load_torch(photos: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from rawisp.cli.app import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print('LOADED', 'torch' in sys.modules)\n"
    )
    for arguments in (["info", photos / "0.ARW"], ["pack", photos, "-o", tmp_path / "out", "-q"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "LOADED False", done.stderr


def test_the_version_is_the_packages(run_rawisp: RunCommand) -> None:
    done = run_rawisp("--version")
    assert (done.returncode, done.stdout) == (0, f"rawisp {rawisp.__version__}\n")


def test_python_dash_m_is_the_same_command(run_rawisp: RunCommand, tmp_path: Path) -> None:
    for arguments, code in ((["--version"], 0), (["pack", "nothing", "-o", "out"], 2), (["x"], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "rawisp", *arguments],
            capture_output=True, text=True, timeout=60, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert done.stdout == run_rawisp(*arguments, cwd=tmp_path).stdout
