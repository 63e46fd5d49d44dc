"""The command line: arguments, progress and printing. The work is imported inside the commands."""

import sys
from importlib import import_module

import typer

from skipdit_cli import __version__
from skipdit_cli.errors import SkipditError

app = typer.Typer(
    name="skipdit",
    help="Study feature caching in diffusion transformers: sample, score, profile, print tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


for _name in ("ls", "plan", "sample", "sweep", "evaluate", "report", "profile", "train", "doctor"):
    import_module(f"skipdit_cli.cli.{_name}")


def main() -> None:
    """Run a command; a user's mistake ends in one line and its exit code."""
    try:
        app()
    except SkipditError as error:
        print(f"skipdit: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("skipdit: interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
