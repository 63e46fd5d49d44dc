"""skipdit cache-sweep"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, say_black, show, show_json, stage

if TYPE_CHECKING:
    from skipdit_cli.options import Options
    from skipdit_cli.report.sweep import SweepRow
    from skipdit_cli.report.table import Table


SWEPT = "2..6"  # the intervals where nothing says what to run


@app.command("cache-sweep")
def cache_sweep(
    model: options.Model = None,
    recipe: Annotated[
        str | None, typer.Option(help="A recipe (`skipdit ls recipes`) or a YAML file.")
    ] = None,
    n: options.Intervals = None,
    window: options.Windows = None,
    method: options.Methods = None,
    cache: options.Caches = None,
    metrics: Annotated[
        str | None, typer.Option(help="Metrics, comma-separated; else PSNR and SSIM.")
    ] = None,
    classes: options.Classes = None,
    prompt: options.Prompt = None,
    prompts: options.Prompts = None,
    num_samples: options.NumSamples = None,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    dtype: options.Dtype = None,
    repeats: Annotated[int, typer.Option(help="Timed repetitions of each loop; 0: none.")] = 3,
    scale: options.Scale = "auto",
    device: options.Device = "auto",
    workers: options.Workers = 1,
    offload: options.Offload = False,
    weights: options.Weights = None,
    results: options.Root = "results",  # type: ignore[assignment]
    override: options.Override = None,
    json: options.Json = False,
) -> None:
    """Generate, score and time caches against the uncached model; print and write the table.

    With no model named it runs an embedded one: offline, on a CPU, in about two minutes. Where
    neither --n, --window nor --cache says what to run, it is --n 2..6 of methods with an interval.
    """
    from skipdit_cli.errors import UsageError
    from skipdit_cli.options import Options

    if repeats < 0:
        raise UsageError(f"{repeats} repetitions", place="--repeats", fix="take 0 or more")
    if recipe:
        options.fixed_by_recipe(
            "--recipe",
            model=model,
            n=n,
            window=window,
            method=method,
            cache=cache,
            metrics=metrics,
            classes=classes,
            prompt=prompt,
            dtype=dtype,
            weights=weights,
        )
    how = Options(
        root=results,
        device=options.device_name(device),
        stage=stage,
        workers=workers,
        repeats=repeats,
        weights_path=weights,
        offload=offload,
    )
    given = options.settings(
        classes=classes,
        prompt=prompt,
        prompts=prompts,
        num_samples=num_samples,
        batch_size=batch_size,
        seed=seed,
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        dtype=dtype,
    )
    if recipe:
        _run_recipe(recipe, scale, options.overrides(given, override), how, json=json)
        return
    options.refuse_overrides(override)
    _run_model(
        options.model_at(model, scale),
        method=method,
        n=n,
        window=window,
        extra=cache or [],
        metrics=metrics,
        given=given,
        how=how,
        json=json,
    )


def _run_model(
    model: str,
    *,
    method: str | None,
    n: str | None,
    window: str | None,
    extra: list[str],
    metrics: str | None,
    given: dict[str, Any],
    how: "Options",
    json: bool,
) -> None:
    """Sweep one model, into sweeps/MODEL.

    Args:
        extra: cache specs besides those of methods, intervals and windows.
        given: what `options.settings` found.
    """
    from skipdit_cli import applicable
    from skipdit_cli.report import sweep as sweep_table
    from skipdit_cli.specs import specs
    from skipdit_cli.sweep import sweep

    asked = metrics.split(",") if metrics is not None else _default_metrics(model)
    chosen = [name.strip() for name in asked]
    for name in chosen:
        applicable.check(name, model, place="--metrics")
    caches = [*specs(method, n=n, window=window, otherwise=None if extra else SWEPT), *extra]
    runs = options.runs(model, caches, given, weights_path=how.weights_path)
    rows = sweep([(run, chosen) for run in runs], how)
    table = sweep_table.build(rows)
    folder = how.root / "sweeps" / model
    _publish(table, folder, name="sweep", rows=rows, root=how.root, json=json)
    _stop_if_failed(rows, table)


def _default_metrics(model: str) -> list[str]:
    """PSNR and SSIM, and of an embedded model whether its samples show what was asked for."""
    from skipdit_cli import weights

    card = weights.card(model)
    digits = ["accuracy@digits", *(["motion@digits"] if card.task == "t2v" else [])]
    return ["psnr", "ssim", *(digits if card.embedded else [])]


def _run_recipe(name: str, scale: str, overrides: list[str], how: "Options", *, json: bool) -> None:
    """Sweep the rows of a recipe, into a folder of its scale."""
    from skipdit_cli import runs
    from skipdit_cli.recipe import TIMINGS
    from skipdit_cli.report import recipe as recipe_table
    from skipdit_cli.sweep import sweep

    chosen = options.recipe_at(name, scale, overrides)
    jobs = runs.scored(chosen)
    timed = any(column.metric in TIMINGS for column in chosen.columns)
    profile = [runs.profile_run(chosen, row) for row in chosen.rows if row.planned is None]
    if not timed:
        how = replace(how, repeats=0)
    rows = sweep(jobs, how, profile=profile)
    table = recipe_table.build(chosen, root=how.root)
    folder = how.root / chosen.scale
    _publish(table, folder, name=chosen.name, rows=rows, root=how.root, json=json)
    _stop_if_failed(rows, table)


def _publish(
    table: "Table", folder: Path, *, name: str, rows: "list[SweepRow]", root: Path, json: bool
) -> None:
    """Write table, plot and grid; print the table and where they are."""
    from skipdit_cli.report.gallery import Behind
    from skipdit_cli.report.markdown import to_markdown
    from skipdit_cli.report.publish import publish, records

    for row in rows:
        say_black(row.run, root)
    paths = publish(table, folder, name=name, rows=rows, root=root)
    if json:
        behind = Behind(root, [row.run for row in rows])
        show_json({"rows": records(table, behind), "files": [str(path) for path in paths]})
    else:
        show(to_markdown(table))
    for path in paths:
        say(f"wrote {path}")


def _stop_if_failed(rows: "list[SweepRow]", table: "Table") -> None:
    """Raise IncompleteError, which names the first, if a run or a cell failed."""
    from skipdit_cli.errors import IncompleteError

    again = "the same command tries these again and keeps the others"
    if failed := [row for row in rows if row.failure]:
        raise IncompleteError(
            f"{len(failed)} of {len(rows)} runs failed, first {failed[0].run.cache} "
            f"({failed[0].failure})",
            fix=again,
        )
    cells = [
        f"{line.names[0]}, {heading.label} ({cell.note})"
        for line in table.lines
        for heading, cell in zip(table.headings, line.cells, strict=True)
        if cell.status == "failed"
    ]
    if cells:
        raise IncompleteError(f"{len(cells)} cells failed, first {cells[0]}", fix=again)
