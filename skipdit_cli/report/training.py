"""Training runs beside one another: their scores against steps, and steps to equal quality.

Runs that differ in their seed alone are one series, whose scores are means over the seeds with 95 %
intervals, Student's. Of every pair of series the level is the best mean score of the first, which
is the one without skip branches or else the one named first. The ratio of steps to equal quality is
the step at which the first has that level over the step at which the other is there first, with a
straight line between two scored steps.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from skipdit_cli import registry
from skipdit_cli.analyze.intervals import factor_interval, interval
from skipdit_cli.checkpoints import catalog
from skipdit_cli.checkpoints.folder import CARD
from skipdit_cli.errors import UsageError, unknown
from skipdit_cli.recipe import published
from skipdit_cli.report.names import numbered
from skipdit_cli.report.table import Heading, metric_heading
from skipdit_cli.score.certainty import Interval
from skipdit_cli.storage import training as storage
from skipdit_cli.storage.disk import read_json

NATIVE_SKIP = "hunyuan_dit"  # the family whose networks have long skips by design
PUBLISHED = "training"  # of results/published
PUBLISHED_METRIC = "fid"

Scores = tuple[tuple[int, float], ...]  # (step, score), in the order of steps


@dataclass(frozen=True)
class TrainingRun:
    """One run.

    Attributes:
        name: its folder, as it was given.
        scores: of the one metric that is looked at.
        losses: as logged.
        model: what is trained; "" where that is not told.
        asked: all that it was asked for but the seed, as text; "" where that is not told.
        seed: None where it is not told.
        skip: whether the model has skip branches.
        samples: how many were scored, every number that occurs.
    """

    name: str
    scores: Scores
    losses: Scores = ()
    model: str = ""
    asked: str = ""
    seed: int | None = None
    skip: bool = False
    samples: frozenset[int] = frozenset()

    @property
    def steps(self) -> int:
        """The last step that is logged or scored."""
        return max(step for step, _ in (*self.scores, *self.losses))


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
    """What is compared: a metric, the series in their order, and every pair of them."""

    heading: Heading
    series: tuple[Series, ...]
    pairs: tuple[EqualQuality, ...]
    source: str = ""


def compare(folders: Sequence[Path], metric: str | None = None) -> Training:
    """Read runs and compare them.

    Args:
        metric: by which; else the one by which all of them were scored.
    Raises:
        UsageError: a folder is no run or has no scores, or the metric is not clear.
        StoreError: what is there cannot be read.
    """
    found = {folder: _scores_of(folder) for folder in dict.fromkeys(folders)}
    chosen = _metric(found, metric)
    for folder, scores in found.items():
        if not any(each.metric == chosen for each in scores):
            there = ", ".join(sorted({each.metric for each in scores}))
            raise UsageError(
                f"no score by {chosen}, but by {there}", place=str(folder), fix=_to_score(chosen)
            )
    runs = [_run(folder, scores, chosen) for folder, scores in found.items()]
    return _compared(_in_series(runs), metric_heading(chosen))


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


def _scores_of(folder: Path) -> list[storage.Scored]:
    """The scores with a value that a run has; UsageError if there are none."""
    if not folder.is_dir():
        what = "is a file, not the folder of a run" if folder.exists() else "no such folder"
        fix = "name the folder of a training, as results/train/NAME"
        raise UsageError(what, place=str(folder), fix=fix)
    scores = storage.scored(folder)
    if not scores and not storage.logged(folder) and not (folder / storage.RECORD).exists():
        fix = "name the folder of a training, as results/train/NAME"
        raise UsageError("is not the folder of a training", place=str(folder), fix=fix)
    valued = [each for each in scores if each.value is not None]
    if not valued:
        what = "no score has a value" if scores else "it was not scored while it was trained"
        raise UsageError(what, place=str(folder), fix=_to_score("fid@digits"))
    return valued


def _to_score(metric: str) -> str:
    return f"give --eval {metric} --eval-every 200 to skipdit train"


def _metric(found: Mapping[Path, Sequence[storage.Scored]], asked: str | None) -> str:
    """The metric that is looked at; UsageError if it is not clear, or not known here."""
    there = [{each.metric for each in scores} for scores in found.values()]
    shared, every = set.intersection(*there), sorted(set.union(*there))
    if asked is None:
        if len(shared) != 1:
            how = "by several metrics" if shared else "by no metric that all have"
            fix = f"give --metric, one of {', '.join(sorted(shared) or every)}"
            raise UsageError(f"the runs were scored {how}", place="--metric", fix=fix)
        [asked] = shared
    elif asked not in every:
        raise unknown("score", asked, every, place="--metric")
    if not registry.known("metrics", asked):
        fix = "install the package that has it"
        raise UsageError(f"{asked} is no metric here", place="--metric", fix=fix)
    return asked


def _run(folder: Path, scores: Iterable[storage.Scored], metric: str) -> TrainingRun:
    """A run as it stands in its folder."""
    asked = dict(storage.settings(folder))
    model, seed = str(asked.get("model", "")), asked.pop("seed", None)
    of_metric = [each for each in scores if each.metric == metric]
    losses = ((each.step, each.loss) for each in storage.logged(folder))
    return TrainingRun(
        name=str(folder),
        scores=tuple((each.step, each.value) for each in of_metric if each.value is not None),
        losses=tuple((step, loss) for step, loss in losses if loss is not None),
        model=model,
        asked=json.dumps(asked, sort_keys=True) if asked else "",
        seed=seed if isinstance(seed, int) else None,
        skip=_has_skip(folder, model),
        samples=frozenset(each.samples for each in of_metric if each.samples is not None),
    )


def _has_skip(folder: Path, model: str) -> bool:
    """Whether a model has skip branches, by the card in its folder or that of its name."""
    fix = "move it away, and the model is known by its name alone"
    said = read_json(folder / CARD, dict, what="card of a model", fix=fix)
    if said is None:
        card = catalog.cards().get(model)
        return card is not None and (card.skip or card.native_skip)
    return said.get("skip") is True or said.get("family") == NATIVE_SKIP


def _in_series(runs: Sequence[TrainingRun]) -> list[Series]:
    """Runs by what they were asked for, each series with a name of its own.

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
            fix = "train them with the same --eval-every"
            raise UsageError("no step at which all seeds have a score", place=both, fix=fix)
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
