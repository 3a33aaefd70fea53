"""How to install what an optional part of rawisp needs."""

from __future__ import annotations

from importlib import metadata


def install_advice(extra: str) -> str:
    """What to run for an extra of pyproject.toml, such as "train".

    rawisp is on no package index, so ``pip install 'rawisp[train]'`` finds nothing. What works are
    the packages themselves, with the versions that the extra asks for, and the extra by its path.
    """
    packages = " ".join(f"'{package}'" for package in required_by(extra))
    return f"run: pip install {packages} (or pip install '.[{extra}]' in rawisp's checkout)"


def required_by(extra: str) -> list[str]:
    """The packages of an extra with their versions, those of extras that it names included."""
    packages: list[str] = []
    for line in metadata.requires("rawisp") or ():
        requirement, _, condition = (part.strip() for part in line.partition(";"))
        if condition.replace("'", '"') != f'extra == "{extra}"':
            continue
        if requirement.startswith("rawisp["):
            for named in requirement.removeprefix("rawisp[").rstrip("]").split(","):
                packages += [p for p in required_by(named.strip()) if p not in packages]
        else:
            packages.append(requirement)
    return packages
