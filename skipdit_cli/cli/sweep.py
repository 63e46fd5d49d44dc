"""skipdit cache-sweep"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _engines as engines
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import _pipelines as pipelines
from skipdit_cli.cli import _studies as studies
from skipdit_cli.cli import _target as targets
from skipdit_cli.cli import app
from skipdit_cli.cli._estimate import announce
from skipdit_cli.cli._output import say, say_black, say_removed, show_table, stage

if TYPE_CHECKING:
    from skipdit_cli.report.figures import Wanted
    from skipdit_cli.report.table import Table
    from skipdit_cli.score.sweep import SweepRow


SWEPT = "2..6"  # the intervals where nothing says what to run


@app.command("cache-sweep")
def cache_sweep(
    target: options.RecipeArgument = None,
    model: options.Model = None,
    pipeline: pipelines.Pipeline = None,
    call: pipelines.Call = None,
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
    seeds: options.Seeds = None,
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    precision: options.Precision = None,
    decode_precision: options.DecodePrecision = None,
    compile: options.Compile = False,
    quantize: pipelines.Quantize = None,
    no_fewer_steps: options.NoFewerSteps = False,
    repeats: Annotated[int, typer.Option(help="Timed repetitions of each loop; 0: none.")] = 3,
    scale: options.Scale = "auto",
    device: options.Device = "auto",
    engine: engines.EngineName = None,
    workers: engines.Workers = None,
    slurm: engines.SlurmSettings = None,
    no_shared_folder: engines.NoSharedFolder = False,
    offload: options.Offload = "",
    no_previews: options.NoPreviews = False,
    weights: options.Weights = None,
    redo: options.Redo = False,
    name: options.Study = None,
    results: options.Root = "results",  # type: ignore[assignment]
    override: options.Override = None,
    figure: options.Figure = None,
    width: options.FigureWidth = None,
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Time, generate and score caches against the uncached model; print and write the table.

    With no model named it runs an embedded one: offline, on a CPU, in a few minutes. Where
    neither --n, --window nor --cache says what to run, it is --n 2..6 of methods with an interval.
    Without --batch-size, latency is that of the batch that the paper times of a model.

    Every cache has an uncached row beside it, of as many steps as cost its MACs and compared with
    the same reference: the line that it has to beat. --no-fewer-steps leaves these rows out. A
    recipe has its own rows alone.

    What it makes is a study, which `skipdit report NAME` tabulates again. --name with the name of
    one that is there goes on with it: with its model and settings where no others are given, with
    its runs besides those that are asked for now, and with more samples where --num-samples says
    so.
    """
    from skipdit_cli.checkpoints import catalog
    from skipdit_cli.errors import UsageError
    from skipdit_cli.generate.options import Options
    from skipdit_cli.generate.worker import device_here
    from skipdit_cli.recipe import runs as known
    from skipdit_cli.report import figures
    from skipdit_cli.report import recipe as recipe_table
    from skipdit_cli.report import sweep as model_table
    from skipdit_cli.score import jobs
    from skipdit_cli.score import redo as again
    from skipdit_cli.score import study as known_studies
    from skipdit_cli.score.sweep import (
        runs_of,
        sweep,
        sweep_recipe,
        timed_as,
        with_references,
    )

    options.at_least(0, repeats, place="--repeats", zero="0 times nothing")
    drawn = figures.wanted(figure, width)
    recipe, path = options.recipe_named(target, recipe), options.weights_file(weights)
    if recipe:
        options.fixed_by_recipe(
            "--recipe",
            model=model,
            pipeline=pipeline,
            call=call,
            n=n,
            window=window,
            method=method,
            cache=cache,
            **{"target-speedup": target_speedup, "target-macs": target_macs},
            metrics=metrics,
            classes=classes,
            prompt=prompt,
            weights=path,
            name=name,
            **{"no-fewer-steps": no_fewer_steps},
        )
    earlier = studies.earlier(results, name, weights=weights)
    if earlier and earlier.weights and weights is None:
        path = Path(earlier.weights)
    given = options.settings(
        call=call,
        classes=classes,
        prompt=prompt,
        prompts=prompts,
        negative_prompt=negative_prompt,
        num_samples=num_samples,
        batch_size=batch_size,
        seed=seed,
        seeds=seeds,
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        precision=precision,
        compile=compile or None,
        quantize=quantize,
        weights=weights,
        decode_precision=decode_precision,
    )
    asked = options.recipe_at(recipe, scale, options.overrides(given, override)) if recipe else None
    used, where = engines.chosen(
        engine or (asked.engine if asked else None),
        device,
        workers=workers,
        root=results,
        no_shared_folder=no_shared_folder,
        slurm=slurm,
    )
    if repeats and device_here(used) != used:
        fix = "--repeats 0 times nothing; `skipdit profile` does it on a machine that has one"
        raise UsageError("there is no GPU here to time on", place="--repeats", fix=fix)
    how = Options(
        root=results,
        device=used,
        stage=stage,
        engine=where,
        repeats=repeats,
        weights_path=path,
        offload=offload,
        previews=not no_previews,
    )
    if asked:
        if redo:
            say_removed(again.samples(runs_of(asked), root=results))
        pipelines.check_offload(
            (run for run, _ in known.scored(asked)), how.offload, device=how.device
        )
        announce(known.scored(asked), how, timed=known.timed(asked), yes=yes)
        rows = sweep_recipe(asked, how)
        table, title = recipe_table.build_recipe_table(asked, root=results), asked.name
        folder = results / asked.folder
    else:
        options.refuse_overrides(override)
        chosen = options.model_at(
            model or (earlier and not pipeline and earlier.model) or None, scale, pipeline
        )
        given = {**(earlier.settings if earlier else {}), **given}
        caches = targets.asked(
            chosen,
            given,
            how,
            otherwise=None if cache or earlier else SWEPT,
            speedup=target_speedup,
            macs=target_macs,
            method=method,
            n=n,
            window=window,
        )
        alike = {"batch_size": earlier.runs[0].batch_size} if earlier else {}
        new = options.runs(chosen, [*caches, *(cache or [])], {**alike, **given}, weights_path=path)
        before, off = earlier.runs if earlier else (), no_fewer_steps
        new = options.with_fewer_steps(new, root=results, off=off, earlier=before)
        scored = metrics and jobs.metrics_of(catalog.card(chosen), metrics.split(","))
        study = studies.asked(
            new, earlier, root=results, name=name, metrics=scored, settings=given, weights=path
        )
        runs, timed_batch = study.runs, study.batch_size
        both = with_references(runs)
        pipelines.check_offload(both, how.offload, device=how.device)
        if redo:
            say_removed(again.samples(both, root=results, weights_path=path))
        wanted = [(run, study.metrics) for run in runs]
        announce(wanted, how, timed=[timed_as(run, timed_batch) for run in both], yes=yes)
        begin = partial(known_studies.write, results, study)
        rows = sweep(wanted, how, batch_size=timed_batch, begin=begin)
        study = known_studies.write(results, study.timed(rows))
        rows = known_studies.rows(study, results, made=rows)
        known_now = options.with_fewer_steps((), root=results, off=off, earlier=study.runs)
        if any(run.key not in study.keys for run in known_now):
            say("what dynamic methods cost is known now: the same command adds the uncached rows")
        table = model_table.build_sweep_table(rows, metrics=study.metrics)
        title, folder = "sweep", study.folder(results)
    _publish(table, folder, name=title, rows=rows, root=results, figures=drawn, json=json)


def _publish(
    table: "Table",
    folder: Path,
    *,
    name: str,
    rows: "list[SweepRow]",
    root: Path,
    figures: "Wanted | None",
    json: bool,
) -> None:
    """Write table, plots, figures and grid; print the table and where they are."""
    from skipdit_cli.report.gallery import Behind
    from skipdit_cli.report.publish import publish, require

    for row in rows:
        say_black(row.run, root)
    paths = publish(table, folder, name=name, rows=rows, root=root, figures=figures)
    show_table(table, Behind(root, [row.run for row in rows]), paths, json=json)
    for path in paths:
        say(f"wrote {path}")
    require(table, rows)
