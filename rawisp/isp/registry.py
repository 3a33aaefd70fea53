"""ISPs by name. A dict of ours, and whatever installed packages offer as entry points.

A plug-in is a subclass of `Isp`, offered in its package's pyproject.toml:

    [project.entry-points."rawisp.isps"]
    my-isp = "my_package.isp:MyIsp"
"""

from __future__ import annotations

import ast
from dataclasses import fields
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from rawisp.errors import UsageError

if TYPE_CHECKING:
    from rawisp.isp.base import Isp

ENTRY_POINTS = "rawisp.isps"

# name -> "module:class"; imported when asked for.
_OURS = {
    "classic": "rawisp.isp.fixed:ClassicIsp",
    "rawpy-default": "rawisp.isp.fixed:RawpyDefaultIsp",
    "demosaic": "rawisp.isp.fixed:DemosaicIsp",
    "staged": "rawisp.isp.staged:StagedIsp",
    "staged-unet": "rawisp.isp.staged_unet:StagedUnetIsp",
    "film-unet": "rawisp.isp.film_unet:FilmUnetIsp",
    "genisp": "rawisp.isp.genisp:GenIsp",
    "ta-isp": "rawisp.isp.ta_isp:TaIsp",
    "adaptive-isp": "rawisp.isp.adaptive.adaptive_isp:AdaptiveIsp",
    "diap": "rawisp.isp.baselines.diap:DiapIsp",
    "raw-adapter": "rawisp.isp.baselines.raw_adapter:RawAdapterIsp",
    "mw-ispnet": "rawisp.isp.baselines.mw_ispnet:MwIspNetIsp",
    "invisp": "rawisp.isp.baselines.invisp:InvispIsp",
    "simrod": "rawisp.isp.baselines.simrod:SimrodIsp",
}


def isp_names() -> list[str]:
    """All names that `create_isp` takes, ours first."""
    plug_ins = sorted(e.name for e in entry_points(group=ENTRY_POINTS) if e.name not in _OURS)
    return [*_OURS, *plug_ins]


def described_isps() -> list[dict[str, Any]]:
    """{"name", "what", "source"} of each: the first line of its class's docstring.

    Ours are read from their sources, since importing them would import PyTorch, which takes two
    seconds.
    """
    rows = []
    for name in isp_names():
        if name in _OURS:
            rows.append({"name": name, "what": _what(name), "source": "rawisp"})
            continue
        try:
            what = _first_line(isp_class(name).__doc__)
        except Exception as error:  # somebody else's package may fail to import
            what = f"cannot be loaded ({error})"
        rows.append({"name": name, "what": what, "source": "plug-in"})
    return rows


def _what(name: str) -> str:
    """The first line of the docstring of one of ours, without importing it if there is a source."""
    module, _, attribute = _OURS[name].partition(":")
    spec = find_spec(module)
    try:
        tree = ast.parse(Path(spec.origin).read_bytes()) if spec and spec.origin else None
    except (OSError, SyntaxError, ValueError):  # only byte code, say
        tree = None
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.ClassDef) and node.name == attribute:
            return _first_line(ast.get_docstring(node))
    return _first_line(isp_class(name).__doc__)


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def isp_class(name: str) -> type[Isp]:
    """The class of that name. UsageError lists the names; ours cannot be replaced by a plug-in."""
    if name in _OURS:
        module, _, attribute = _OURS[name].partition(":")
        found: type[Isp] = getattr(import_module(module), attribute)
        return found
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            loaded: type[Isp] = entry.load()
            return loaded
    raise UsageError(f"no ISP is called {name!r}; there are {', '.join(isp_names())}")


def create_isp(name: str, **config: Any) -> Isp:
    """An ISP by name, in training mode, with random or identity start as its configuration says.

    config: JSON values, the fields of the class's `Config`; anything left out has its default.
    Raises UsageError for an unknown name or field, or a value that the ISP refuses.
    """
    cls = isp_class(name)
    known = [field.name for field in fields(cls.Config)]
    for key in config:
        if key not in known:
            raise UsageError(
                f"{name} has no setting {key!r}; there are {', '.join(known) or 'none'}"
            )
    _check_types(name, cls, config)
    try:
        return cls(cls.Config(**config))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: {error}") from None


def _check_types(name: str, cls: type[Isp], config: dict[str, Any]) -> None:
    """UsageError naming the first setting whose value is of another kind than its default's."""
    kinds = get_type_hints(cls.Config)
    for key, value in config.items():
        wanted = kinds.get(key)
        allowed = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
        if not all(kind in _KINDS for kind in allowed):
            continue  # tuples and the like: the Config itself knows
        if not any(_is_a(value, kind) for kind in allowed):
            said = " or ".join(_KINDS[kind] for kind in allowed)
            raise UsageError(f"{name}: the setting {key} is {value!r}; it takes {said}")


_KINDS: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a word",
    type(None): "none",
}


def _is_a(value: object, kind: type) -> bool:
    """JSON may say 7 for 7.0, and 1 is not true."""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
