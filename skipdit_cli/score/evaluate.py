"""Evaluate: score samples that are there, run after run and metric after metric.

A score that fails does not take the others with it, and why it failed is kept for reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from skipdit_cli import registry
from skipdit_cli.errors import IncompleteError, SkipditError, StoreError, UsageError, warn
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.options import Stage
from skipdit_cli.score import applicable
from skipdit_cli.score.measure import READERS, How, measure, measure_outside, unscored
from skipdit_cli.score.outside import Outside
from skipdit_cli.storage import failures, npz
from skipdit_cli.storage.store import open_store

if TYPE_CHECKING:
    from skipdit_cli.run import Run
    from skipdit_cli.storage.results import Result

Subject = TypeVar("Subject")

__all__ = ["READERS", "How", "Scores", "evaluate", "evaluate_outside", "not_scored", "write_npz"]


@dataclass(frozen=True)
class Scores(Generic[Subject]):
    """What came of scoring several runs, or what other tools made.

    Attributes:
        results: each with what was scored, in the order in which they were made.
        errors: why others are missing, each said once though several metrics may have met it.
    """

    results: tuple[tuple[Subject, "Result"], ...]
    errors: tuple[SkipditError, ...]


def evaluate(
    jobs: Sequence[tuple["Run", Sequence[str]]],
    *,
    root: Path,
    how: How,
    stage: Stage,
    asked: Sequence[str] | None = None,
    strict: bool = True,
) -> "Scores[Run]":
    """Score runs by several metrics each.

    Args:
        jobs: runs, each with the metrics it is scored by where none are asked for.
        root: the results folder.
        how: device, threads, and what the samples are compared with.
        stage: opens a progress display; what it yields is called with (done, total).
        asked: the metrics that a user named, for all runs.
        strict: a metric that cannot score the samples is an error; else its result says so.
    Raises:
        UsageError: a metric that was asked for cannot score the samples of a model.
        StoreError: the disk.
    """
    for card in dict.fromkeys(run.card for run, _ in jobs):
        for name in asked or ():
            applicable.check(name, card, place="--metrics")
    scored: list[tuple[Run, Result]] = []
    later: dict[str, SkipditError] = {}  # errors by what they say: once for all metrics
    for run, own in jobs:
        try:
            open_store(root, run).require(run.num_samples)
        except IncompleteError as error:
            later[str(error)] = error
            continue
        for metric in asked or own:
            try:
                shown = stage(f"scoring {metric} of {run.model}, {run.cache}")
                with shown as update, memory_checked(None, scored=run.key):
                    result = measure(run, metric, root=root, how=how, progress=update)
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
                result = not_scored(run, metric, error, root=root)
                if not isinstance(error, UsageError):
                    later[str(error)] = error
                elif asked and strict:
                    raise
            scored.append((run, result))
    return Scores(tuple(scored), tuple(later.values()))


def evaluate_outside(
    jobs: Sequence[tuple[Outside, Sequence[str]]], *, root: Path, how: How, stage: Stage
) -> Scores[Outside]:
    """Score what other tools made, each by some metrics; lossy files of pairs are warned of.

    A score that fails does not take the others with it.

    Raises:
        StoreError: the disk.
    """
    for given, metrics in jobs:
        if any(registry.load("metrics", name).NEEDS == "pairs" for name in metrics):
            _warn_of_lossy(given)
    scored: list[tuple[Outside, Result]] = []
    later: dict[str, SkipditError] = {}  # errors by what they say: once for all metrics
    for given, metrics in jobs:
        place = given.samples.path
        for name in metrics:
            try:
                shown = stage(f"scoring {name} of {place}")
                with shown as update, memory_checked(None, scored=f"--samples {place}"):
                    result = measure_outside(given, name, root=root, how=how, progress=update)
            except StoreError:
                raise
            except SkipditError as error:
                later[str(error)] = error
            else:
                scored.append((given, result))
    return Scores(tuple(scored), tuple(later.values()))


def _warn_of_lossy(given: Outside) -> None:
    """Tell of samples and originals whose files lost detail when they were coded."""
    for source in (given.samples, given.originals):
        if source and (coded := source.lossy()):
            warn(
                f"{coded} loses detail, and decibels of PSNR with it",
                place=str(source.path),
                fix="where there are lossless files (PNG, FFV1, npz), score these",
            )


def write_npz(path: Path, runs: Sequence["Run"], *, root: Path) -> "Run":
    """Write the samples of the one run into an npz, and return the run.

    Raises:
        UsageError: there are several runs, or their samples are clips.
        IncompleteError: samples are missing.
    """
    if len(runs) != 1:
        raise UsageError(
            f"an npz holds one run, and these are {len(runs)}",
            place="--npz",
            fix="name one run by its key",
        )
    (run,) = runs
    npz.write_npz(path, open_store(root, run), run.num_samples)
    return run


def not_scored(run: "Run", metric: str, error: SkipditError, *, root: Path) -> "Result":
    """What stands for the result of a metric that failed; why is kept for reports."""
    result = unscored(run, metric, error)
    failures.write_failure(root, run.key, metric, reason=result.note)
    return result
