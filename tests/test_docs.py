"""The documentation runs: examples and commands as written, links, generated pages."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rawisp.checkpoint.export import export_checkpoint

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RAWISP = [sys.executable, "-P", "-m", "rawisp"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages speak of."""
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    night = ROOT / "sample_data" / "night"
    shutil.copy(night / "Sony" / "DSC01316.ARW", tmp_path)
    shutil.copytree(night, tmp_path / "night_photos")
    (tmp_path / "night_photos" / "annotations.json").rename(tmp_path / "instances.json")
    export_checkpoint("classic", tmp_path / "my_isp.ts")
    monkeypatch.chdir(tmp_path)
    return tmp_path


PYTHON = [
    pytest.param(page, index, id=f"{page.name}-{index}")
    for page in PAGES
    for index in range(len(blocks(page, "python")))
]


@pytest.mark.parametrize(("page", "index"), PYTHON)
def test_python_examples_run(page: Path, index: int, desk: Path) -> None:
    # As a script without a __main__ guard, which is how people paste it.
    (desk / "example.py").write_text(blocks(page, "python")[index])
    answer = subprocess.run(
        [sys.executable, "example.py"], cwd=desk, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    assert not answer.stderr


def test_the_readmes_example_prints_what_its_comments_promise(desk: Path) -> None:
    (desk / "example.py").write_text(blocks(ROOT / "README.md", "python")[0])
    answer = subprocess.run(
        [sys.executable, "example.py"], capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines() == [
        "SONY DSC-RX100M7 RGGB 3200.0",
        "(200, 300, 3) float32 (200, 300, 3) uint8",
    ]


def test_the_readmes_commands_run_as_written(desk: Path) -> None:
    commands = [
        line
        for block in blocks(ROOT / "README.md", "console")
        for line in block.splitlines()
        if line.startswith("rawisp ")
    ]
    verbs = ["info", "pack", "enhance", "enhance", "train", "eval"]
    assert [c.split()[1] for c in commands] == verbs
    for command in commands:
        answer = subprocess.run(
            [*RAWISP, *shlex.split(command)[1:]], capture_output=True, text=True
        )
        assert answer.returncode == 0, f"{command}: {answer.stderr}"
    assert len(list((desk / "packed").rglob("*.npy"))) == 14
    assert len(list((desk / "out").rglob("*.png"))) == 14
    assert len(json.loads((desk / "out" / "annotations.json").read_text())["annotations"]) == 80


def test_the_readmes_two_commands_are_what_ci_calls() -> None:
    console = blocks(ROOT / "README.md", "console")[0]
    assert [line.split("#")[0].strip() for line in console.splitlines()] == [
        "make demo",
        "make test",
    ]
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_command_reference_is_in_step_with_the_commands() -> None:
    """`make reference` writes it again."""
    code = "from docs.make_cli_reference import reference; print(reference(), end='')"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout == (ROOT / "docs" / "cli.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_document_is_reachable_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in readme, page.name


def test_the_readmes_speed_table_is_what_the_benchmarks_measured() -> None:
    code = "from benchmarks.speed_table import updated; import sys; sys.exit(not updated())"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
