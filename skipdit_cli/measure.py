"""Scores: one metric of one run's samples, kept on disk until either of them changes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from skipdit_cli import provenance, registry, results, weights
from skipdit_cli.errors import IncompleteError, MissingAssetError, UsageError
from skipdit_cli.results import Result
from skipdit_cli.store import Store, open_store

if TYPE_CHECKING:
    from skipdit_cli.plan import Run

Progress = Callable[[int, int], None]  # samples done, samples in all

RESAMPLES = 1000
COVERAGE = 0.95


def check(metric: str, model: str, *, place: str = "") -> None:
    """Raise a UsageError unless a metric is known and can score the samples of a model."""
    card, module = weights.card(model), registry.load("metrics", metric, place=place)
    if card.task not in module.TASKS or (metric.endswith("@digits") and not card.embedded):
        raise UsageError(
            f"{metric} cannot score samples of {model}",
            place=place,
            fix=f"take one of {', '.join(fitting(model))}",
        )


def fitting(model: str) -> list[str]:
    """The metrics that can score the samples of a model."""
    card = weights.card(model)
    return [
        name
        for name in registry.names("metrics")
        if card.task in registry.load("metrics", name).TASKS
        and (card.embedded or not name.endswith("@digits"))
    ]


def measure(run: "Run", metric: str, *, root: Path, progress: Progress | None = None) -> Result:
    """Score the first `run.num_samples` samples of a run, or find that this was done already.

    A result on disk counts if metric version, number of samples and the samples themselves are the
    same. Without the weights a metric needs, the result has no value and is not kept.

    Args:
        run: the run; a metric of pairs compares it with `run.reference`.
        metric: name of a metric.
        root: the results folder.
        progress: called after every sample that is scored.

    Raises:
        UsageError: the metric is unknown, or cannot score samples of this kind.
        IncompleteError: samples of the run or its reference are missing; they are named.
        StoreError: the disk, or a result file on it that is none.
    """
    module, n = registry.load("metrics", metric), run.num_samples
    reference = run.reference if module.NEEDS == "pairs" else None
    result = Result(
        metric=metric,
        value=None,
        unit=module.UNIT,
        n=n,
        run=run.key,
        reference=reference.key if reference else None,
        version=module.VERSION,
    )
    if reference and reference.key == run.key:
        return replace(result, status="reference", note="what the other runs are compared with")

    samples = open_store(root, run)
    samples.require(n)
    originals = _reference_samples(root, reference, n=n) if reference else None
    result = replace(result, inputs=_digest(samples, originals, n=n))
    known = results.load(root, run.key, metric)
    if known and (known.version, known.n, known.inputs) == (result.version, n, result.inputs):
        return known

    try:
        if originals:
            scores = _pair_scores(module, samples, originals, n=n, progress=progress)
            spread, interval = _uncertainty(scores)
            result = replace(result, value=float(scores.mean()), spread=spread, interval=interval)
        else:
            result = replace(result, value=_set_score(module, samples, n=n, progress=progress))
    except MissingAssetError as error:
        return replace(result, status="needs weights", note=str(error))
    result = replace(result, provenance=provenance.collect())
    results.save(root, result)
    return result


def _reference_samples(root: Path, reference: "Run", *, n: int) -> Store:
    store = open_store(root, reference)
    try:
        store.require(n)
    except IncompleteError as error:
        raise IncompleteError(
            f"the uncached reference is not complete: {error.problem}",
            place=error.place,
            fix="make the same samples with --cache none first",
        ) from None
    return store


def _digest(*stores: Store | None, n: int) -> str:
    hashes = [store.hashes(n) for store in stores if store]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _pair_scores(
    module: ModuleType, samples: Store, originals: Store, *, n: int, progress: Progress | None
) -> np.ndarray:
    scores = np.zeros(n)
    for i in range(n):
        try:
            scores[i] = module.score(originals.read(i), samples.read(i))
        except UsageError as error:
            place = f"{samples.path} sample {i}, {module.NAME}"
            raise UsageError(error.problem, place=place, fix=error.fix) from None
        if progress:
            progress(i + 1, n)
    return scores


def _set_score(module: ModuleType, samples: Store, *, n: int, progress: Progress | None) -> float:
    def read() -> Iterator[np.ndarray]:
        for i in range(n):
            yield samples.read(i)
            if progress:
                progress(i + 1, n)

    try:
        return module.score_set(read(), (samples.meta(i) for i in range(n)))
    except UsageError as error:
        raise UsageError(error.problem, place=str(samples.path), fix=error.fix) from None


def _uncertainty(scores: np.ndarray) -> tuple[float | None, tuple[float, float] | None]:
    """Standard deviation (ddof 1) and percentile bootstrap interval of the mean; None for one."""
    n = len(scores)
    if n < 2:
        return None, None
    random = np.random.default_rng(0)  # the same scores give the same interval
    means = [scores[random.integers(n, size=n)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(scores.std(ddof=1)), (float(low), float(high))
