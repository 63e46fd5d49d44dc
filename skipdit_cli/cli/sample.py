"""skipdit sample"""

from typing import Annotated

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _engines as engines
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import _pipelines as pipelines
from skipdit_cli.cli import app
from skipdit_cli.cli._estimate import announce
from skipdit_cli.cli._output import say_black, say_removed, show, show_json, stage
from skipdit_cli.errors import several


@app.command()
def sample(
    model: options.Model = None,
    pipeline: pipelines.Pipeline = None,
    call: pipelines.Call = None,
    cache: Annotated[
        str,
        typer.Option(help="A cache spec, as skip-cache(n=2).", autocompletion=complete.caches),
    ] = "none",
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
    results: options.Root = "results",  # type: ignore[assignment]
    yes: options.Yes = False,
    json: options.Json = False,
) -> None:
    """Generate samples; a killed run continues where it stopped."""
    from skipdit_cli.checkpoints.card import DRY_RUN
    from skipdit_cli.generate.options import Options
    from skipdit_cli.score.sweep import generate
    from skipdit_cli.spec import parse_cache

    parse_cache(cache, place="--cache")  # one, not a grid
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
    path = options.weights_file(weights)
    chosen = options.model_at(model, scale, pipeline)
    (run,) = options.runs(chosen, [cache], given, weights_path=path)
    used, where = engines.chosen(
        engine,
        device,
        workers=workers,
        root=results,
        no_shared_folder=no_shared_folder,
        slurm=slurm,
    )
    how = Options(
        root=results,
        device=used,
        stage=stage,
        engine=where,
        weights_path=path,
        offload=offload,
        previews=not no_previews,
    )
    if redo:
        from skipdit_cli.score import redo as again

        say_removed(again.samples([run], root=results, weights_path=path))
    pipelines.check_offload([run], how.offload, device=how.device)
    announce([(run, ())], how, yes=yes)
    store = generate(run, how)
    say_black(run, results)
    if json:
        show_json({"key": run.key, "folder": str(store.path), "run": run.to_dict()})
        return
    dry = f"; {DRY_RUN}" if run.card.random else ""
    show(f"{several(run.num_samples, 'sample')} of run {run.key} in {store.path}{dry}")
