"""The command line: arguments, progress and printing. The work is imported inside the commands."""

import functools
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from importlib import import_module
from itertools import zip_longest
from typing import Any, NoReturn

import typer

from skipdit_cli import __version__
from skipdit_cli.cli._output import finish, fit_any_encoding, lost
from skipdit_cli.errors import SkipditError, UsageError, one_line, print_warnings
from skipdit_cli.generate.accelerated import AUTOENCODER, OFFLOADS

app = typer.Typer(
    name="skipdit",
    help="Study feature caching in diffusion transformers: sample, score, profile, print tables.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
at_end = ExitStack()  # what a command has to close, however it ends


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


_FILES = {
    "ls": ("ls",),
    "plan": ("plan",),
    "download": ("download",),
    "sample": ("sample",),
    "cache-sweep": ("sweep",),
    "status": ("status",),
    "evaluate": ("evaluate",),
    "compare": ("compare",),
    "show": ("show",),
    "rm": ("rm",),
    "export": ("export",),
    "report": ("report", "report_training"),
    "gate": ("gate",),
    "profile": ("profile",),
    "latents": ("latents",),
    "train": ("train",),
    "analyze": ("analyze", "analyze_features", "analyze_weights", "analyze_page"),
    "doctor": ("doctor",),
    "vbench-env": ("vbench_env",),
}
_INTERRUPTED = 130  # what typer, like a shell, makes of Ctrl-C
_WrongLine: Any = typer.BadParameter.__base__  # an unknown option, a missing argument, no integer
_MAY_BE_EMPTY = ("--prompt", "--negative-prompt")


def command_line(words: Sequence[str] = ()) -> Any:
    """The command line as typer's group; of the commands, only what the words ask for is imported.

    Args:
        words: a command line that begins with the command's name; all commands are there if not.
    """
    return _of(words[0] if words and words[0] in _FILES else None)


@functools.cache
def _of(command: str | None) -> Any:
    for files in [_FILES[command]] if command else _FILES.values():
        for file in files:
            import_module(f"skipdit_cli.cli.{file}")
    return typer.main.get_command(app)


def main() -> None:
    """Run a command; whatever goes wrong ends in one line and its exit code."""
    print_warnings()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what its C++ prints is not for a user
    fit_any_encoding()
    try:
        _check_words(sys.argv[1:])
        with at_end:
            words = _with_offload(sys.argv[1:])
            code = command_line(words)(words, prog_name="skipdit", standalone_mode=False)
        finish()
    except SkipditError as error:
        _stop(str(error), error.exit_code)
    except _WrongLine as error:
        command = error.ctx.command_path if error.ctx else "skipdit"
        message = one_line(" ".join(error.format_message().split())).removesuffix(".")
        _stop(f"{message}; see {command} --help", UsageError.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        from skipdit_cli.cli._crash import told

        fit = (lost(error) if isinstance(error, OSError) else None) or told(error)
        if isinstance(error, BrokenPipeError):
            sys.exit(fit.exit_code)  # whoever read has gone, and wants to read no error either
        _stop(str(fit), fit.exit_code)
    if code == _INTERRUPTED:
        _stop("interrupted; what was finished is kept", _INTERRUPTED)
    sys.exit(code)


def _check_words(words: list[str]) -> None:
    """Raise UsageError for a word of the command line that is empty or that no file can be called.

    An empty one is what is left of a variable of the shell that is not set; read as a path it would
    be the current folder, as a recipe none.
    """
    for before, word in zip(["", *words], words, strict=False):
        option, sign, value = word.partition("=") if word.startswith("--") else (before, "=", word)
        place = option if option.startswith("-") else "skipdit"
        if sign and not value.strip() and option not in _MAY_BE_EMPTY:
            raise UsageError("an empty value", place=place, fix="give one, or leave it out")
        if "\0" in word:
            raise UsageError(f"{word!r} has a null byte in it", place=place, fix="leave it out")


def _with_offload(words: list[str]) -> list[str]:
    """A command line in which `--offload` has its value, which may be left out for a model.

    typer has no options of which that is true.
    """
    return [
        f"{word}={AUTOENCODER}" if word == "--offload" and after not in OFFLOADS else word
        for word, after in zip_longest(words, words[1:])
    ]


def _stop(message: str, code: int) -> NoReturn:
    with suppress(OSError):
        print(f"skipdit: {message}", file=sys.stderr)
    sys.exit(code)
