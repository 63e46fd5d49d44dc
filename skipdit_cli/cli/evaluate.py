"""skipdit evaluate"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _engines as engines
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import (
    lacking,
    raise_last,
    say,
    say_black,
    say_removed,
    show,
    show_json,
    stage,
    table,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipdit_cli.errors import SkipditError
    from skipdit_cli.score.jobs import Job
    from skipdit_cli.storage.results import Result

ALL = "all"


@app.command()
def evaluate(
    target: Annotated[
        str | None,
        typer.Argument(
            help="A run key (or its beginning), or a recipe.", autocompletion=complete.targets
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe, which may also be the first argument.", autocompletion=complete.recipes
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help='Metrics, comma-separated, or "all" that fit; else those of the recipe, or those '
            "that need nothing that is not here.",
            autocompletion=complete.metrics,
        ),
    ] = None,
    samples: Annotated[
        list[Path] | None,
        typer.Option(
            help="Score what any tool made: a folder of images or clips, a file, a pattern in "
            "quotes, an npz; may be repeated, for a line each."
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="What --samples are compared with, pair by pair, of the same forms; and the real "
            "samples of FID and the like, instead of their own."
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="What each of --samples was to show: a list of prompts or a file."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for the scores of --samples as md, csv, json and html."),
    ] = None,
    npz: Annotated[
        Path | None,
        typer.Option(help="The same as --samples; with a run, write the run's images into it."),
    ] = None,
    scale: options.Scale = "auto",
    redo: Annotated[
        bool, typer.Option("--redo", help="First remove these scores, and make them again.")
    ] = False,
    results: options.Root = "results",  # type: ignore[assignment]
    device: options.Device = "auto",
    engine: engines.EngineName = None,
    workers: engines.Workers = None,
    slurm: engines.SlurmSettings = None,
    override: options.Override = None,
    json: options.Json = False,
) -> None:
    """Score samples that are there, of a run or of any other tool; generates nothing.

    An npz is one of ADM's evaluator: images in arr_0, uint8 [N,H,W,3], or clips [N,T,H,W,3]; the
    rest is not read.
    """
    from skipdit_cli import registry
    from skipdit_cli.errors import UsageError
    from skipdit_cli.recipe import runs
    from skipdit_cli.score import jobs
    from skipdit_cli.score.evaluate import READERS, How, write_npz
    from skipdit_cli.score.evaluate import evaluate as score
    from skipdit_cli.score.sources import opened

    named = options.recipe_named(target, recipe)
    places = [*(samples or ()), *([npz] if npz and not named else ())]
    if named and samples:
        fix = f"leave it out, or {named}; several files are a pattern in quotes"
        raise UsageError("one subject is scored at a time", place="--samples", fix=fix)
    if not named and not places:
        fix = "name a run or a recipe, or give --samples; see skipdit evaluate --help"
        raise UsageError("no target", place="skipdit evaluate", fix=fix)
    asked = None if metrics in (None, ALL) else [name.strip() for name in metrics.split(",")]
    for name in asked or ():
        registry.load("metrics", name, place="--metrics")
    used, where = engines.chosen(engine, device, workers=workers, root=results, slurm=slurm)
    how = How(
        device=used,
        workers=READERS,
        engine=where,
        reference=reference,
    )
    if named is None:
        from skipdit_cli.cli import _outside

        _outside.evaluate(
            places,
            reference=reference,
            prompts=prompts,
            asked=asked,
            every=metrics == ALL,
            how=how,
            root=results,
            redo=redo,
            out=out,
            json=json,
        )
        return
    if reference is not None:
        opened(reference, place="--reference")  # it is there
    for option, given in (("--prompts", prompts), ("--out", out)):
        if given:
            raise UsageError("it is for --samples", place=option, fix="leave it out")
    if recipe is not None or jobs.is_recipe(named):
        meant = runs.scored(options.recipe_at(named, scale, override))
    else:
        meant = jobs.of_key(named, root=results)
    if metrics == ALL:
        meant = jobs.with_all_metrics(meant)
    if npz is not None:
        run = write_npz(npz, [run for run, _ in meant], root=results)
        say(f"wrote {npz}: {run.num_samples} images of {run.model}, {run.cache}")
        if metrics is None:
            return
    if redo:
        from skipdit_cli.score import redo as again

        say_removed(again.scores([(run, asked or own) for run, own in meant], root=results))
    strict = metrics != ALL
    scored = score(meant, root=results, how=how, stage=stage, asked=asked, strict=strict)
    for run in {run.key: run for run, _ in scored.results}.values():
        say_black(run, results)
    _print([(run.label, str(run.cache), result) for run, result in scored.results], json=json)
    errors = _together(scored.errors, meant, named) if npz is None else scored.errors
    raise_last([*lacking(result for _, result in scored.results if asked), *errors])


def _together(
    errors: "Sequence[SkipditError]", meant: "Sequence[Job]", subject: str
) -> "list[SkipditError]":
    """Errors, those of samples that a recipe lacks as one that names what makes them."""
    from skipdit_cli.errors import IncompleteError
    from skipdit_cli.score.jobs import is_recipe

    lacking = [error for error in errors if isinstance(error, IncompleteError)]
    if len(lacking) < 2 or not is_recipe(subject):
        return list(errors)
    one = IncompleteError(
        f"{len(lacking)} of {len({run.key for run, _ in meant})} runs lack samples, first "
        f"{lacking[0].place} ({lacking[0].problem})",
        place=subject,
        fix=f"`skipdit cache-sweep {subject}`, with the same settings, makes them",
    )
    return [*(error for error in errors if error not in lacking), one]


def _print(results: "list[tuple[str, str, Result]]", *, json: bool) -> None:
    """A line per result; why there is no number stands below, once for all that lack it."""
    if json:
        from dataclasses import asdict

        show_json([asdict(result) for _, _, result in results])
        return
    from skipdit_cli.report.cells import within

    notes: dict[str, int] = {}
    rows = []
    for model, cache, result in results:
        value, n = value_of(result, notes), str(result.n)
        ends = within(result.interval)
        metric, protocol = result.metric, result.protocol
        rows.append((result.run, model, cache, metric, value, ends, n, protocol))
    if rows:
        show(
            table(
                ("run", "model", "cache", "metric", "value", "95 % interval", "n", "protocol"), rows
            )
        )
    for note, number in notes.items():
        show(f"[{number}] {note}")
