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
    dtype: options.Dtype = None,
    repeats: Annotated[int, typer.Option(help="Timed repetitions of each loop.")] = 5,
    scale: options.Scale = "auto",
    device: options.Device = "auto",
    results: options.Root = "results",  # type: ignore[assignment]
    json: options.Json = False,
) -> None:
    """Time the denoiser alone under each cache, interleaved with the uncached reference."""
    from skipdit_cli import plan as planning
    from skipdit_cli import weights as known_weights
    from skipdit_cli._disk import check_writable
    from skipdit_cli.errors import UsageError
    from skipdit_cli.options import Options
    from skipdit_cli.report.markdown import to_markdown
    from skipdit_cli.report.publish import records
    from skipdit_cli.report.sweep import build
    from skipdit_cli.specs import specs
    from skipdit_cli.sweep import SweepRow, label
    from skipdit_cli.timing import time_together

    if repeats < 1:
        raise UsageError(f"{repeats} repetitions", place="--repeats", fix="take 1 or more")
    chosen = options.model_at(model, scale)
    path = Path(weights) if weights not in (None, "random") else None
    given = options.settings(
        batch_size=batch_size, steps=steps, sampler=sampler, guidance=guidance, dtype=dtype
    )
    wanted = ["none", *(cache or []), *specs(method, n=n, window=window)]
    runs = options.runs(chosen, wanted, given, weights_path=path)
    if weights is None:
        known_weights.require(runs[0].card)
    for run in runs if weights == "random" else ():
        if run.cache.method.DYNAMIC:
            raise UsageError(
                f"what {run.cache.name} reuses depends on the weights",
                place="--weights random",
                fix="leave it out, or give a file",
            )
    how = Options(
        root=results,
        device=options.device_name(device),
        stage=stage,
        repeats=repeats,
        weights_path=path,
    )
    if weights != "random":  # whose timings are not kept
        check_writable(results)
    timings = time_together(runs, how, random_weights=weights == "random")
    rows = [
        SweepRow(
            label(run.cache),
            run,
            planning.plan(run, seen=planning.observed(run, results)),
            timings[run.key],
        )
        for run in dict.fromkeys(runs)
    ]
    title = f"{chosen}: batch {runs[0].batch_size}, {runs[0].dtype}, {how.device}"
    table = build(rows, title=title, scored=False)
    if json:
        show_json(records(table))
    else:
        show(to_markdown(table))
