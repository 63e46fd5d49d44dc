"""skipdit evaluate"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, say_black, say_removed, show, show_json, stage, table

if TYPE_CHECKING:
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
    npz: Annotated[
        Path | None,
        typer.Option(help="Score the images of this npz; with a run, write the run's into it."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="An npz to compare with, instead of what FID and the like have."),
    ] = None,
    scale: options.Scale = "auto",
    redo: Annotated[
        bool, typer.Option("--redo", help="First remove these scores, and make them again.")
    ] = False,
    results: options.Root = "results",  # type: ignore[assignment]
    device: options.Device = "auto",
    workers: options.Workers = 1,
    override: options.Override = None,
    json: options.Json = False,
) -> None:
    """Score samples that are there; generates nothing.

    An npz is one of ADM's evaluator: images in arr_0, uint8 [N,H,W,3]; the rest is not read.
    """
    from skipdit_cli import registry
    from skipdit_cli.errors import UsageError
    from skipdit_cli.recipe import runs
    from skipdit_cli.score import jobs
    from skipdit_cli.score.evaluate import READERS, How, evaluate_npz, write_npz
    from skipdit_cli.score.evaluate import evaluate as score

    named = options.recipe_named(target, recipe)
    subject = npz if named is None else named
    if subject is None:
        fix = "name a run or a recipe, or give --npz; see skipdit evaluate --help"
        raise UsageError("no target", place="skipdit evaluate", fix=fix)
    asked = None if metrics in (None, ALL) else [name.strip() for name in metrics.split(",")]
    for name in asked or ():
        registry.load("metrics", name, place="--metrics")
    how = How(
        device=options.device_name(device),
        workers=READERS,
        processes=workers,
        reference=reference,
    )
    if isinstance(subject, Path):
        if redo:
            raise UsageError(
                "the scores of an npz are not kept", place="--redo", fix="leave it out"
            )
        scores = evaluate_npz(subject, root=results, how=how, stage=stage, asked=asked)
        _print([("", str(subject), result) for result in scores], json=json)
        return
    if recipe is not None or jobs.is_recipe(subject):
        meant = runs.scored(options.recipe_at(subject, scale, override))
    else:
        meant = jobs.of_key(subject, root=results)
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
    for error in scored.errors[:-1]:
        say(f"skipdit: {error}")
    if scored.errors:
        raise scored.errors[-1]


def _print(results: "list[tuple[str, str, Result]]", *, json: bool) -> None:
    """A line per result; why there is no number stands below, once for all that lack it."""
    if json:
        from dataclasses import asdict

        show_json([asdict(result) for _, _, result in results])
        return
    notes: dict[str, int] = {}
    rows = []
    for model, cache, result in results:
        value = _value(result)
        if result.value is None and result.note and result.status != "reference":
            value += f" [{notes.setdefault(result.note, len(notes) + 1)}]"
        metric, protocol = result.metric, result.protocol
        within = "" if result.interval is None else "[{:.4g}, {:.4g}]".format(*result.interval)
        rows.append((result.run, model, cache, metric, value, within, str(result.n), protocol))
    if rows:
        show(
            table(
                ("run", "model", "cache", "metric", "value", "95 % interval", "n", "protocol"), rows
            )
        )
    for note, number in notes.items():
        show(f"[{number}] {note}")


def _value(result: "Result") -> str:
    return result.status if result.value is None else f"{result.value:.6g} {result.unit}".rstrip()
