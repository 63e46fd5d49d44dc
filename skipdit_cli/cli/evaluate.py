"""skipdit evaluate"""

from string import hexdigits
from typing import Annotated

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, say_black, show, show_json, stage, table


@app.command()
def evaluate(
    target: Annotated[str, typer.Argument(help="A run key (or its beginning), or a recipe.")],
    metrics: Annotated[
        str | None, typer.Option(help="Metrics, comma-separated; else the recipe's, or all.")
    ] = None,
    scale: options.Scale = "auto",
    results: options.Root = "results",  # type: ignore[assignment]
    override: options.Override = None,
    json: options.Json = False,
) -> None:
    """Score samples that are there; generates nothing."""
    from skipdit_cli import recipe, registry
    from skipdit_cli.errors import IncompleteError, unknown
    from skipdit_cli.measure import check, measure
    from skipdit_cli.store import open_store

    if metrics is not None:
        for name in metrics.split(","):
            registry.load("metrics", name, place="--metrics")
    known = target in recipe.names() or target.endswith((".yaml", ".yml"))
    if not known and not set(target) <= set(hexdigits):
        raise unknown("recipe or run", target, recipe.names())
    jobs = _of_recipe(target, scale, override) if known else _of_run(target, results)
    if metrics is not None:
        for model in dict.fromkeys(run.model for run, _ in jobs):
            for name in metrics.split(","):
                check(name, model, place="--metrics")
    found = []
    incomplete: dict[str, IncompleteError] = {}  # by what they say: once for all metrics
    for run, own in jobs:
        try:
            open_store(results, run).require(run.num_samples)
        except IncompleteError as error:
            incomplete[str(error)] = error
            continue
        for metric in metrics.split(",") if metrics is not None else own:
            try:
                with stage(f"scoring {metric} of {run.model}, {run.cache}") as update:
                    found.append((run, measure(run, metric, root=results, progress=update)))
            except IncompleteError as error:
                incomplete[str(error)] = error
    for run in {run.key: run for run, _ in found}.values():
        say_black(run, results)
    if json:
        from dataclasses import asdict

        show_json([asdict(result) for _, result in found])
    elif found:
        rows = [
            (run.key, run.model, run.cache, result.metric, _value(result), str(result.n))
            for run, result in found
        ]
        show(table(("run", "model", "cache", "metric", "value", "n"), rows))
    if incomplete:
        *others, last = incomplete.values()
        for other in others:
            say(f"skipdit: {other}")
        raise last


def _of_recipe(target: str, scale: str, override):
    from skipdit_cli import plan, registry

    chosen = options.recipe_at(target, scale, override)
    ours = registry.names("metrics")
    columns = [c for c in chosen.columns if c.metric in ours and c.planned is None]
    return [
        (run, [column.metric for column in columns if column.group in ("", group)])
        for _, group, run in plan.runs(chosen)
    ]


def _of_run(target: str, results):
    from skipdit_cli.measure import fitting
    from skipdit_cli.store import find

    run = find(results, target).run
    return [(run, fitting(run.model))]


def _value(result) -> str:
    if result.value is None:
        return result.status if not result.note else f"{result.status}: {result.note}"
    spread = "" if result.spread is None else f" ± {result.spread:.4g}"
    return f"{result.value:.6g}{spread} {result.unit}".rstrip()
