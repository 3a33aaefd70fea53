"""Wires the verbs together, and turns rawisp's exceptions into one sentence and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from rawisp.cli.convert import convert
from rawisp.cli.describe import describe
from rawisp.cli.enhance import enhance
from rawisp.cli.evaluate import evaluate
from rawisp.cli.export import export
from rawisp.cli.info import info
from rawisp.cli.listing import list_
from rawisp.cli.pack import pack
from rawisp.cli.standard import READER_GONE, WatchedStream, watched_streams
from rawisp.cli.synth import synth
from rawisp.cli.train import train
from rawisp.cli.validate import validate
from rawisp.errors import RawispError, display_path
from rawisp.local import refuse_url
from rawisp.version import __version__


class _Verb(TyperCommand):
    """A command that takes no URL for any of its arguments and options."""

    def invoke(self, ctx: Any) -> Any:
        for parameter in self.params:
            given = ctx.params.get(parameter.name)
            for value in given if isinstance(given, list | tuple) else [given]:
                if isinstance(value, str):
                    refuse_url(value, _short_name(parameter))
        return super().invoke(ctx)


def _short_name(parameter: Any) -> str:
    """-o for --out; an argument has no name of its own on the command line."""
    return min(parameter.opts, key=len) if parameter.param_type_name == "option" else ""


app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for _verb, _name in (
    (info, "info"),
    (pack, "pack"),
    (enhance, "enhance"),
    (train, "train"),
    (evaluate, "eval"),
    (list_, "list"),
    (describe, "describe"),
    (export, "export"),
    (convert, "convert"),
    (validate, "validate"),
    (synth, "synth"),
):
    app.command(_name, cls=_Verb)(_verb)


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
    do, 130 interrupted (run it again to continue; `train` with --resume), 141 the reader of stdout
    has gone, as `| head` does.
    """


def main() -> NoReturn:
    """The `rawisp` command."""
    signal.signal(signal.SIGTERM, _interrupt)
    with watched_streams() as streams:
        code = _run(streams)
    sys.exit(code)


def _run(streams: tuple[WatchedStream, WatchedStream]) -> int:
    """The exit code of the command that sys.argv asks for."""
    try:
        code = _called()
        for stream in streams:
            stream.flush()
    except OSError as error:
        code = 1
        if not any(stream.failure for stream in streams):
            code = _after(error)
    for stream in streams:
        if isinstance(stream.failure, BrokenPipeError):
            return READER_GONE
    if streams[0].failure is not None:
        reason = streams[0].failure.strerror or streams[0].failure
        with suppress(OSError):
            return _said(f"cannot write to stdout ({reason})", 1)
    return code


def _called() -> int:
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except RawispError as error:
        return _said(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _said("interrupted", 130)
    return 0


def _after(error: OSError) -> int:
    """The exit code for what the operating system has refused, and the sentence about it.

    The library speaks of the files that it opens; what comes here is one that nobody has thought
    of.
    """
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    advice = "; free some space" if full else "; choose a place that can be written" * refused
    text = str(error.strerror or error)
    if isinstance(error.filename, str | bytes):
        text = f"{display_path(os.fsdecode(error.filename))}: cannot be used ({text})"
    return _said(text + advice, 1 if full else 2)


def _said(text: str, code: int) -> int:
    sys.stderr.write(f"rawisp: {text}\n")
    return code


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
