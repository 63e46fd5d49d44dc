"""Sweep: generate, score and time several caches against the uncached model.

The main job. References come first; every number is saved as soon as it is there, so that a killed
sweep continues where it stopped; a run that fails keeps its place in the table, with the reason,
also in later reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli import failures as failed
from skipdit_cli import plan, registry, results, weights
from skipdit_cli._memory import memory_checked
from skipdit_cli.errors import SkipditError, StoreError, UsageError
from skipdit_cli.recipe import TIMINGS
from skipdit_cli.report.sweep import SweepRow
from skipdit_cli.score.evaluate import Stage, not_scored
from skipdit_cli.spec import parse_cache, parse_range, parse_window
from skipdit_cli.timing import TIMED, time_together

if TYPE_CHECKING:
    from skipdit_cli.plan import Run
    from skipdit_cli.recipe import Recipe
    from skipdit_cli.results import Result
    from skipdit_cli.store import Store

READERS = 8  # threads: each reads some 500 images of 256x256 a second, fewer than a GPU looks at
METHOD = "skip-cache"  # what is swept where no method is named
SWEPT = ("n", "threshold")  # what a table tells the runs of a method by


@dataclass(frozen=True)
class Options:
    """Where and how a sweep runs.

    Attributes:
        repeats: timed repetitions of every loop; 0 times nothing.
        stage: opens a progress display; what it yields is called with (done, total).
        offload: keep the autoencoder off the GPU while samples are denoised.
    """

    root: Path
    device: str
    stage: Stage
    workers: int = 1
    repeats: int = 5
    weights_path: Path | None = None
    offload: bool = False


def specs(
    method: str | None, *, n: str | None, window: str | None, otherwise: str | None = None
) -> list[str]:
    """Cache specs of every method x interval x window, in that order; none if nothing is given.

    Args:
        method: comma-separated names, by default skip-cache.
        n: a range such as 2..6, by default each method's own interval.
        window: comma-separated windows, by default each method's own.
        otherwise: the range of methods that have an interval, where neither n nor window is given.
    Raises:
        UsageError: a value cannot be read, or a method has no such setting.
    """
    if all(given is None for given in (method, n, window, otherwise)):
        return []
    spans = window.split(",") if window is not None else [None]
    for text in spans:
        if text is not None:
            parse_window(text, place="--window")
    found = []
    for name in map(str.strip, (method or METHOD).split(",")):
        config = registry.load("caches", name, place="--method").Config
        known = {field.name for field in fields(config)}
        wanted = otherwise if n is None and window is None and "n" in known else n
        intervals = map(str, parse_range(wanted, place="--n")) if wanted is not None else [None]
        for interval, span in product(intervals, spans):
            given = {key: v for key, v in (("n", interval), ("window", span)) if v is not None}
            if strange := sorted(set(given) - known):
                raise UsageError(
                    f"{name} has no setting {strange[0]}",
                    place=f"--{strange[0]}",
                    fix=f"its settings are {', '.join(sorted(known)) or 'none'}",
                )
            inside = ",".join(f"{key}={value}" for key, value in given.items())
            found.append(f"{name}({inside})" if inside else name)
            parse_cache(found[-1], place="--n")
    return found


def label(cache: str) -> str:
    """A cache in short, for a table: `skip-cache n=2`."""
    if cache == "none":
        return "no cache (n=1)"
    parsed = parse_cache(cache)
    for key in SWEPT:
        if (value := getattr(parsed.config, key, None)) is not None:
            return f"{parsed.name} {key}={value}"
    return parsed.short


def _labels(runs: Sequence["Run"]) -> dict[str, str]:
    """The label of every run, by key, with the settings in which runs of one method and n differ.

    The window is left out: it has a column of its own.
    """

    def alike(run: "Run") -> tuple[str, str]:
        return run.model, label(run.cache)

    methods: dict[tuple[str, str], dict[str, set]] = {}
    for run in runs:
        cache = parse_cache(run.cache)
        seen = methods.setdefault(alike(run), {})
        for key, value in vars(cache.config).items():
            seen.setdefault(key, set()).add(value)
    found = {}
    for run in runs:
        cache = parse_cache(run.cache)
        seen = methods[alike(run)]
        differ = [
            f"{key}={value}"
            for key, value in vars(cache.config).items()
            if key not in (*SWEPT, "window") and len(seen[key]) > 1
        ]
        found[run.key] = " ".join([label(run.cache), *differ])
    return found


def sweep(
    jobs: Sequence[tuple["Run", Sequence[str]]],
    options: Options,
    *,
    profile: Sequence["Run"] = (),
) -> list[SweepRow]:
    """Generate runs and their references, score them, and time them.

    Args:
        jobs: runs, each with the metrics it is scored by; its reference is scored by them as well.
        profile: runs to time, one batch each; by default the runs themselves.
    Returns:
        One row per run, references among them.
    Raises:
        SkipditError: whatever is wrong for all runs alike (weights, disk, usage).
    """
    ordered = list(dict.fromkeys([run.reference for run, _ in jobs] + [run for run, _ in jobs]))
    for model in dict.fromkeys(run.model for run in ordered):
        weights.require(model, path=options.weights_path)
    asked: dict[str, dict[str, None]] = {run.key: {} for run in ordered}
    for run, metrics in jobs:
        for each in (run.reference, run):
            asked[each.key] |= dict.fromkeys(metrics)
    failures = {run.key: failure for run in ordered if (failure := _generate(run, options))}
    scores: dict[str, dict[str, Result]] = {}
    for run in ordered:
        if run.key in failures or run.reference.key in failures:
            failures.setdefault(run.key, failed.OF_REFERENCE)
            continue
        scores[run.key] = _score(run, list(asked[run.key]), options)
    if options.repeats:
        timed = [run for run in (profile or ordered) if run.key not in failures]
        for key, timings in _time(timed, options).items():
            scores.setdefault(key, {}).update(timings)
    labels = _labels(ordered)
    return [
        SweepRow(
            label=labels[run.key],
            run=run,
            plan_row=plan.plan(run, seen=plan.observed(run, options.root)),
            results=scores.get(run.key, {}),
            failure=failures.get(run.key, ""),
        )
        for run in ordered
    ]


def sweep_recipe(recipe: "Recipe", options: Options) -> list[SweepRow]:
    """Sweep the rows of a recipe that can run; nothing is timed where no column asks for it."""
    if not any(column.metric in TIMINGS for column in recipe.columns):
        options = replace(options, repeats=0)
    return sweep(plan.scored(recipe), options, profile=_timed(recipe))


def runs_of(recipe: "Recipe") -> "list[Run]":
    """All runs that `sweep_recipe` makes or times, with their uncached references."""
    runs = [*(run for run, _ in plan.scored(recipe)), *_timed(recipe)]
    return [*dict.fromkeys(run.reference for run in runs), *runs]


def _timed(recipe: "Recipe") -> "list[Run]":
    return [plan.profile_run(recipe, row) for row in recipe.rows if row.planned is None]


def generate(run: "Run", options: Options) -> "Store":
    """Encode the prompts of a run, if it has any, and generate it, with progress.

    Why a run fails is kept for reports, until it succeeds.
    """
    try:
        store = _generate_now(run, options)
    except SkipditError as error:
        if _of_the_run(error):
            failed.save(options.root, run.key, failed.SAMPLES, reason=str(error))
        raise
    failed.clear(options.root, run.key, failed.SAMPLES)
    return store


def _generate_now(run: "Run", options: Options) -> "Store":
    from skipdit_cli import conditions
    from skipdit_cli.run import generate

    weights.require(run.model, path=options.weights_path)  # before the encoding
    if conditions.pending(run, options.root):
        with options.stage(f"encoding the prompts of {run.model}") as update:
            conditions.prepare(run, options.root, device=options.device, progress=update)
    stage = options.stage(f"sampling {run.model}, {parse_cache(run.cache).short}")
    with stage as update, memory_checked(run.batch_size):
        return generate(
            run,
            options.root,
            device=options.device,
            workers=options.workers,
            weights_path=options.weights_path,
            offload=options.offload,
            on_batch=update,
        )


def _generate(run: "Run", options: Options) -> str:
    """Generate a run; returns why it failed, or "" if it did not."""
    try:
        generate(run, options)
    except SkipditError as error:
        if not _of_the_run(error):
            raise
        return str(error)
    return ""


def _of_the_run(error: SkipditError) -> bool:
    """Whether an error concerns one run, and not the disk, the weights or the command line."""
    return error.exit_code == SkipditError.exit_code and not isinstance(error, StoreError)


def _score(run: "Run", metrics: Sequence[str], options: Options) -> "dict[str, Result]":
    """One metric after the other; one that fails does not take the others' numbers with it."""
    from skipdit_cli.measure import How, measure

    how = How(device=options.device, workers=READERS)
    found = {}
    with options.stage(f"scoring {run.model}, {parse_cache(run.cache).short}") as update:
        for metric in metrics:
            try:
                with memory_checked(None):
                    result = measure(run, metric, root=options.root, how=how, progress=update)
            except StoreError:
                raise
            except SkipditError as error:
                result = not_scored(run, metric, error, root=options.root)
            found[metric] = result
    return found


def _time(runs: Sequence["Run"], options: Options) -> "dict[str, dict[str, Result]]":
    """Timings of all runs, by key; a group that cannot be timed does not take the others' along."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.reference.key, []).append(run)
    found: dict[str, dict[str, Result]] = {}
    for group in groups.values():
        try:
            found |= time_together(group, options)
        except SkipditError as error:
            if not _of_the_run(error):
                raise
            for run in group:
                failed.save(options.root, run.key, failed.TIMING, reason=str(error))
                found[run.key] = {
                    metric: results.Result(
                        metric=metric,
                        value=None,
                        unit=unit,
                        n=options.repeats,
                        run=run.key,
                        status="failed",
                        note=str(error),
                    )
                    for metric, unit in TIMED.items()
                }
    return found
