"""Intervals of means of few values, and what they tell of models.

There are three directions or four samples, of which a bootstrap would be far too sure: the interval
is Student's.
"""

import functools
from collections.abc import Sequence

import numpy as np

from skipdit_cli.score.certainty import COVERAGE, Interval


def interval(values: np.ndarray) -> Interval | None:
    """95 % interval of the mean of values [n], Student's t; None for fewer than two."""
    n = len(values)
    if n < 2:
        return None
    middle = float(values.mean())
    off = float(_quantile(n) * values.std(ddof=1) / n**0.5)
    return middle - off, middle + off


@functools.cache
def _quantile(n: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + COVERAGE) / 2, n - 1))


def factor_interval(values: np.ndarray) -> Interval | None:
    """95 % interval of the geometric mean of positive values [n]; None for fewer than two."""
    found = interval(np.log(values))
    return (float(np.exp(found[0])), float(np.exp(found[1]))) if found else None


def band(intervals: Sequence[Interval | None]) -> tuple[list[float | None], list[float | None]]:
    """The lower and the upper ends of a band."""
    return [each and each[0] for each in intervals], [each and each[1] for each in intervals]


def apart(first: Interval | None, second: Interval | None) -> bool:
    """Whether two means are told apart: their intervals do not overlap."""
    return bool(first and second) and (first[1] < second[0] or second[1] < first[0])  # type: ignore[index]


def within(value: float, ends: Interval | None) -> str:
    """A mean and its interval, for people.

    >>> within(0.5, (0.25, 0.75))
    '0.5 (0.25 to 0.75)'
    """
    return f"{value:.3g}" + (f" ({ends[0]:.3g} to {ends[1]:.3g})" if ends else "")
