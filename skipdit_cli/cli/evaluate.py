"""skipdit evaluate"""

from pathlib import Path
from string import hexdigits
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, say_black, show, show_json, stage, table

if TYPE_CHECKING:
    from skipdit_cli.measure import How
    from skipdit_cli.results import Result
    from skipdit_cli.run import Run

ALL = "all"


@app.command()
def evaluate(
    target: Annotated[
        str | None, typer.Argument(help="A run key (or its beginning), or a recipe.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help='Metrics, comma-separated, or "all" that fit; else those of the recipe, or those '
            "that need nothing that is not here."
        ),
    ] = None,
    npz: Annotated[
        Path | None,
        typer.Option(help="Score the images of this npz; with a run, write the run's into it."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="An npz to compare with, instead of what FID and the like have."),
    ] = None,
    scale: options.Scale = "auto",
    results: options.Root = "results",  # type: ignore[assignment]
    device: options.Device = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Threads that read samples.")] = 8,
    override: options.Override = None,
    json: options.Json = False,
) -> None:
    """Score samples that are there; generates nothing.

    An npz is one of ADM's evaluator: images in arr_0, uint8 [N,H,W,3].
    """
    from skipdit_cli.errors import UsageError
    from skipdit_cli.measure import How

    if target is None and npz is None:
        fix = "name a run or a recipe, or give --npz; see skipdit evaluate --help"
        raise UsageError("no target", place="skipdit evaluate", fix=fix)
    asked = None if metrics in (None, ALL) else [name.strip() for name in metrics.split(",")]
    if asked:
        _check_known(asked)
    how = How(device=options.device_name(device), workers=workers, reference=reference)
    if target is None:
        assert npz is not None
        _score_npz(npz, asked, results, how, json=json)
        return
    jobs = _jobs(target, scale, override, results, everything=metrics == ALL)
    if npz is not None:
        _write_npz(npz, [run for run, _ in jobs], results)
        if metrics is None:
            return
    _score(jobs, asked, results, how, strict=metrics != ALL, json=json)


def _check_known(names: list[str]) -> None:
    from skipdit_cli import registry

    for name in names:
        registry.load("metrics", name, place="--metrics")


def _jobs(
    target: str, scale: str, override: list[str] | None, results: Path, *, everything: bool
) -> "list[tuple[Run, list[str]]]":
    """The runs that are meant, each with the metrics it is scored by.

    Args:
        everything: by all metrics that fit, not those of the recipe or at hand.
    """
    from skipdit_cli import applicable, recipe, runs
    from skipdit_cli.errors import unknown

    known = target in recipe.names() or target.endswith((".yaml", ".yml"))
    if not known and not set(target) <= set(hexdigits):
        raise unknown("recipe or run", target, recipe.names())
    if known:
        jobs = runs.scored(options.recipe_at(target, scale, override))
    else:
        jobs = _of_run(target, results)
    if everything:
        return [(run, applicable.to_model(run.model, variants=True)) for run, _ in jobs]
    return jobs


def _of_run(target: str, results: Path) -> "list[tuple[Run, list[str]]]":
    from skipdit_cli import applicable
    from skipdit_cli.runs import find

    run = find(results, target)
    return [(run, applicable.to_model_now(run.model))]


def _score(
    jobs: "list[tuple[Run, list[str]]]",
    asked: list[str] | None,
    results: Path,
    how: "How",
    *,
    strict: bool,
    json: bool,
) -> None:
    """Score runs and print what came of it; what is missing or failed is told at the end.

    A score that fails does not take the others with it, and why it did is kept for reports.

    Args:
        strict: a metric that cannot score the samples is an error; else the table says so.
    """
    from skipdit_cli import applicable
    from skipdit_cli._memory import memory_checked
    from skipdit_cli.errors import IncompleteError, SkipditError, StoreError, UsageError
    from skipdit_cli.measure import measure, unscored
    from skipdit_cli.store import open_store
    from skipdit_cli.sweep import not_scored

    for model in dict.fromkeys(run.model for run, _ in jobs):
        for name in asked or ():
            applicable.check(name, model, place="--metrics")
    found = []
    later: dict[str, SkipditError] = {}  # errors by what they say: once for all metrics
    for run, own in jobs:
        try:
            open_store(results, run).require(run.num_samples)
        except IncompleteError as error:
            later[str(error)] = error
            continue
        for metric in asked or own:
            try:
                shown = stage(f"scoring {metric} of {run.model}, {run.cache}")
                with shown as update, memory_checked(None):
                    result = measure(run, metric, root=results, how=how, progress=update)
            except IncompleteError as error:
                if strict:
                    later[str(error)] = error
                    continue
                result = unscored(run, metric, error)
            except StoreError:
                raise
            except SkipditError as error:
                if error.place.startswith("--"):  # an option is wrong, not the score
                    raise
                result = not_scored(run, metric, error, root=results)
                if not isinstance(error, UsageError):
                    later[str(error)] = error
                elif asked and strict:
                    raise
            found.append((run, result))
    for run in {run.key: run for run, _ in found}.values():
        say_black(run, results)
    _print([(run.model, str(run.cache), result) for run, result in found], json=json)
    if later:
        *others, last = later.values()
        for other in others:
            say(f"skipdit: {other}")
        raise last


def _score_npz(
    npz: Path, asked: list[str] | None, results: Path, how: "How", *, json: bool
) -> None:
    from skipdit_cli import applicable
    from skipdit_cli._memory import memory_checked
    from skipdit_cli.measure import measure_npz

    found = []
    for name in asked or applicable.to_npz():
        with stage(f"scoring {name} of {npz}") as update, memory_checked(None):
            found.append(measure_npz(npz, name, root=results, how=how, progress=update))
    _print([("", str(npz), result) for result in found], json=json)


def _write_npz(npz: Path, runs: "list[Run]", results: Path) -> None:
    from skipdit_cli.errors import UsageError
    from skipdit_cli.npz import write
    from skipdit_cli.store import open_store

    if len(runs) != 1:
        raise UsageError(f"{len(runs)} runs do not fit into one npz", place="--npz", fix="name one")
    (run,) = runs
    write(npz, open_store(results, run), run.num_samples)
    say(f"wrote {npz}: {run.num_samples} images of {run.model}, {run.cache}")


def _print(found: "list[tuple[str, str, Result]]", *, json: bool) -> None:
    """A line per result; why there is no number stands below, once for all that lack it."""
    if json:
        from dataclasses import asdict

        show_json([asdict(result) for _, _, result in found])
        return
    notes: dict[str, int] = {}
    rows = []
    for model, cache, result in found:
        value = _value(result)
        if result.value is None and result.note and result.status != "reference":
            value += f" [{notes.setdefault(result.note, len(notes) + 1)}]"
        metric, protocol = result.metric, result.protocol
        rows.append((result.run, model, cache, metric, value, str(result.n), protocol))
    if rows:
        show(table(("run", "model", "cache", "metric", "value", "n", "protocol"), rows))
    for note, number in notes.items():
        show(f"[{number}] {note}")


def _value(result: "Result") -> str:
    if result.value is None:
        return result.status
    spread = "" if result.spread is None else f" ± {result.spread:.4g}"
    within = ""
    if result.interval is not None:
        within = f" [{result.interval[0]:.4g}, {result.interval[1]:.4g}]"
    return f"{result.value:.6g}{spread}{within} {result.unit}".rstrip()
