"""Training runs beside one another: their scores against steps, and steps to equal quality.

Runs that differ in their seed alone are one series, whose scores are means over the seeds with 95 %
intervals, Student's. Of every pair of series the level is the best mean score of the first, which
is the one without skip branches or else the one named first. The ratio of steps to equal quality is
the step at which the first has that level over the step at which the other is there first, with a
straight line between two scored steps.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from skipdit_cli.analyze.intervals import factor_interval, interval
from skipdit_cli.errors import UsageError
from skipdit_cli.recipe import published
from skipdit_cli.report import training_runs
from skipdit_cli.report.names import numbered
from skipdit_cli.report.table import Heading, metric_heading
from skipdit_cli.report.training_runs import Scores, TrainingRun, to_score
from skipdit_cli.score.certainty import Interval

LOSS = "loss"
LOSS_HEADING = Heading(LOSS, LOSS, LOSS, better="lower", decimals=4)
PUBLISHED = "training"  # of results/published
PUBLISHED_METRIC = "fid"


@dataclass(frozen=True)
class Point:
    """The mean of a series at a step, and its interval where there are several seeds."""

    step: int
    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Series:
    """Runs that differ in their seed alone; one or more."""

    name: str
    runs: tuple[TrainingRun, ...]

    @property
    def skip(self) -> bool:
        return self.runs[0].skip

    @property
    def samples(self) -> frozenset[int]:
        return frozenset[int]().union(*(run.samples for run in self.runs))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds; those that are known."""
        return tuple(sorted(run.seed for run in self.runs if run.seed is not None))

    @cached_property
    def scores(self) -> tuple[Point, ...]:
        return mean([run.scores for run in self.runs])

    @cached_property
    def losses(self) -> tuple[Point, ...]:
        return mean([run.losses for run in self.runs])

    def best(self, better: str) -> Point:
        """The first of the best scores."""
        return min(self.scores, key=lambda point: _sign(better) * point.value)


@dataclass(frozen=True)
class EqualQuality:
    """How many steps two series take to the level that is the best of the first.

    Attributes:
        first, other: names of the series.
        state: "reached", "at first score" (it is there already, so that the ratio is the least that
            it can be), "not reached", or "not compared".
        level: the best mean score of the first.
        first_steps: when it has it.
        other_steps: when the other is there, between two scored steps.
        scored_steps: the first scored step at which the other is there.
        ratio: first_steps over other_steps. scored_ratio: over scored_steps; never above `ratio`.
        interval: 95 % interval of the geometric mean of the ratios of the seeds.
        remark: why they are not compared, or there is no interval though there are seeds.
    """

    first: str
    other: str
    state: str
    level: float
    first_steps: int
    other_steps: float | None = None
    scored_steps: int | None = None
    ratio: float | None = None
    scored_ratio: float | None = None
    interval: Interval | None = None
    remark: str = ""


@dataclass(frozen=True)
class Training:
    """What is compared: a metric, the series in their order, and every pair of them.

    Attributes:
        source: of numbers that are not our own. remark: what is to be known of them beside.
    """

    heading: Heading
    series: tuple[Series, ...]
    pairs: tuple[EqualQuality, ...]
    source: str = ""
    remark: str = ""

    @property
    def of_losses(self) -> bool:
        """Whether these are losses, of runs that were not scored."""
        return self.heading is LOSS_HEADING


def compare(folders: Sequence[Path], metric: str | None = None) -> Training:
    """Read runs and compare them; where none has a score, their losses stand beside one another.

    Args:
        metric: by which; else the one by which all of them were scored.
    Raises:
        UsageError: a folder is no run or has no scores though others have, or the metric is not
            clear.
        StoreError: what is there cannot be read.
    """
    runs, chosen = training_runs.read(folders, metric)
    if chosen is None:
        remark = f"There are no scores, and losses say little of samples: {to_score()}."
        return Training(LOSS_HEADING, tuple(_in_series(runs, "--log-every")), (), remark=remark)
    return _compared(_in_series(runs, "--eval-every"), metric_heading(chosen))


def of_paper() -> Training:
    """The curves that the paper draws, compared in the same way."""
    lines = published.lines(PUBLISHED)
    names = dict.fromkeys(line["model"] for line in lines)
    series = [
        Series(
            name,
            (
                TrainingRun(
                    name,
                    tuple(
                        (int(line["steps"]), float(line[PUBLISHED_METRIC]))
                        for line in lines
                        if line["model"] == name
                    ),
                    skip=name.startswith("Skip"),
                ),
            ),
        )
        for name in names
    ]
    return _compared(series, metric_heading(PUBLISHED_METRIC), source=lines[0]["source"])


def mean(curves: Sequence[Scores]) -> tuple[Point, ...]:
    """The mean of curves at the steps that all of them have.

    >>> mean([((10, 4.0), (20, 1.0)), ((10, 2.0),)])[0].value
    3.0
    """
    by_step = [dict(curve) for curve in curves]
    shared = sorted(set(by_step[0]).intersection(*by_step[1:]))
    at = [(step, np.array([curve[step] for curve in by_step])) for step in shared]
    return tuple(Point(step, float(values.mean()), interval(values)) for step, values in at)


