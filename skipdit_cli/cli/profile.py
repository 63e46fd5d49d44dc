"""skipdit profile"""

from pathlib import Path
from typing import Annotated

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import show, show_json, stage


@app.command()
def profile(
    model: options.Model = None,
    cache: options.Caches = None,
    n: options.Intervals = None,
    window: options.Windows = None,
    method: options.Methods = None,
    weights: Annotated[
        str | None,
        typer.Option(help="A checkpoint file, or random: latency does not depend on the weights."),
    ] = None,
    batch_size: options.BatchSize = None,
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    precision: options.Precision = None,
    repeats: Annotated[int, typer.Option(help="Timed repetitions of each loop.")] = 5,
    scale: options.Scale = "auto",
    device: options.Device = "auto",
    results: options.Root = "results",  # type: ignore[assignment]
    json: options.Json = False,
) -> None:
    """Time the denoiser alone under each cache, interleaved with the uncached reference."""
    from skipdit_cli.generate.options import Options
    from skipdit_cli.recipe.specs import specs
    from skipdit_cli.report.markdown import to_markdown
    from skipdit_cli.report.publish import records
    from skipdit_cli.report.sweep import build_sweep_table
    from skipdit_cli.score.compare import compare, require

    options.at_least(1, repeats, place="--repeats")
    chosen = options.model_at(model, scale)
    random = weights == "random"
    path = None if weights is None or random else Path(weights)
    given = options.settings(
        batch_size=batch_size,
        num_samples=batch_size,  # one batch is timed
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        precision=precision,
    )
    wanted = ["none", *(cache or []), *specs(method, n=n, window=window)]
    runs = options.runs(chosen, wanted, given, weights_path=path)
    require(runs, weights_path=path, random_weights=random)
    how = Options(
        root=results,
        device=options.device_name(device),
        stage=stage,
        repeats=repeats,
        weights_path=path,
    )
    rows = compare(runs, how, random_weights=random)
    title = f"{chosen}: batch {runs[0].batch_size}, {runs[0].precision}, {how.device}"
    table = build_sweep_table(rows, title=title)
    if json:
        show_json(records(table))
    else:
        show(to_markdown(table))
