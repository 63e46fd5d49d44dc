"""skipdit profile"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import _pipelines as pipelines
from skipdit_cli.cli import _target as targets
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, show, show_json, stage, table

if TYPE_CHECKING:
    from skipdit_cli.generate.options import Options

LARGE = "dit-xl-2"


@app.command()
def profile(
    model: options.Model = None,
    pipeline: pipelines.Pipeline = None,
    call: pipelines.Call = None,
    cache: options.Caches = None,
    n: options.Intervals = None,
    window: options.Windows = None,
    method: options.Methods = None,
    target_speedup: targets.Speedup = None,
    target_macs: targets.Macs = None,
    weights: options.Weights = None,
    batch_size: options.BatchSize = None,
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    prompt: options.Prompt = None,
    negative_prompt: options.NegativePrompt = None,
    precision: options.Precision = None,
    compile: options.Compile = False,
    quantize: pipelines.Quantize = None,
    repeats: Annotated[int, typer.Option(help="Timed repetitions of each loop.")] = 5,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Measure how many operations a second this machine does, from which `plan` and "
            "sweeps tell hours.",
        ),
    ] = False,
    scale: options.Scale = "auto",
    device: options.Device = "auto",
    offload: options.Offload = "",
    results: options.Root = "results",  # type: ignore[assignment]
    json: options.Json = False,
) -> None:
    """Time the denoiser alone under each cache, interleaved with the uncached reference.

    With --weights random it needs no checkpoint: latency does not depend on the weights. Without
    --batch-size it is the batch that the paper times of the model, or 4 samples.

    With --calibrate it is the uncached loop alone, a few steps of it with random weights, in the
    precision that is named, or on a GPU in all that the model has. What it reaches is kept under
    $SKIPDIT_HOME/rates and comes before what is assumed of a GPU. A large model is what a GPU is
    measured by, dit-xl-2 unless another one is named.
    """
    from skipdit_cli.checkpoints import catalog
    from skipdit_cli.checkpoints.card import RANDOM
    from skipdit_cli.generate.options import Options
    from skipdit_cli.report.markdown import to_markdown
    from skipdit_cli.report.publish import records
    from skipdit_cli.report.sweep import build_sweep_table
    from skipdit_cli.score.compare import compare, require
    from skipdit_cli.score.speed import STEPS

    options.at_least(1, repeats, place="--repeats")
    texts = {"prompt": prompt, "negative-prompt": negative_prompt}
    if calibrate:
        others = {"cache": cache, "n": n, "window": window, "method": method, "weights": weights}
        others |= {"target-speedup": target_speedup, "target-macs": target_macs}
        options.refuse(
            {**others, **texts}, "changes nothing of the speed of a machine", place="--calibrate"
        )
        how = Options(
            root=results, device=options.device_name(device), stage=stage, repeats=repeats
        )
        given = options.settings(
            call=call,
            batch_size=batch_size,
            num_samples=batch_size,
            steps=steps or STEPS,
            sampler=sampler,
            guidance=guidance,
            weights=RANDOM,
        )
        model = model or (LARGE if how.device == "cuda" else None)
        _calibrate(
            options.model_at(model, scale, pipeline), how, given, precision=precision, json=json
        )
        return
    if not pipeline:
        why = "changes nothing where a model is given its texts as zeros"
        options.refuse(texts, why, place=f"--model {model or ''}".strip())
    chosen = options.model_at(model, scale, pipeline)
    path = options.weights_file(weights)
    size = batch_size or catalog.card(chosen).timed_batch
    given = options.settings(
        call=call,
        batch_size=size,
        num_samples=size,  # one batch is timed
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        prompt=prompt,
        negative_prompt=negative_prompt,
        precision=precision,
        compile=compile or None,
        quantize=quantize,
        weights=weights,
    )
    how = Options(
        root=results,
        device=options.device_name(device),
        stage=stage,
        repeats=repeats,
        weights_path=path,
        offload=offload,
    )
    asked = targets.asked(
        chosen,
        given,
        how,
        speedup=target_speedup,
        macs=target_macs,
        method=method,
        n=n,
        window=window,
    )
    wanted = ["none", *(cache or []), *asked]
    runs = options.runs(chosen, wanted, given, weights_path=path)
    pipelines.check_offload(runs, how.offload, device=how.device)
    require(runs, weights_path=path)
    rows = compare(runs, how)
    title = f"{runs[0].label}: batch {runs[0].batch_size}, {runs[0].precision}, {how.device}"
    title += ", compiled" if compile else ""
    title += f", quantized to {quantize}" if quantize else ""
    title += f", offload {offload}" if offload else ""
    built = build_sweep_table(rows, title=title)
    if json:
        show_json(records(built))
    else:
        show(to_markdown(built))


def _calibrate(
    model: str,
    how: "Options",
    given: dict[str, Any],
    *,
    precision: str | None,
    json: bool,
) -> None:
    """Measure this machine by a model, and tell what it reached."""
    from skipdit_cli.checkpoints import catalog
    from skipdit_cli.score.speed import calibrate

    usual = catalog.card(model).precisions
    wanted = [precision] if precision else usual if how.device == "cuda" else usual[:1]
    runs = [options.runs(model, ["none"], {**given, "precision": each})[0] for each in wanted]
    measured = calibrate(runs, how)
    if json:
        show_json([vars(each) for each in measured])
        return
    rows = [
        (each.precision, each.model, run.batch_size, f"{each.tflops:.3g}")
        for each, run in zip(measured, runs, strict=True)
    ]
    show(table(("precision", "model", "batch", "TFLOP/s"), rows))
    say("kept: `skipdit plan` and sweeps tell hours from it")
