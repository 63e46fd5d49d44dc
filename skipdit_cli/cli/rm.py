"""skipdit rm"""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._estimate import size, terminal
from skipdit_cli.cli._output import say, show, table
from skipdit_cli.errors import several

if TYPE_CHECKING:
    from skipdit_cli.storage.shelf import Shelved

UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@app.command()
def rm(
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY]...",
            help="Runs: a key, the beginning of one, or a cache spec that names one.",
            autocompletion=complete.runs,
        ),
    ] = None,
    cache: Annotated[
        list[str] | None,
        typer.Option(
            "--cache",
            help="All runs of a caching method, or of those of its settings that are given, as "
            "skip-cache(n=2); may be repeated.",
            autocompletion=complete.caches,
        ),
    ] = None,
    model: options.Model = None,
    older_than: Annotated[
        str | None, typer.Option(help="All runs begun before so long, as 30d, 12h or 2w.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would go, and remove nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    results: options.Root = "results",  # type: ignore[assignment]
) -> None:
    """Remove runs with all that hangs on them: samples, scores, timings, failures, features.

    Options narrow each other down: --cache pab --model digits removes what is both. An uncached run
    that others are compared with is kept unless these go too: one that is named is an error, one
    that an option chose is left. Tables, plots, and what runs share stay.
    """
    from skipdit_cli.errors import SkipditError
    from skipdit_cli.storage import removal, shelf

    runs = shelf.shelf(results)
    chosen = _chosen(
        runs, keys or [], cache or [], model=model, older_than=older_than, place=str(results)
    )
    if not chosen:
        say("no run is so; nothing is removed")
        return
    headings = ("key", "model", "cache", "samples", "scores and timings", "made (UTC)", "size")
    show(table(headings, [_line(run) for run in chosen]))
    whole = f"{several(len(chosen), 'run')}, {size(sum(sum(run.sizes.values()) for run in chosen))}"
    if dry_run:
        show(f"\n{whole} would be removed")
        return
    asked = terminal() and not yes
    if asked and not typer.confirm(f"Remove {whole}?", default=False, err=True):
        raise SkipditError("stopped before anything was removed", fix="--yes does not ask")
    for _ in removal.remove(results, [run.key for run in chosen]):
        pass
    show(f"\n{whole} removed")


def _chosen(
    runs: "list[Shelved]",
    keys: list[str],
    caches: list[str],
    *,
    model: str | None,
    older_than: str | None,
    place: str,
) -> "list[Shelved]":
    """The runs that go, without those that others are compared with.

    Raises:
        UsageError: nothing is chosen by anything, a key names none or several, or one that is named
            is needed by a run that stays.
    """
    from skipdit_cli.errors import UsageError
    from skipdit_cli.storage import shelf

    if not (keys or caches or model or older_than):
        raise UsageError(
            "nothing says which runs",
            place="skipdit rm",
            fix="name them (skipdit ls runs), or give --cache, --model or --older-than",
        )
    before = _before(older_than) if older_than else None
    of_caches = [run.key for spec in caches for run in shelf.of_cache(spec, runs, place="--cache")]
    of_model = [run for run in runs if options.is_of(model, run.model)]
    named = [shelf.one(key, of_model, place=place) for key in keys]
    chosen = [
        run
        for run in {run.key: run for run in named or of_model}.values()
        if (not caches or run.key in of_caches) and (before is None or run.time < before)
    ]
    going = {run.key for run in chosen}
    for run in chosen:
        left = [each for each in shelf.compared_with(run, runs) if each.key not in going]
        if not left:
            continue
        names = ", ".join(f"{each.short} ({each.cache})" for each in left[:5])
        names += ", ..." * (len(left) > 5)
        if keys:
            raise UsageError(
                f"{run.short} is what {names} {'is' if len(left) == 1 else 'are'} compared with",
                place=f"skipdit rm {' '.join(keys)}",
                fix="name these as well, or leave it out",
            )
        say(f"{run.short} stays: {names} {'is' if len(left) == 1 else 'are'} compared with it")
        going.discard(run.key)
    return [run for run in chosen if run.key in going]


def _before(text: str) -> datetime:
    """The time that lies as long ago as a text says."""
    from skipdit_cli.errors import UsageError

    match = re.fullmatch(r"\s*([0-9]{1,5})\s*([hdw])\s*", text)
    if not match:
        raise UsageError(
            f"cannot read a time from '{text}'", place="--older-than", fix="write 12h, 30d or 2w"
        )
    return datetime.now(UTC) - timedelta(**{UNITS[match[2]]: int(match[1])})


def _line(run: "Shelved") -> tuple[str, ...]:
    return (
        *(run.short, run.model, run.cache, str(len(run.there)), str(len(run.scored))),
        *(f"{run.time:%Y-%m-%d %H:%M}", size(sum(run.sizes.values()))),
    )
