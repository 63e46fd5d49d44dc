"""skipdit cache-sweep"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import _target as targets
from skipdit_cli.cli import app
from skipdit_cli.cli._estimate import announce
from skipdit_cli.cli._output import say, say_black, say_removed, show, show_json, stage

if TYPE_CHECKING:
    from skipdit_cli.report.table import Table
    from skipdit_cli.score.sweep import SweepRow


SWEPT = "2..6"  # the intervals where nothing says what to run


@app.command("cache-sweep")
def cache_sweep(
    target: options.RecipeArgument = None,
    model: options.Model = None,
    recipe: options.Recipe = None,
    n: options.Intervals = None,
    window: options.Windows = None,
    method: options.Methods = None,
    target_speedup: targets.Speedup = None,
    target_macs: targets.Macs = None,
    cache: options.Caches = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Metrics, comma-separated; else PSNR and SSIM.", autocompletion=complete.metrics
        ),
    ] = None,
    classes: options.Classes = None,
    prompt: options.Prompt = None,
    prompts: options.Prompts = None,
    negative_prompt: options.NegativePrompt = None,
    num_samples: options.NumSamples = None,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    precision: options.Precision = None,
    decode_precision: options.DecodePrecision = None,
    compile: options.Compile = False,
    repeats: Annotated[int, typer.Option(help="Timed repetitions of each loop; 0: none.")] = 3,
    scale: options.Scale = "auto",
    device: options.Device = "auto",
    workers: options.Workers = 1,
    offload: options.Offload = False,
    no_previews: options.NoPreviews = False,
    weights: options.Weights = None,
    redo: options.Redo = False,
    results: options.Root = "results",  # type: ignore[assignment]
    override: options.Override = None,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Time, generate and score caches against the uncached model; print and write the table.

    With no model named it runs an embedded one: offline, on a CPU, in about two minutes. Where
    neither --n, --window nor --cache says what to run, it is --n 2..6 of methods with an interval.
    Without --batch-size, latency is that of the batch that the paper times of a model.
    """
    from skipdit_cli.checkpoints import catalog
    from skipdit_cli.checkpoints.card import RANDOM
    from skipdit_cli.generate.options import Options
    from skipdit_cli.recipe import runs as known
    from skipdit_cli.recipe.specs import specs
    from skipdit_cli.report import recipe as recipe_table
    from skipdit_cli.report import sweep as model_table
    from skipdit_cli.score import jobs
    from skipdit_cli.score import redo as again
    from skipdit_cli.score.sweep import runs_of, sweep, sweep_recipe, timed_as

    options.at_least(0, repeats, place="--repeats", zero="0 times nothing")
    recipe, path = options.recipe_named(target, recipe), options.weights_file(weights)
    if recipe:
        options.fixed_by_recipe(
            "--recipe",
            model=model,
            n=n,
            window=window,
            method=method,
            cache=cache,
            **{"target-speedup": target_speedup, "target-macs": target_macs},
            metrics=metrics,
            classes=classes,
            prompt=prompt,
            weights=path,
        )
    how = Options(
        root=results,
        device=options.device_name(device),
        stage=stage,
        workers=workers,
        repeats=repeats,
        weights_path=path,
        offload=offload,
        previews=not no_previews,
    )
    given = options.settings(
        classes=classes,
        prompt=prompt,
        prompts=prompts,
        negative_prompt=negative_prompt,
        num_samples=num_samples,
        batch_size=batch_size,
        seed=seed,
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        precision=precision,
        compile=compile or None,
        weights=weights,
        decode_precision=decode_precision,
    )
    if recipe:
        asked = options.recipe_at(recipe, scale, options.overrides(given, override))
        if redo:
            say_removed(again.samples(runs_of(asked), root=results))
        announce(known.scored(asked), how, timed=known.timed(asked), yes=yes)
        rows = sweep_recipe(asked, how)
        table, name = recipe_table.build_recipe_table(asked, root=results), asked.name
        folder = results / asked.folder
    else:
        options.refuse_overrides(override)
        chosen = options.model_at(model, scale)
        scored = jobs.metrics_of(
            catalog.card(chosen), None if metrics is None else metrics.split(",")
        )
        found = targets.search(
            chosen,
            given,
            speedup=target_speedup,
            macs=target_macs,
            method=method,
            n=n,
            window=window,
            weights_path=path,
        )
        swept = None if cache else SWEPT
        near = targets.nearest(found) if found else []
        caches = near or specs(method, n=n, window=window, otherwise=swept)
        runs = options.runs(chosen, [*caches, *(cache or [])], given, weights_path=path)
        both = [*(run.reference for run in runs), *runs]
        if redo:
            say_removed(again.samples(both, root=results, weights_path=path))
        wanted = [(run, scored) for run in runs]
        announce(wanted, how, timed=[timed_as(run, batch_size) for run in both], yes=yes)
        rows = sweep(wanted, how, batch_size=batch_size)
        table, name = model_table.build_sweep_table(rows, metrics=scored), "sweep"
        dry = [RANDOM] if runs[0].card.random else []
        folder = results.joinpath(*dry, "sweeps", chosen)
    _publish(table, folder, name=name, rows=rows, root=results, json=json)


def _publish(
    table: "Table", folder: Path, *, name: str, rows: "list[SweepRow]", root: Path, json: bool
) -> None:
    """Write table, plot and grid; print the table and where they are."""
    from skipdit_cli.report.gallery import Behind
    from skipdit_cli.report.markdown import to_markdown
    from skipdit_cli.report.publish import publish, records, require

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
    require(table, rows)
