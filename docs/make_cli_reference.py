"""Writes docs/cli.md from the commands themselves: python -m docs.make_cli_reference"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rawisp.cli.app import app, rawisp

TARGET = Path(__file__).parent / "cli.md"
HEAD = """# Commands

Written by `python -m docs.make_cli_reference` from the commands themselves; a test keeps it in
step. `rawisp COMMAND --help` says the same.
"""


def reference() -> str:
    """The whole page."""
    commands = [
        (c.name or c.callback.__name__, c.callback)
        for c in app.registered_commands
        if c.callback is not None
    ]
    sections = [_section(name, command) for name, command in commands]
    return "\n".join([HEAD, f"{inspect.getdoc(rawisp)}\n", *sections])


def _section(name: str, command: Callable[..., Any]) -> str:
    hints = get_type_hints(command, include_extras=True)
    rows = [
        _row(key, hints[key], parameter.default)
        for key, parameter in inspect.signature(command).parameters.items()
    ]
    head = [f"## rawisp {name}\n", f"{inspect.getdoc(command)}\n"]
    return "\n".join([*head, "| option | what | default |", "|---|---|---|", *rows]) + "\n"


def _row(name: str, hint: Any, default: Any) -> str:
    kind, info = get_args(hint)[:2]
    # In Annotated, the first name given to typer.Option lands in its `default`.
    given = [info.default] if isinstance(info.default, str) else []
    declared = (*given, *(info.param_decls or ())) or (f"--{name.replace('_', '-')}",)
    names = ", ".join(f"`{option}`" for option in declared for option in option.split("/"))
    if type(info).__name__ == "ArgumentInfo":
        names = f"`{info.metavar}`"
    elif info.metavar:
        names = f"{names} `{info.metavar}`"
    what, _, stated = (info.help or "").partition("[default:")
    values = ", ".join(f"`{value}`" for value in _choices(kind))
    text = " ".join(part for part in (what.strip(), values and f"One of {values}.") if part)
    shown = stated.strip(" ]") or _default(default, declared)
    return f"| {_cell(names)} | {_cell(text)} | {_cell(shown)} |"


def _choices(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(value for part in get_args(kind) for value in _choices(part))
    return get_args(kind) if get_origin(kind) is Literal else ()


def _default(default: Any, declared: tuple[str, ...]) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    if default is False:
        pair = declared[0].split("/")
        return f"`{pair[1]}`" if len(pair) == 2 else ""
    return "" if default is None else f"`{default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(reference())
    print(TARGET.name)
