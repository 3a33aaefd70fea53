"""Wires the verbs together, and turns rawisp's exceptions into one sentence and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from rawisp.cli.convert import convert
from rawisp.cli.describe import describe
from rawisp.cli.enhance import enhance
from rawisp.cli.evaluate import evaluate
from rawisp.cli.export import export
from rawisp.cli.info import info
from rawisp.cli.listing import list_
from rawisp.cli.pack import pack
from rawisp.cli.synth import synth
from rawisp.cli.train import train
from rawisp.cli.validate import validate
from rawisp.errors import RawispError, display_path
from rawisp.version import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command()(info)
app.command()(pack)
app.command()(enhance)
app.command()(train)
app.command("eval")(evaluate)
app.command("list")(list_)
app.command()(describe)
app.command()(export)
app.command()(convert)
app.command()(validate)
app.command()(synth)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rawisp {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def rawisp(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Camera RAW files at night, made ready for object detectors.

    Exit codes: 0 all done, 1 some file failed, 2 the command cannot work as given, 3 nothing to
    do, 130 interrupted (run it again to continue; `train` with --resume).
    """


def main() -> NoReturn:
    """The `rawisp` command."""
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of any alphabet on any terminal
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run())


def _run() -> int:
    """The exit code of the command that sys.argv asks for."""
    code = 0
    try:
        try:
            app()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
    except RawispError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except OSError as error:
        # A file that has a name is one that the library did not expect to be refused. What has none
        # is stdout: a full disk behind it, or a reader that has gone, as `| head` does.
        if error.filename is not None:
            _say(f"{display_path(error.filename)}: cannot be used ({error.strerror or error})")
            return 2
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            _say(f"cannot write to stdout ({error.strerror or error})")
        return 1
    return code


def _say(text: str) -> None:
    sys.stderr.write(f"rawisp: {text}\n")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
