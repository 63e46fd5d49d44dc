"""skipdit analyze dynamics, similarity, sensitivity: features of generations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skipdit_cli.cli import _engines as engines
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import _pipelines as pipelines
from skipdit_cli.cli._analyses import Models, finish, how, runs_of
from skipdit_cli.cli.analyze import analyze

if TYPE_CHECKING:
    from skipdit_cli.run import Run

MARKED = "skip-cache(n=2)"  # on models that it has a meaning on, if nothing is said
COMPARED = (MARKED, "fora(n=2)")  # the second on any model

Layers = Annotated[
    str | None, typer.Option("--layer", help="Layers, as 0,5,11 or 0..3, counted from 0.")
]


@analyze.command()
def dynamics(
    model: Models = None,
    pipeline: pipelines.Pipeline = None,
    call: pipelines.Call = None,
    cache: Annotated[
        list[str] | None,
        typer.Option("--cache", help=f"What it reuses is marked; else {MARKED}. May be repeated."),
    ] = None,
    layer: Layers = None,
    num_samples: options.NumSamples = None,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
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
    figure: options.Figure = None,
    width: options.FigureWidth = None,
    json: options.Json = False,
) -> None:
    """How alike the features of a layer are from one denoising step to another.

    The cosine similarity of what leaves every layer to what left it at the step before, and, of the
    layers of --layer (else the first, middle and last), between all pairs of steps. Where a cache
    reuses a layer is outlined. What was stopped goes on.
    """
    from skipdit_cli.analyze.dynamics import measure

    given = {
        "call": call,
        "num_samples": num_samples,
        "batch_size": batch_size,
        "seed": seed,
        "steps": steps,
        "sampler": sampler,
        "guidance": guidance,
        "prompt": prompt,
        "prompts": prompts,
        "negative_prompt": negative_prompt,
        "precision": precision,
    }
    runs = runs_of(model, weights, pipeline=pipeline, **given)
    where = how(
        results,
        device=device,
        engine=engine,
        workers=workers,
        slurm=slurm,
        weights=weights,
        figure=figure,
        width=width,
    )
    found = measure(runs, where, cached=_cached(runs, cache, weights, given), layers=_layers(layer))
    finish([found], results, figure=figure, width=width, json=json)


@analyze.command()
def similarity(
    model: Models = None,
    pipeline: pipelines.Pipeline = None,
    call: pipelines.Call = None,
    cache: Annotated[
        list[str] | None,
        typer.Option("--cache", help=f"What is compared; else {' and '.join(COMPARED)}."),
    ] = None,
    layer: Layers = None,
    num_samples: options.NumSamples = None,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
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
    figure: options.Figure = None,
    width: options.FigureWidth = None,
    json: options.Json = False,
) -> None:
    """How near a cached generation stays to the uncached one of the same noise.

    Cosine similarity and relative error at every timestep, of what leaves the last layer (or those
    of --layer) and of the latents, with bands over samples. What was stopped goes on.
    """
    from skipdit_cli.analyze.similarity import measure

    given = {
        "call": call,
        "num_samples": num_samples,
        "batch_size": batch_size,
        "seed": seed,
        "steps": steps,
        "sampler": sampler,
        "guidance": guidance,
        "prompt": prompt,
        "prompts": prompts,
        "negative_prompt": negative_prompt,
        "precision": precision,
    }
    runs = runs_of(model, weights, pipeline=pipeline, **given)
    where = how(
        results,
        device=device,
        engine=engine,
        workers=workers,
        slurm=slurm,
        weights=weights,
        figure=figure,
        width=width,
    )
    cached = _cached(runs, cache, weights, given, usual=COMPARED)
    found = measure(runs, where, cached=cached, layers=_layers(layer))
    finish([found], results, figure=figure, width=width, json=json)


@analyze.command()
def sensitivity(
    model: Models = None,
    pipeline: pipelines.Pipeline = None,
    call: pipelines.Call = None,
    cache: Annotated[
        list[str] | None,
        typer.Option("--cache", help=f"What it reuses is marked; else {MARKED}. May be repeated."),
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="How many layers are tried, evenly spaced; else up to 12.")
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(help="How far apart the steps are; else 5, and each of the last four."),
    ] = None,
    num_samples: options.NumSamples = 4,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
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
    figure: options.Figure = None,
    width: options.FigureWidth = None,
    json: options.Json = False,
) -> None:
    """How far samples stray if one layer is reused at one step: where caching is cheap.

    What leaves a layer is replaced at one step by what left it at the step before, for every layer
    and step that are tried, and the rest of the generation is computed again: as many partial
    generations as there are such places. What a cache reuses is outlined. What was stopped goes on.
    """
    from skipdit_cli.analyze.sensitivity import measure

    given = {
        "call": call,
        "num_samples": num_samples,
        "batch_size": batch_size,
        "seed": seed,
        "steps": steps,
        "sampler": sampler,
        "guidance": guidance,
        "prompt": prompt,
        "prompts": prompts,
        "negative_prompt": negative_prompt,
        "precision": precision,
    }
    runs = runs_of(model, weights, pipeline=pipeline, **given)
    where = how(
        results,
        device=device,
        engine=engine,
        workers=workers,
        slurm=slurm,
        weights=weights,
        figure=figure,
        width=width,
    )
    if every is not None:
        options.at_least(1, every, place="--every")
    cached = _cached(runs, cache, weights, given)
    found = measure(runs, where, cached=cached, layers=layers, every=every)
    finish([found], results, figure=figure, width=width, json=json)


def _layers(given: str | None) -> list[int] | None:
    """What --layer names.

    Raises:
        UsageError: it cannot be read.
    """
    from skipdit_cli.spec import parse_range

    return None if given is None else parse_range(given, place="--layer")


def _cached(
    runs: "Sequence[Run]",
    caches: list[str] | None,
    weights: str | None,
    given: dict[str, Any],
    *,
    usual: tuple[str, ...] = (MARKED,),
) -> "list[Run]":
    """The runs under caches, of each cache on the models that it has a meaning on.

    Args:
        caches: as --cache gives them; None for the usual ones that a model can take.
        weights: as --weights gives them.
        given: what the options of a generation hold.
    Raises:
        UsageError: a cache cannot be read, or has a meaning on none of the models.
    """
    from skipdit_cli.errors import UsageError

    settings = options.settings(**given, weights=weights)
    path, found = options.weights_file(weights), list["Run"]()
    for text in usual if caches is None else caches:
        made, refused = list["Run"](), list[UsageError]()
        for run in runs:
            try:
                made += options.runs(run.model, [text], settings, weights_path=path)
            except UsageError as error:
                refused.append(error)
        if not made and caches is not None:
            raise refused[0]
        found += made
    return found
