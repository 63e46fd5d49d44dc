"""Evaluate: score samples that are there, run after run and metric after metric.

A score that fails does not take the others with it, and why it failed is kept for reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli.errors import IncompleteError, SkipditError, StoreError, UsageError
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.options import Stage
from skipdit_cli.score import applicable
from skipdit_cli.score.measure import READERS, How, measure, measure_npz, unscored
from skipdit_cli.storage import failures, npz
from skipdit_cli.storage.store import open_store

if TYPE_CHECKING:
    from skipdit_cli.run import Run
    from skipdit_cli.storage.results import Result

__all__ = ["READERS", "How", "Scores", "evaluate", "evaluate_npz", "not_scored", "write_npz"]


@dataclass(frozen=True)
class Scores:
    """What came of scoring several runs.

    Attributes:
        results: each with its run, in the order in which they were made.
        errors: why others are missing, each said once though several metrics may have met it.
    """

    results: tuple[tuple["Run", "Result"], ...]
    errors: tuple[SkipditError, ...]


def evaluate(
    jobs: Sequence[tuple["Run", Sequence[str]]],
    *,
    root: Path,
    how: How,
    stage: Stage,
    asked: Sequence[str] | None = None,
    strict: bool = True,
) -> Scores:
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


def evaluate_npz(
    path: Path, *, root: Path, how: How, stage: Stage, asked: Sequence[str] | None = None
) -> "list[Result]":
    """Score the images of an npz, by all metrics that can or by those that were asked for.

    Raises:
        UsageError: the file holds no images, or a metric cannot score an npz.
    """
    scores = []
    for name in asked or applicable.to_npz():
        shown = stage(f"scoring {name} of {path}")
        with shown as update, memory_checked(None, scored=f"--npz {path}"):
            scores.append(measure_npz(path, name, root=root, how=how, progress=update))
    return scores


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
