"""skipdit analyze smoothness and spectra: what a model's weights do to its features."""

from typing import Annotated

import typer

from skipdit_cli.cli import _analyses as analyses
from skipdit_cli.cli import _engines as engines
from skipdit_cli.cli import _options as options
from skipdit_cli.cli.analyze import analyze

SAMPLES = 4  # of each model

At = Annotated[
    str | None,
    typer.Option(
        help="Denoising steps to look at, as 10,250; the first is 1. Else an early, a middle and "
        "the last one."
    ),
]


def _at(given: str | None) -> list[int] | None:
    """The steps of --at."""
    from skipdit_cli.spec import parse_range

    return parse_range(given, place="--at") if given else None


@analyze.command()
def smoothness(
    model: analyses.Models = None,
    at: At = None,
    grid: Annotated[int, typer.Option(help="Points along each side of the grid; odd.")] = 11,
    radius: Annotated[
        float, typer.Option(help="How far weights move at most, in norms of themselves.")
    ] = 0.3,
    directions: Annotated[
        int, typer.Option(help="Pairs of random directions, over which intervals are.")
    ] = 3,
    num_samples: options.NumSamples = SAMPLES,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
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
    """Measure how smoothly a model's prediction follows its weights.

    The weights are moved along two random directions, each filter by at most --radius of its norm,
    and the prediction at chosen steps of a generation is compared with that of the weights as they
    are (Skip-DiT, Fig. 2). Several models are put side by side. What was stopped goes on.
    """
    runs = analyses.networks_of(
        model,
        weights,
        num_samples=num_samples,
        batch_size=batch_size,
        seed=seed,
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        precision=precision,
    )
    how = analyses.how(
        results,
        device=device,
        engine=engine,
        workers=workers,
        slurm=slurm,
        weights=weights,
        figure=figure,
        width=width,
    )
    from skipdit_cli.analyze.smoothness import measure

    found = measure(runs, how, at=_at(at), grid=grid, directions=directions, radius=radius)
    analyses.finish([found], results, figure=figure, width=width, json=json)


@analyze.command()
def spectra(
    model: analyses.Models = None,
    at: At = None,
    stacks: Annotated[
        str | None,
        typer.Option(
            help="Stacks of layers to measure, as 1,7,14; stack i goes from the i-th layer to the "
            "i-th last. Else all."
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Change of a norm at which its iteration ends, as a share.")
    ] = 1e-3,
    iterations: Annotated[int, typer.Option(help="Iterations at most.")] = 50,
    num_samples: options.NumSamples = SAMPLES,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
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
    """Measure how far a model's layers stretch a change of their features.

    Spectral norms of the weight matrices, of the Jacobian of each layer, and of that of stacks of
    layers with their long skips, at the features of generated samples; and how far the product of
    the layers' norms is above that of the stack. Several models are put side by side. What was
    stopped goes on.
    """
    from skipdit_cli.spec import parse_range

    runs = analyses.networks_of(
        model,
        weights,
        num_samples=num_samples,
        batch_size=batch_size,
        seed=seed,
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        precision=precision,
    )
    how = analyses.how(
        results,
        device=device,
        engine=engine,
        workers=workers,
        slurm=slurm,
        weights=weights,
        figure=figure,
        width=width,
    )
    from skipdit_cli.analyze.spectra import measure

    found = measure(
        runs,
        how,
        at=_at(at),
        stacks=parse_range(stacks, place="--stacks") if stacks else None,
        tolerance=tolerance,
        iterations=iterations,
    )
    analyses.finish([found], results, figure=figure, width=width, json=json)
