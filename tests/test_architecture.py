"""The house as docs/architecture.md draws it: which way imports point, who knows what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(p for top in ("rawisp", "cli", "kernels") for p in (ROOT / top).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module that `path` imports, at any depth of the code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(module: str) -> set[str]:
    """Files that import `module` or something below it."""
    return {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if any(name == module or name.startswith(f"{module}.") for name in imported(path))
    }


def test_arrows_point_from_cli_to_rawisp_to_kernels() -> None:
    for path in SOURCES:
        top = path.relative_to(ROOT).parts[0]
        for name in imported(path):
            if name.startswith("rawisp.cli"):
                assert top == "cli" or path.name == "__main__.py", path
            if top == "kernels" and name.startswith("rawisp"):
                assert name.startswith("rawisp.kernels"), path


def test_one_file_knows_rawpy() -> None:
    assert importers("rawpy") == {"rawisp/raw/reader.py"}


def test_one_file_knows_torchscript() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value) == "torch.jit"
        # A module may ask whether it is being scripted, and say which methods are to be.
        and node.attr not in ("is_scripting", "export")
    }
    assert users == {"rawisp/checkpoint/torchscript.py"}


TORCH_ROOMS = tuple(
    f"rawisp/{room}/" for room in ("isp", "checkpoint", "detect", "evaluation", "train")
)


def test_torch_stays_in_the_rooms_that_need_it() -> None:
    assert all(name.startswith(TORCH_ROOMS) for name in importers("torch"))


def test_torchvision_stays_with_the_detectors() -> None:
    assert all(name.startswith("rawisp/detect/") for name in importers("torchvision"))


def test_numba_stays_in_the_kernels() -> None:
    assert all(name.startswith("kernels/") for name in importers("numba"))


def test_typer_stays_in_the_command_line() -> None:
    assert all(name.startswith("cli/") for name in importers("typer"))


ROOMS = ("raw", "isp", "checkpoint", "detect", "data", "batch", "evaluation", "train")
MAY_USE = {
    "raw": set(),
    "isp": set(),
    "checkpoint": {"isp", "raw"},
    "data": {"raw"},
    "detect": set(),
    "batch": {"raw", "checkpoint", "data"},
    "evaluation": {"isp", "checkpoint", "detect", "data", "batch"},
    "train": {"isp", "checkpoint", "detect", "data", "batch", "evaluation"},
}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_use_only_the_rooms_below_them(room: str) -> None:
    for path in (ROOT / "rawisp" / room).rglob("*.py"):
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "rawisp" and len(parts) > 1 and parts[1] in ROOMS:
                assert parts[1] == room or parts[1] in MAY_USE[room], f"{path} uses {name}"


def test_the_library_never_prints() -> None:
    for path in (ROOT / "rawisp").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", path


def test_kernels_raise_and_print_nothing() -> None:
    for name in sorted(path.name for path in (ROOT / "kernels").glob("[a-z]*.py")):
        for node in ast.walk(ast.parse((ROOT / "kernels" / name).read_text())):
            assert not isinstance(node, ast.Raise | ast.Assert), name


def test_files_fit_in_a_head() -> None:
    for path in SOURCES:
        assert len(path.read_text().splitlines()) <= 400, path


def test_every_package_is_in_the_wheel() -> None:
    """A forgotten subpackage works in an editable install and is missing from the wheel."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in SOURCES
        if path.name == "__init__.py"
    }
    grafted = {re.sub(r"^(cli|kernels)", r"rawisp.\1", name) for name in folders}
    assert set(config["packages"]) == grafted


def test_the_grafted_folders_refuse_their_bare_names() -> None:
    for name in ("cli", "kernels"):
        answer = subprocess.run(
            [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True
        )
        assert answer.returncode == 1
        assert f"import rawisp.{name}, not {name}" in answer.stderr


def test_the_wheel_has_everything_and_no_stray_modules(tmp_path: Path) -> None:
    import zipfile

    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("rawisp-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for needed in (
        "rawisp/py.typed",
        "rawisp/cli/app.py",
        "rawisp/kernels/bayer.py",
        "rawisp/checkpoint/shipped/classic.safetensors",
    ):
        assert needed in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"rawisp"}


def test_the_map_of_the_house_names_every_file() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    for path in SOURCES:
        if path.name not in ("__init__.py", "__main__.py", "version.py"):
            assert path.name in page or path.parent.name in page, path


def test_nothing_speaks_of_one_machine() -> None:
    pattern = re.compile(r"/work/|/root/|/home/(?!you)")
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.toml", "*.json", "Makefile", ".ci/run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    found = [
        n
        for n in listed
        if n != "tests/test_architecture.py" and pattern.search((ROOT / n).read_text())
    ]
    assert not found
