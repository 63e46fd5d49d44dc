"""skipdit analyze"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from skipdit_cli.cli import _engines as engines
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import _pipelines as pipelines
from skipdit_cli.cli import app
from skipdit_cli.cli._output import show, show_json, stage


class OrPage(TyperGroup):
    """`skipdit analyze MODEL` is `skipdit analyze page MODEL`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["page", *args]
        return super().parse_args(ctx, args)


analyze = typer.Typer(cls=OrPage)
app.add_typer(analyze, name="analyze")


@analyze.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Look into a model: why caching works on it, and what a cache has to know.

    `skipdit analyze MODEL` makes all of it but calibrations, and one page of it.
    """
    if context.invoked_subcommand is None:
        show(context.get_help())


@analyze.command()
def calibrate(
    model: options.Model = None,
    pipeline: pipelines.Pipeline = None,
    call: pipelines.Call = None,
    method: Annotated[
        str, typer.Option(help="A caching method that has to be calibrated, as mag-cache.")
    ] = "teacache",
    full: Annotated[
        str | None,
        typer.Option(help="Of dp-cache: numbers of full steps, as 25,17,13,9; each is calibrated."),
    ] = None,
    branch: Annotated[
        int | None, typer.Option(help="Of dp-cache: layers at each end that run on every step.")
    ] = None,
    num_samples: options.NumSamples = None,
    batch_size: options.BatchSize = None,
    seed: options.Seed = 1,  # apart from that of samples, which are then scored
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    prompt: options.Prompt = None,
    prompts: options.Prompts = None,
    negative_prompt: options.NegativePrompt = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    engine: engines.EngineName = None,
    workers: engines.Workers = None,
    slurm: engines.SlurmSettings = None,
    weights: options.Weights = None,
    results: options.Root = "results",  # type: ignore[assignment]
    out: Annotated[
        Path | None, typer.Option(help="Folder for the file; else where the caches look for it.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Measure on a model what a caching method needs to know of it.

    The uncached model generates a few samples. For teacache, a polynomial is fitted from the change
    of the first layer's modulated input to that of the output; for mag-cache, how much what all
    layers add grows from step to step; for dp-cache, which steps are full and how those between are
    forecast, and the best of six answers is kept. The methods find the files by themselves. What
    was stopped goes on.
    """
    from dataclasses import asdict

    from skipdit_cli.checkpoints.card import DRY_RUN
    from skipdit_cli.errors import unknown
    from skipdit_cli.generate.options import Options
    from skipdit_cli.recipe import calibration
    from skipdit_cli.storage.disk import check_writable

    if method not in calibration.methods():
        raise unknown("method", method, calibration.methods(), place="--method")
    chosen = options.model_at(model, "auto", pipeline)
    given = options.settings(
        call=call,
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
        weights=weights,
    )
    path = options.weights_file(weights)
    (run,) = options.runs(chosen, ["none"], given, weights_path=path)
    configs = _configs(method, full, branch)
    used, where = engines.chosen(engine, device, workers=workers, root=results, slurm=slurm)
    folder = out or calibration.folder(chosen)
    if not run.card.random:
        check_writable(folder)
    from skipdit_cli.analyze.calibrate import calibrate as measure

    how = Options(root=results, device=used, stage=stage, engine=where, weights_path=path)
    measured = measure(run, method, how, configs=configs)
    if run.card.random:
        show(f"{method} on {chosen}: nothing is written; {DRY_RUN}")
        return
    paths = [calibration.write_calibration(each, folder) for each in measured]
    if json:
        both = zip(paths, measured, strict=True)
        show_json([{"file": str(file), **asdict(each)} for file, each in both])
        return
    for file, each in zip(paths, measured, strict=True):
        what = ", ".join(f"{name}={value}" for name, value in each.variant.items())
        show(f"{method} on {chosen}, {what or f'from {each.pairs} observations'}: {file}")
        if each.tried:
            first, *rest = sorted(each.tried.items(), key=lambda item: -item[1])
            others = ", ".join(f"{name} {value - first[1]:+.1f}" for name, value in rest)
            show(f"  {first[0]} is best; dB of the others: {others}")


def _configs(method: str, full: str | None, branch: int | None) -> list[Any] | None:
    """What is calibrated, as Configs of the method; None where nothing is said.

    Raises:
        UsageError: the method has no such setting, or a number is none.
    """
    from skipdit_cli.spec import parse_grid, parse_range

    counts = parse_range(full, place="--full") if full else []
    given = [f"full={'|'.join(map(str, counts))}"] if counts else []
    given += [f"branch={branch}"] if branch is not None else []
    if not given:
        return None
    specs = parse_grid(f"{method}({','.join(given)})", place="--full" if full else "--branch")
    return [spec.config for spec in specs]
