"""Advice that works: nothing is to be installed from an index by the name of rawisp."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from rawisp.extras import install_advice, required_by


@pytest.mark.parametrize("extra", ["train", "transformers", "onnx"])
def test_the_advice_names_the_packages_of_the_extra(repository: Path, extra: str) -> None:
    text = (repository / "pyproject.toml").read_text()
    stated = tomllib.loads(text)["project"]["optional-dependencies"][extra]
    wanted = [package for package in stated if not package.startswith("rawisp[")]
    assert wanted and set(wanted) <= set(required_by(extra))
    for package in wanted:
        assert f"'{package}'" in install_advice(extra)
    assert f"pip install '.[{extra}]'" in install_advice(extra)


def test_an_extra_within_another_is_told_too() -> None:
    assert set(required_by("train")) <= set(required_by("transformers"))
    assert len(set(required_by("dev"))) == len(required_by("dev"))
    assert {*required_by("onnx"), *required_by("transformers")} <= set(required_by("dev"))


def test_nobody_is_told_to_install_rawisp_from_an_index(repository: Path) -> None:
    for folder in ("rawisp", "cli", "docs", "examples", "benchmarks", "sample_data"):
        for path in (repository / folder).rglob("*"):
            if path.suffix in (".py", ".md") and path.name != "extras.py":
                text = path.read_text("utf-8")
                assert "install 'rawisp" not in text and "install rawisp" not in text, path
