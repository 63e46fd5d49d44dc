"""What commands print: results on stdout, everything else on stderr."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import typer

from skipdit_cli.errors import SkipditError

if TYPE_CHECKING:
    from skipdit_cli.report.gallery import Behind
    from skipdit_cli.report.table import Table
    from skipdit_cli.run import Run
    from skipdit_cli.score.redo import Removed
    from skipdit_cli.storage.results import Result

TELLS = 300.0  # seconds between two lines of progress in a log
Update = Callable[[int, int], None]  # (done, total)


def fit_any_encoding() -> None:
    """Have what the encoding of stdout or stderr lacks printed as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # it is there, and no buffer of text
            stream.reconfigure(errors="backslashreplace")


def finish() -> None:
    """Flush stdout; an OSError where it refuses what was printed."""
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def lost(error: OSError) -> SkipditError | None:
    """The error of a stdout that takes no more, which is left alone from then on; else None."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    if not str(frame.f_globals.get("__name__")).startswith(("typer.", "skipdit_cli.cli")):
        return None  # it was not what prints that met it
    with suppress(OSError, ValueError, AttributeError):  # or Python would try again as it ends
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
    problem = f"what was printed cannot be written ({(error.strerror or repr(error)).lower()})"
    fix = "what was finished is kept; the same command prints it again"
    return SkipditError(problem, place="stdout", fix=fix)


def say(text: str) -> None:
    """A line for people."""
    with suppress(OSError):  # that nobody can read it is no reason to stop
        print(text, file=sys.stderr, flush=True)


def say_black(run: "Run", root: Path) -> None:
    """Name the samples of a run that are black all over, if any are; nothing if there is no run."""
    from skipdit_cli.storage.store import open_store

    if black := open_store(root, run).black(run.num_samples):
        say(
            f"{len(black)} of {run.num_samples} samples of {run.model}, {run.cache} are black, "
            f"first {black[0]} ({run.key}); --precision float32 may cure that"
        )


def say_removed(removed: "Iterable[Removed]") -> None:
    """Tell what --redo removed, run by run as it is removed."""
    for each in removed:
        samples = f"{each.samples} samples and " if each.samples else ""
        run = each.run
        say(f"removed {samples}{each.scores} scores of {run.model}, {run.cache} ({run.key})")


def show(text: str) -> None:
    """A result."""
    typer.echo(text)


def show_json(content: Any) -> None:
    """A result for programs."""
    typer.echo(json.dumps(content, indent=1, allow_nan=False))


def show_table(
    table: "Table", behind: "Behind", paths: Iterable[Path], *, json: bool, **more: Any
) -> None:
    """A table for people, or with the files it was written to and `more` for programs."""
    if json:
        from skipdit_cli.report.publish import records

        files = [str(path) for path in paths]
        show_json({"rows": records(table, behind), "files": files, **more})
    else:
        from skipdit_cli.report.markdown import to_markdown

        show(to_markdown(table))


def lacking(results: "Iterable[Result]") -> "list[SkipditError]":
    """What metrics that somebody named need and is not here: no error, or one."""
    from skipdit_cli.errors import MissingAssetError

    notes = [*dict.fromkeys(each.note for each in results if each.status == "needs weights")]
    more = f" (and {len(notes) - 1} more, as told above)" if notes[1:] else ""
    return [MissingAssetError(f"{note}{more}") for note in notes[:1]]


def raise_last(errors: "Sequence[SkipditError]") -> None:
    """Tell all errors, and end with the last, if there is any."""
    for error in errors[:-1]:
        say(f"skipdit: {error}")
    if errors:
        raise errors[-1]


@contextmanager
def stage(description: str) -> Iterator[Update]:
    """A progress bar on a terminal, with the time that is left; total 0 shows a spinner.

    Elsewhere it is a line at the beginning, and one every TELLS seconds: in a log of a run of days
    the last line tells how far it is.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from skipdit_cli.cli._pace import Pace

    console, pace = Console(stderr=True), Pace()
    if not console.is_terminal:
        say(description)
        told = time.monotonic()

        def line(done: int, total: int) -> None:
            nonlocal told
            left = pace.left(done, total)
            if left and time.monotonic() - told >= TELLS:
                told = time.monotonic()
                say(f"{description}: {done} of {total}, {left}")

        yield line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=None, left="")

        def bar(done: int, total: int) -> None:
            left = pace.left(done, total)
            progress.update(task, completed=done, total=total, left=left)

        yield bar


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Have what is imported in the block find a package that it can do without not installed."""
    hidden = package not in sys.modules
    if hidden:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[package]


def table(headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A plain aligned table."""
    with _without("wcwidth"):  # widths of East Asian characters take longer to import than the rest
        from tabulate import tabulate

    return tabulate(rows, headings, tablefmt="github", disable_numparse=True)


def value_of(result: "Result", notes: dict[str, int]) -> str:
    """A score, or why there is none as `status [1]`: the number of a note, which is added.

    Args:
        notes: those so far, with their numbers from 1.
    """
    if result.value is not None:
        return f"{result.value:.6g} {result.unit}".rstrip()
    if not result.note or result.status == "reference":
        return result.status
    return f"{result.status} [{notes.setdefault(result.note, len(notes) + 1)}]"
