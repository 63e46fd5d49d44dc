"""skipdit analyze"""

from pathlib import Path
from typing import Annotated

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import show, show_json, stage

analyze = typer.Typer(help="Look at a model's features as it samples.", no_args_is_help=True)
app.add_typer(analyze, name="analyze")


@analyze.callback()
def _group() -> None:
    """Look at a model's features as it samples."""


@analyze.command()
def calibrate(
    model: options.Model = None,
    method: Annotated[
        str, typer.Option(help="A caching method that has to be calibrated, as mag-cache.")
    ] = "teacache",
    num_samples: options.NumSamples = None,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    precision: options.Precision = None,
    device: options.Device = "auto",
    weights: options.WeightsFile = None,
    results: options.Root = "results",  # type: ignore[assignment]
    out: Annotated[
        Path | None, typer.Option(help="Folder for the file; else where the caches look for it.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Measure on a model what a caching method needs to know of it.

    The uncached model generates a few samples. For teacache, a polynomial is fitted from the change
    of the first layer's modulated input to that of the output; for mag-cache, how much what all
    layers add grows from step to step. The methods find the file by themselves.
    """
    from dataclasses import asdict

    from skipdit_cli.errors import unknown
    from skipdit_cli.generate.memory import memory_checked
    from skipdit_cli.recipe import calibration
    from skipdit_cli.storage.disk import check_writable

    if method not in calibration.methods():
        raise unknown("method", method, calibration.methods(), place="--method")
    chosen = options.model_at(model, "auto")
    given = options.settings(
        num_samples=num_samples,
        batch_size=batch_size,
        seed=seed,
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        precision=precision,
    )
    (run,) = options.runs(chosen, ["none"], given, weights_path=weights)
    where, folder = options.device_name(device), out or calibration.folder(chosen)
    check_writable(folder)
    from skipdit_cli.analyze.calibrate import calibrate as measure

    with stage(f"calibrating {method} on {chosen}") as update, memory_checked(run.batch_size):
        measured = measure(
            run, method, root=results, device=where, weights_path=weights, progress=update
        )
    path = calibration.write_calibration(measured, folder)
    if json:
        show_json({"file": str(path), **asdict(measured)})
        return
    show(f"{method} on {chosen}, from {measured.pairs} observations: {path}")
