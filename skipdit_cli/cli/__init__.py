"""The command line: arguments, progress and printing. The work is imported inside the commands."""

import sys
from importlib import import_module
from typing import Any, NoReturn

import typer

from skipdit_cli import __version__
from skipdit_cli.errors import SkipditError, UsageError, print_warnings

app = typer.Typer(
    name="skipdit",
    help="Study feature caching in diffusion transformers: sample, score, profile, print tables.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


for _name in (
    "ls",
    "plan",
    "download",
    "sample",
    "sweep",
    "evaluate",
    "report",
    "profile",
    "train",
    "analyze",
    "doctor",
):
    import_module(f"skipdit_cli.cli.{_name}")


_INTERRUPTED = 130  # what typer, like a shell, makes of Ctrl-C
_WrongLine: Any = typer.BadParameter.__base__  # an unknown option, a missing argument, no integer


def main() -> None:
    """Run a command; a user's mistake ends in one line and its exit code."""
    print_warnings()
    try:
        code = app(prog_name="skipdit", standalone_mode=False)
    except SkipditError as error:
        _stop(str(error), error.exit_code)
    except _WrongLine as error:
        command = error.ctx.command_path if error.ctx else "skipdit"
        message = " ".join(error.format_message().split()).removesuffix(".")
        _stop(f"{message}; see {command} --help", UsageError.exit_code)
    if code == _INTERRUPTED:
        _stop("interrupted; what was finished is kept", _INTERRUPTED)
    sys.exit(code)


def _stop(message: str, code: int) -> NoReturn:
    print(f"skipdit: {message}", file=sys.stderr)
    sys.exit(code)