def reached(scores: Iterable[tuple[int, float]], level: float, better: str) -> float | None:
    """The step at which scores are first at a level or better; None if they never are.

    >>> reached([(100, 8.0), (200, 4.0)], 5.0, "lower"), reached([(100, 8.0)], 5.0, "lower")
    (175.0, None)
    """
    before: tuple[int, float] | None = None
    for step, value in scores:
        if _sign(better) * (value - level) <= 0:
            if before is None:
                return float(step)
            share = (before[1] - level) / (before[1] - value)
            return before[0] + share * (step - before[0])
        before = step, value
    return None


def equal_quality(first: Series, other: Series, better: str) -> EqualQuality:
    """How many steps the other series takes to the best of the first."""
    best = first.best(better)
    found = _by_curves(first, other, [(p.step, p.value) for p in other.scores], best, better)
    if found.ratio is None:
        return found
    ratios, remark = _ratios_of_seeds(first, other, better)
    ends = factor_interval(np.array(ratios)) if len(ratios) > 1 else None
    return replace(found, interval=ends, remark=remark)


def _by_curves(
    first: Series, other: Series, scores: Sequence[tuple[int, float]], best: Point, better: str
) -> EqualQuality:
    """The ratio of one pair of curves, or why there is none."""

    def found(state: str, **more: Any) -> EqualQuality:
        return EqualQuality(first.name, other.name, state, best.value, best.step, **more)

    if len(samples := first.samples | other.samples) > 1:
        counts = " and of ".join(map(str, sorted(samples)))
        return found("not compared", remark=f"scores are of {counts} samples")
    if best.step == 0:
        return found("not compared", remark=f"{first.name} is best before it is trained")
    step = reached(scores, best.value, better)
    if step is None:
        return found("not reached")
    scored = next(at for at, value in scores if _sign(better) * (value - best.value) <= 0)
    numbers: dict[str, Any] = {"scored_steps": scored}
    numbers |= {"scored_ratio": best.step / scored} if scored else {}
    if scored == scores[0][0]:
        return found("at first score", **numbers)
    return found("reached", other_steps=step, ratio=best.step / step, **numbers)


def _ratios_of_seeds(first: Series, other: Series, better: str) -> tuple[list[float], str]:
    """The ratio of every seed that both have, or none and why, where there are several seeds."""
    if min(len(first.runs), len(other.runs)) < 2:
        return [], ""
    if first.seeds != other.seeds or len(first.seeds) < len(first.runs):
        return [], "no interval: the seeds are not the same"
    ratios = []
    for seed in first.seeds:
        one, two = (_of_seed(each, seed) for each in (first, other))
        found = _by_curves(one, two, two.runs[0].scores, one.best(better), better)
        if found.ratio is None:
            return [], f"no interval: seed {seed} has no ratio ({found.state})"
        ratios.append(found.ratio)
    return ratios, ""


def _of_seed(series: Series, seed: int) -> Series:
    return Series(series.name, tuple(run for run in series.runs if run.seed == seed))


def _sign(better: str) -> int:
    return 1 if better == "lower" else -1


def _compared(series: Sequence[Series], heading: Heading, *, source: str = "") -> Training:
    pairs = [
        (two, one) if one.skip and not two.skip else (one, two)
        for one, two in combinations(series, 2)
    ]
    found = tuple(equal_quality(*pair, heading.better) for pair in pairs)
    return Training(heading, tuple(series), found, source)


def _in_series(runs: Sequence[TrainingRun], every: str) -> list[Series]:
    """Runs by what they were asked for, each series with a name of its own.

    Args:
        every: the option that says at which steps they have numbers.

    Raises:
        UsageError: two runs are the same, or seeds share no step.
    """
    groups: dict[str, list[TrainingRun]] = {}
    for run in runs:
        alone = not run.asked or run.seed is None
        groups.setdefault(f"folder {run.name}" if alone else run.asked, []).append(run)
    for group in groups.values():
        seen: dict[int | None, str] = {}
        for run in group:
            if run.seed in seen:
                same = f"is the same training as {seen[run.seed]}, seed {run.seed}"
                raise UsageError(same, place=run.name, fix="give one of them")
            seen[run.seed] = run.name
        if not mean([run.scores for run in group]):
            both = ", ".join(run.name for run in group)
            fix = f"train them with the same {every}"
            raise UsageError("no step of which all seeds have a number", place=both, fix=fix)
    names = _names([*groups.values()])
    return [Series(*each) for each in zip(names, map(tuple, groups.values()), strict=True)]


def _names(groups: Sequence[Sequence[TrainingRun]]) -> list[str]:
    """The shortest name of each group that no other has: its model, its folder, or its path."""
    firsts = [group[0] for group in groups]
    models, folders = [run.model for run in firsts], [Path(run.name).name for run in firsts]
    chosen = []
    for run, model, folder in zip(firsts, models, folders, strict=True):
        if model and models.count(model) == 1:
            chosen.append(model)
        else:
            chosen.append(folder if folders.count(folder) == 1 else run.name)
    return numbered(chosen)
