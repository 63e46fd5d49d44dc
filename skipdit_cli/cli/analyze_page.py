"""skipdit analyze page: every analysis of a model, and one page of them."""

from collections.abc import Callable
from typing import Annotated

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _engines as engines
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import analyze_features as features
from skipdit_cli.cli import analyze_weights as weighed
from skipdit_cli.cli._output import say
from skipdit_cli.cli.analyze import analyze

COMMANDS: dict[str, Callable[..., None]] = {
    "smoothness": weighed.smoothness,
    "dynamics": features.dynamics,
    "similarity": features.similarity,
    "spectra": weighed.spectra,
    "sensitivity": features.sensitivity,
}
CACHED = ("dynamics", "similarity", "sensitivity")  # those that look at caches


@analyze.command()
def page(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL [MODEL]...",
            help="Models; with one that has skip branches alone, the one without is put beside it.",
            autocompletion=complete.models,
        ),
    ],
    cache: options.Caches = None,
    num_samples: options.NumSamples = None,
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
    redo: Annotated[
        bool, typer.Option("--redo", help="Make those again that are on disk already.")
    ] = False,
    results: options.Root = "results",  # type: ignore[assignment]
    figure: options.Figure = None,
    width: options.FigureWidth = None,
) -> None:
    """Every analysis of a model, and one page of them: `skipdit analyze MODEL` for short.

    An analysis of these models that is on disk is taken as it is, whatever it was asked for with;
    the others are made.
    """
    from skipdit_cli.checkpoints.card import RANDOM
    from skipdit_cli.report import analysis as report
    from skipdit_cli.storage.analysis import read_analysis

    names = [options.model_at(name, "auto") for name in models]
    names = [*beside(names[0]), *names] if len(names) == 1 and weights is None else names
    dry = weights == RANDOM
    given = {
        "num_samples": num_samples,
        "batch_size": batch_size,
        "seed": seed,
        "steps": steps,
        "sampler": sampler,
        "guidance": guidance,
        "precision": precision,
        "device": device,
        "engine": engine,
        "workers": workers,
        "slurm": slurm,
        "weights": weights,
        "results": results,
        "figure": figure,
        "width": width,
    }
    for kind, command in COMMANDS.items():
        if not redo and (there := read_analysis(results, kind, names, dry=dry)):
            say(f"{kind}: as of {there.provenance.get('time', 'before')}")
            continue
        own = {"cache": cache} if kind in CACHED else {}
        command(model=names, **{k: v for k, v in {**given, **own}.items() if v is not None})
    found = [read_analysis(results, kind, names, dry=dry) for kind in COMMANDS]
    say(f"wrote {report.write_page([each for each in found if each], results)}")


def beside(model: str) -> list[str]:
    """The model that a skip model is to be put beside; none where there is none."""
    from skipdit_cli.checkpoints import catalog

    plain = model.removesuffix("-skip")
    return [plain] if plain != model and plain in catalog.cards() else []
