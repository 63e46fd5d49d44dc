"""Sweep: time, generate and score several caches against the uncached model.

The main job. All is timed before anything is generated, so that a sweep that is cut off has its
speedups; runs of one model follow each other, so that it is loaded once, and its references come
first. Every number is saved as soon as it is there, so that a killed sweep continues where it
stopped; a run that fails keeps its place in the table, with the reason, also in later reports.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from skipdit_cli.checkpoints import local
from skipdit_cli.errors import SkipditError, StoreError, of_run
from skipdit_cli.generate import conditioning, loaded, memory
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.options import Options
from skipdit_cli.plan import plan
from skipdit_cli.recipe import runs
from skipdit_cli.recipe.shape import Recipe
from skipdit_cli.run import Run
from skipdit_cli.score.evaluate import not_scored
from skipdit_cli.score.labels import labels
from skipdit_cli.score.timing import time_together
from skipdit_cli.storage import failures as failed
from skipdit_cli.storage import results
from skipdit_cli.storage.disk import check_writable
from skipdit_cli.storage.results import TIMED, Result
from skipdit_cli.storage.store import open_store

if TYPE_CHECKING:
    from skipdit_cli.generate.engine import Engine
    from skipdit_cli.storage.store import Store


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


def sweep(
    jobs: Sequence[tuple[Run, Sequence[str]]],
    options: Options,
    *,
    profile: Sequence[Run] = (),
    batch_size: int | None = None,
    begin: Callable[[], object] = lambda: None,
) -> list[SweepRow]:
    """Time runs and their references, generate them, and score them.

    Args:
        jobs: runs, each with the metrics it is scored by; its reference is scored by them as well.
        profile: runs to time, one batch each; by default those of the jobs.
        batch_size: of the jobs, where somebody chose it, and then of what is timed by default;
            else that is the batch that the paper times of each model, if it does.
        begin: called once nothing is in the way of the work.
    Returns:
        One row per run, references among them.
    Raises:
        SkipditError: whatever is wrong for all runs alike (weights, disk, usage).
    """
    for card in dict.fromkeys(run.card for run, _ in jobs):
        local.require(card, path=options.weights_path)
    ordered = with_references(run for run, _ in jobs)
    timed = {run.key: run if profile else timed_as(run, batch_size) for run in ordered}
    profile = profile or list(timed.values())
    for run in (*ordered, *profile):
        workers = options.engine.processes_here
        memory.require(run, device=options.device, workers=workers, offload=options.offload)
    for run in ordered:
        conditioning.require(run)
    check_writable(options.root)
    begin()
    asked: dict[str, dict[str, None]] = {run.key: {} for run in ordered}
    for run, metrics in jobs:
        for each in (run.reference, run):
            asked[each.key] |= dict.fromkeys(metrics)
    timings = _time(by_model(profile), options) if options.repeats else {}
    failures = {key: str(error) for key, error in _generate(by_model(ordered), options).items()}
    loaded.release()  # what scores needs the room
    scores: dict[str, dict[str, Result]] = {}
    for run in ordered:
        if run.key in failures or run.reference.key in failures:
            failures.setdefault(run.key, failed.OF_REFERENCE)
        else:
            scores[run.key] = _score(run, list(asked[run.key]), options)
    named = labels(ordered)
    return [
        SweepRow(
            label=named[run.key],
            run=run,
            plan_row=plan.plan(run, seen=plan.observed(run, options.root)),
            results=scores.get(run.key, {}) | timings.get(timed[run.key].key, {}),
            failure=failures.get(run.key, ""),
            timed_batch=timed[run.key].batch_size,
        )
        for run in ordered
    ]


def with_references(runs: Iterable[Run]) -> list[Run]:
    """Uncached references, then the other runs, each once.

    A run that others are compared with is in no other line as one of fewer steps.
    """
    runs = [*runs]
    references = dict.fromkeys(run.reference for run in runs)
    keys = {run.key for run in references}
    others = (run for run in runs if run.reference_steps is None or run.key not in keys)
    return list(dict.fromkeys([*references, *others]))


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


def generate(run: Run, options: Options) -> "Store":
    """Generate a run, with progress; why it fails is kept for reports, until it succeeds."""
    for error in _generate([run], options).values():
        raise error
    return open_store(options.root, run)


def _generate(runs: Sequence[Run], options: Options) -> dict[str, SkipditError]:
    """Generate runs; why some failed, by key, which is kept for reports."""
    from skipdit_cli.generate.samples import generate_all

    failures = generate_all(
        runs,
        options.root,
        device=options.device,
        engine=options.engine,
        weights_path=options.weights_path,
        offload=options.offload,
        previews=options.previews,
        stage=options.stage,
    )
    for run in runs:
        if error := failures.get(run.key):
            failed.write_failure(options.root, run.key, failed.SAMPLES, reason=str(error))
        else:
            failed.clear_failure(options.root, run.key, failed.SAMPLES)
    return failures


def _score(run: Run, metrics: Sequence[str], options: Options) -> dict[str, Result]:
    """One metric after the other; one that fails does not take the others' numbers with it."""
    from skipdit_cli.score.measure import READERS, How, measure

    how = How(device=options.device, workers=READERS, engine=scoring_engine(options))
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


def scoring_engine(options: Options) -> "Engine | None":
    """Where networks look at samples; None for here: the CPU of one machine is busy with one."""
    engine = options.engine
    busy = options.device == "cpu" and engine.processes_here > 0
    return None if busy or not engine.shared else engine


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
            if not of_run(error):
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
