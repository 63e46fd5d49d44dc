"""Is one better than another: runs that begin with the same noise, compared sample by sample."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.cache import NONE
from skipdit_cli.errors import UsageError
from skipdit_cli.score.certainty import SURE, Difference, holm, paired
from skipdit_cli.storage import results
from skipdit_cli.storage.store import keys, read_run

if TYPE_CHECKING:
    from skipdit_cli.run import Run
    from skipdit_cli.storage.results import Result

METRICS = ("psnr", "ssim")
ALIKE = ("seed", "seeds", "classes", "prompts")  # what gives samples of one index noise and subject
_CODE = ("versions", "weights", "num_samples", "names", "batch_size")  # may part two folders' runs


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric of two runs.

    Attributes:
        metric, unit: what was compared, and the unit of the means and their difference.
        first, second: what the two are called.
        means: over the samples that both have.
        difference: the first's scores minus the second's.
        p_holm: its p, adjusted for all comparisons that were made together.
        better: "first" or "second" where the adjusted p is below 0.05 and the metric says which
            direction is better, else "".
    """

    metric: str
    unit: str
    first: str
    second: str
    means: tuple[float, float]
    difference: Difference
    p_holm: float = 1.0
    better: str = ""


def beside(chosen: "Sequence[Run]") -> "list[Run]":
    """The runs, those without a cache that have fewer steps than the reference of another as
    compared with that one, as the tables of sweeps compare them."""
    references = {run.reference.key: run.reference for run in chosen if run.cache.name != NONE}
    return [_beside(run, references) for run in chosen]


def _beside(run: "Run", references: "Mapping[str, Run]") -> "Run":
    if run.cache.name != NONE or run.key in references:
        return run
    for key, reference in references.items():
        fewer = replace(run, reference_steps=reference.steps)
        if fewer.reference.key == key and len(run.timesteps) < len(reference.timesteps):
            return fewer
    return run


def compare(
    chosen: "Sequence[Run]",
    metrics: Sequence[str],
    scored: "Callable[[Run, str], Result]",
) -> list[Comparison]:
    """Every two of several runs in every metric.

    Args:
        metrics: names, of metrics that score samples one by one.
        scored: gives the score of a run.
    Raises:
        UsageError: the runs do not pair, or a metric scores a set as a whole.
    """
    names = called(chosen)
    for name in metrics:
        if registry.load("metrics", name).NEEDS in ("set", "prompted"):
            raise UsageError(
                f"{name} scores a set as a whole, so that no samples pair",
                place="--metric",
                fix="take one that scores samples, as psnr or ssim",
            )
    for first, second in combinations(chosen, 2):
        _check_alike(first.to_dict(), second.to_dict(), names[first.key], names[second.key])
    pairs = []
    for name in metrics:
        for first, second in combinations(chosen, 2):
            both = scored(first, name), scored(second, name)
            pairs.append(_pair(both, names[first.key], names[second.key]))
    return _judged(pairs)


def compare_folders(old: Path, new: Path, metrics: Sequence[str]) -> list[Comparison]:
    """The runs that two results folders have in common, whatever code made them.

    Args:
        metrics: those compared; all that were scored in both, where empty.
    Raises:
        UsageError: there is no run and metric with scores of samples in both.
    """
    before, after = (
        {subject(read_run(root, key).get("run", {})): key for key in keys(root)}
        for root in (old, new)
    )
    pairs = []
    for of, key in before.items():
        if of not in after:
            continue
        here = (old / "scores" / key).glob("*.json"), (old / "scores" / key).glob("series/*-n*/*")
        for name in sorted({path.stem for paths in here for path in paths}):
            if metrics and name not in metrics:
                continue
            both = known(old, key, name), known(new, after[of], name)
            for against, first in both[0].items():
                second = both[1].get(against)
                if second and first.of_samples and second.of_samples:
                    label = dict(of)["cache"] + against
                    pairs.append(_pair((first, second), f"{old}: {label}", f"{new}: {label}"))
    if not pairs:
        raise UsageError(
            f"no run is scored sample by sample in both {old} and {new}",
            place="skipdit compare",
            fix="score the same runs in both, or name runs of one folder",
        )
    return _judged(pairs)


def known(root: Path, key: str, metric: str) -> "dict[str, Result]":
    """What is known of a run (its key) in a metric, by what it is compared with.

    That is "" for its own reference, and ", against 50 steps" for an uncached run of more steps.

    Raises:
        StoreError: the disk cannot be read.
    """
    own = results.read_result(root, key, metric)
    found = {"": own} if own else {}
    for reference, result in results.besides(root, key, metric).items():
        made = read_run(root, reference).get("run", {})
        found[f", against {made.get('steps', reference)} steps"] = result
    return found


def called(chosen: "Sequence[Run]") -> dict[str, str]:
    """What each run is called beside the others: its cache, and its model if they differ."""
    several = len({run.model for run in chosen}) > 1
    names = {}
    for run in chosen:
        fewer = f", {len(run.timesteps)} steps" if run.reference_steps else ""
        names[run.key] = f"{run.model} " * several + run.cache.short + fewer
    twice = len(set(names.values())) < len(names)
    return {key: f"{name} [{key[:6]}]" if twice else name for key, name in names.items()}


def subject(made: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What a run on disk is of, from its description, without what made it."""
    return tuple((name, str(value)) for name, value in sorted(made.items()) if name not in _CODE)


def _check_alike(first: dict[str, Any], second: dict[str, Any], a: str, b: str) -> None:
    for name in ALIKE:
        if first.get(name) != second.get(name):
            raise UsageError(
                f"{a} and {b} do not pair: their {name} differ", fix="make both with the same"
            )


def _pair(both: "tuple[Result, Result]", first: str, second: str) -> Comparison:
    for result, name in zip(both, (first, second), strict=True):
        if result.scores is None:
            why = result.note or "it has no scores of single samples"
            raise UsageError(f"{name} cannot be compared in {result.metric}: {why}")
    n = min(len(result.scores or ()) for result in both)
    a, b = ((result.scores or ())[:n] for result in both)
    return Comparison(
        metric=both[0].metric,
        unit=both[0].unit,
        first=first,
        second=second,
        means=(sum(a) / n, sum(b) / n),
        difference=paired(a, b),
    )


def _judged(pairs: list[Comparison]) -> list[Comparison]:
    """The comparisons, adjusted for one another."""
    adjusted = holm([pair.difference.p for pair in pairs])
    return [_with(pair, p) for pair, p in zip(pairs, adjusted, strict=True)]


def _with(pair: Comparison, p: float) -> Comparison:
    direction = registry.load("metrics", pair.metric).BETTER
    better = ""
    if p < SURE and direction:
        better = "first" if (pair.difference.mean > 0) == (direction == "higher") else "second"
    return replace(pair, p_holm=p, better=better)
