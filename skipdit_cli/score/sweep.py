"""Sweep: time, generate and score several caches against the uncached model.

The main job. All is timed before anything is generated, so that a sweep that is cut off has its
speedups; runs of one model follow each other, so that it is loaded once, and its references come
first. Every number is saved as soon as it is there, so that a killed sweep continues where it
stopped; a run that fails keeps its place in the table, with the reason, also in later reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from skipdit_cli.cache import NONE, Cache
from skipdit_cli.checkpoints import local
from skipdit_cli.errors import SkipditError, StoreError
from skipdit_cli.generate import conditioning, loaded, memory
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.options import Options
from skipdit_cli.plan import plan
from skipdit_cli.recipe import runs
from skipdit_cli.recipe.shape import Recipe
from skipdit_cli.run import Run
from skipdit_cli.score.evaluate import not_scored
from skipdit_cli.score.timing import TIMED, time_together
from skipdit_cli.storage import failures as failed
from skipdit_cli.storage import results
from skipdit_cli.storage.disk import check_writable
from skipdit_cli.storage.results import Result

if TYPE_CHECKING:
    from skipdit_cli.storage.store import Store

SWEPT = ("n", "threshold")  # what a table tells the runs of a method by


@dataclass(frozen=True)
class SweepRow:
    """One run of a sweep.

    Attributes:
        label: the cache in short ("skip-cache n=2", "no cache (n=1)").
        run: the run.
        plan_row: what it costs, counted for one sample.
        results: by metric: `latency` (seconds per batch), `speedup` and `memory` (bytes) of the
            denoising loop, and any metric of metrics/.
        failure: why there are no results, or "".
        timed_batch: samples in the batch that `latency`, `speedup` and `memory` are of; None for
            that of the run.
    """

    label: str
    run: Run
    plan_row: plan.RunPlan
    results: dict[str, Result] = field(default_factory=dict)
    failure: str = ""
    timed_batch: int | None = None


def label(cache: Cache) -> str:
    """A cache in short, for a table: `skip-cache n=2`."""
    if cache.name == NONE:
        return "no cache (n=1)"
    for key in SWEPT:
        if (value := cache.setting(key)) is not None:
            return f"{cache.name} {key}={value}"
    return cache.short


def _labels(runs: Sequence[Run]) -> dict[str, str]:
    """The label of every run, by key, with the settings in which runs of one method and n differ.

    The window is left out: it has a column of its own.
    """

    def alike(run: Run) -> tuple[str, str]:
        return run.model, label(run.cache)

    methods: dict[tuple[str, str], dict[str, set]] = {}
    for run in runs:
        seen = methods.setdefault(alike(run), {})
        for key, value in vars(run.cache.settings).items():
            seen.setdefault(key, set()).add(value)
    labels = {}
    for run in runs:
        seen = methods[alike(run)]
        differ = [
            f"{key}={value}"
            for key, value in vars(run.cache.settings).items()
            if key not in (*SWEPT, "window") and len(seen[key]) > 1
        ]
        labels[run.key] = " ".join([label(run.cache), *differ])
    return labels


def sweep(
    jobs: Sequence[tuple[Run, Sequence[str]]],
    options: Options,
    *,
    profile: Sequence[Run] = (),
    batch_size: int | None = None,
) -> list[SweepRow]:
    """Time runs and their references, generate them, and score them.

    Args:
        jobs: runs, each with the metrics it is scored by; its reference is scored by them as well.
        profile: runs to time, one batch each; by default those of the jobs.
        batch_size: of the jobs, where somebody chose it, and then of what is timed by default;
            else that is the batch that the paper times of each model, if it does.
    Returns:
        One row per run, references among them.
    Raises:
        SkipditError: whatever is wrong for all runs alike (weights, disk, usage).
    """
    for card in dict.fromkeys(run.card for run, _ in jobs):
        local.require(card, path=options.weights_path)
    ordered = list(dict.fromkeys([run.reference for run, _ in jobs] + [run for run, _ in jobs]))
    timed = {run.key: run if profile else timed_as(run, batch_size) for run in ordered}
    profile = profile or list(timed.values())
    for run in (*ordered, *profile):
        memory.require(run, device=options.device, workers=options.workers)
    for run in ordered:
        conditioning.require(run)
    check_writable(options.root)
    asked: dict[str, dict[str, None]] = {run.key: {} for run in ordered}
    for run, metrics in jobs:
        for each in (run.reference, run):
            asked[each.key] |= dict.fromkeys(metrics)
    timings = _time(by_model(profile), options) if options.repeats else {}
    failures = {
        run.key: failure for run in by_model(ordered) if (failure := _generate(run, options))
    }
    loaded.release()  # what scores needs the room
    scores: dict[str, dict[str, Result]] = {}
    for run in ordered:
        if run.key in failures or run.reference.key in failures:
            failures.setdefault(run.key, failed.OF_REFERENCE)
        else:
            scores[run.key] = _score(run, list(asked[run.key]), options)
    labels = _labels(ordered)
    return [
        SweepRow(
            label=labels[run.key],
            run=run,
            plan_row=plan.plan(run, seen=plan.observed(run, options.root)),
            results=scores.get(run.key, {}) | timings.get(timed[run.key].key, {}),
            failure=failures.get(run.key, ""),
            timed_batch=timed[run.key].batch_size,
        )
        for run in ordered
    ]


def timed_as(run: Run, batch_size: int | None) -> Run:
    """The batch that is timed of a run."""
    size = batch_size or run.card.timed_batch or run.batch_size
    return replace(run, batch_size=size, num_samples=size)


def by_model(runs: Sequence[Run]) -> list[Run]:
    """Runs, those of one model together; otherwise in their order."""
    models = list(dict.fromkeys(run.card for run in runs))
    return sorted(runs, key=lambda run: models.index(run.card))


def sweep_recipe(recipe: Recipe, options: Options) -> list[SweepRow]:
    """Sweep the rows of a recipe that can run; nothing is timed where no column asks for it."""
    profile = runs.timed(recipe)
    options = options if profile else replace(options, repeats=0)
    return sweep(runs.scored(recipe), options, profile=profile)


def runs_of(recipe: Recipe) -> list[Run]:
    """All runs that `sweep_recipe` makes or times, with their uncached references."""
    meant = [*(run for run, _ in runs.scored(recipe)), *runs.timed(recipe)]
    return [*dict.fromkeys(run.reference for run in meant), *meant]


def generate(run: Run, options: Options, *, wait: bool = False) -> "Store":
    """Generate a run, with progress; why it fails is kept for reports, until it succeeds.

    Args:
        wait: for another process that works on the run, which is an error otherwise.
    """
    from skipdit_cli.generate.samples import generate as compute

    try:
        store = compute(
            run,
            options.root,
            device=options.device,
            workers=options.workers,
            weights_path=options.weights_path,
            offload=options.offload,
            previews=options.previews,
            stage=options.stage,
            wait=wait,
        )
    except SkipditError as error:
        if _of_the_run(error):
            failed.write_failure(options.root, run.key, failed.SAMPLES, reason=str(error))
        raise
    failed.clear_failure(options.root, run.key, failed.SAMPLES)
    return store


def _generate(run: Run, options: Options) -> str:
    """Generate a run; returns why it failed, or "" if it did not.

    Another sweep may share it, most often as its reference: then that one's samples are waited for.
    """
    try:
        generate(run, options, wait=True)
    except SkipditError as error:
        if not _of_the_run(error):
            raise
        return str(error)
    return ""


def _of_the_run(error: SkipditError) -> bool:
    """Whether an error concerns one run, and not the disk, the weights or the command line."""
    return error.exit_code == SkipditError.exit_code and not isinstance(error, StoreError)


def _score(run: Run, metrics: Sequence[str], options: Options) -> dict[str, Result]:
    """One metric after the other; one that fails does not take the others' numbers with it."""
    from skipdit_cli.score.measure import READERS, How, measure

    processes = options.workers if options.device == "cuda" else 1  # a CPU is busy with one
    how = How(device=options.device, workers=READERS, processes=processes)
    scores = {}
    with options.stage(f"scoring {run.model}, {run.cache.short}") as update:
        for metric in metrics:
            try:
                with memory_checked(None, scored=run.key):
                    result = measure(run, metric, root=options.root, how=how, progress=update)
            except StoreError:
                raise
            except SkipditError as error:
                result = not_scored(run, metric, error, root=options.root)
            scores[metric] = result
    return scores


def _time(runs: Sequence[Run], options: Options) -> dict[str, dict[str, Result]]:
    """Timings of all runs, by key; a group that cannot be timed does not take the others' along."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.reference.key, []).append(run)
    timings: dict[str, dict[str, Result]] = {}
    for group in groups.values():
        try:
            timings |= time_together(group, options)
        except SkipditError as error:
            if not _of_the_run(error):
                raise
            for run in group:
                failed.write_failure(options.root, run.key, failed.TIMING, reason=str(error))
                timings[run.key] = {
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
    return timings
