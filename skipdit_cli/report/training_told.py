"""The comparison of training runs as Markdown, as CSV and for programs."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tabulate import tabulate

from skipdit_cli.report import cells
from skipdit_cli.report.table import Heading
from skipdit_cli.report.training import LOSS, EqualQuality, Point, Series, Training
from skipdit_cli.score.certainty import Interval
from skipdit_cli.storage.markup import in_cell, plain
from skipdit_cli.storage.spreadsheet import csv_text

COLUMNS = ("step", "run", "metric", "value", "low", "high")
SEEDS = (
    "In brackets: the 95 % interval over seeds (Student's t), of a mean score and of the ratio of "
    "a seed."
)
RATIO = (
    "Steps to equal quality: the step of the best score of one run over the step at which the "
    "other is as good for the first time, on a straight line between two scored steps."
)


def title(found: Training) -> str:
    """What is compared."""
    return found.source or f"{found.heading.label} against training steps"


def to_markdown(found: Training) -> str:
    """The table, a line for every pair, and what the numbers mean; it ends in a line end."""
    rows = [[in_cell(text) for text in _row(each, found.heading)] for each in found.series]
    score = cells.heading(found.heading)
    heads = ["run", "seeds", "steps", f"last {score}", f"best {score}", "at step"]
    table = tabulate(
        rows,
        headers=[in_cell(text) for text in heads],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=("left", "left", *["right"] * 4),
    )
    said = [sentence(each, found.heading) for each in found.pairs]
    said += [RATIO] if found.pairs else []
    said += [SEEDS] if any(len(each.runs) > 1 for each in found.series) else []
    said += [found.remark] if found.remark else []
    parts = [f"# {plain(title(found))}", table]
    parts += ["\n".join(f"- {plain(text)}" for text in said)] if said else []
    return "\n\n".join(parts) + "\n"


def sentence(pair: EqualQuality, heading: Heading) -> str:
    """What is known of the steps to equal quality of a pair."""
    value = cells.number(pair.level, heading.decimals)
    level = f"{heading.label} {value}, the best of {pair.first} (step {steps(pair.first_steps)})"
    if pair.state == "not compared":
        return f"{level}: no ratio to {pair.other}, for {pair.remark}."
    if pair.state == "not reached":
        return f"{level}: not reached by {pair.other}."
    division = f"{steps(pair.first_steps)} / {steps(pair.scored_steps or 0)}"
    by_scores = f"{division} = {pair.scored_ratio:.2f}x" if pair.scored_ratio else ""
    if pair.ratio is None or pair.other_steps is None:
        least = f": at least {by_scores}" if by_scores else ", before it is trained"
        return f"{level}: {pair.other} is there at its first score{least}."
    sure = _within(pair.interval, 2) or (f" ({pair.remark})" if pair.remark else "")
    ratio = f"{steps(pair.first_steps)} / {steps(pair.other_steps)} = {pair.ratio:.2f}x"
    return f"{level}: {ratio}{sure} for {pair.other}; {by_scores} by its scored steps alone."


def steps(count: float) -> str:
    """A number of steps, for people.

    >>> steps(1283018.87), steps(12.5)
    ('1,283,019', '12.5')
    """
    return f"{count:,.0f}" if count >= 100 else f"{count:.3g}"


def to_csv(found: Training) -> str:
    """A line for every score and every loss, of a series of several seeds also of each of them."""
    lines: list[tuple[Any, ...]] = [COLUMNS]
    for series in found.series:
        for metric, name, points in _curves(series, found.heading.metric):
            lines += [
                (
                    each.step,
                    name,
                    metric,
                    *map(_text, (each.value, *(each.interval or (None,) * 2))),
                )
                for each in points
            ]
    return csv_text(lines)


def record(found: Training) -> dict[str, Any]:
    """The table and its pairs for programs."""
    return {
        "metric": found.heading.metric,
        "unit": found.heading.unit,
        "better": found.heading.better,
        "source": found.source,
        "remark": found.remark,
        "runs": [
            {
                "name": each.name,
                "folders": [run.name for run in each.runs],
                "model": each.runs[0].model,
                "skip": each.skip,
                "seeds": list(each.seeds),
                "samples": sorted(each.samples),
                "steps": max(run.steps for run in each.runs),
                "last": asdict(each.scores[-1]),
                "best": asdict(each.best(found.heading.better)),
                "scores": [asdict(point) for point in each.scores],
            }
            for each in found.series
        ],
        "steps_to_equal_quality": [asdict(each) for each in found.pairs],
    }


def _row(series: Series, heading: Heading) -> tuple[str, ...]:
    best = series.best(heading.better)
    last = max(run.steps for run in series.runs)
    seeds = ", ".join(map(str, series.seeds)) or cells.DASH
    shown = (_score(each, heading) for each in (series.scores[-1], best))
    return (series.name, seeds, steps(last), *shown, steps(best.step))


def _score(point: Point, heading: Heading) -> str:
    shown = cells.number(point.value, heading.decimals)
    return f"{shown}{_within(point.interval, heading.decimals)}"


def _within(ends: Interval | None, decimals: int) -> str:
    return f" ({ends[0]:.{decimals}f} to {ends[1]:.{decimals}f})" if ends else ""


def _curves(series: Series, metric: str) -> Iterator[tuple[str, str, tuple[Point, ...]]]:
    """(metric, name, points) of the means of a series, and of each of its seeds."""
    yield metric, series.name, series.scores
    yield LOSS, series.name, series.losses
    for run in series.runs if len(series.runs) > 1 else ():
        name = f"{series.name}, seed {run.seed}"
        yield metric, name, tuple(Point(*each) for each in run.scores)
        yield LOSS, name, tuple(Point(*each) for each in run.losses)


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:.10g}"
