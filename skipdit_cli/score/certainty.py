"""How sure a number is: intervals of a mean over samples, and differences between paired samples.

Two runs of one seed begin with the same noise, sample by sample, so that most of what makes samples
differ from one another cancels in their differences: pairs tell apart what two means cannot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000  # of the bootstrap
COVERAGE = 0.95
FLIPS = 9999  # of signs, drawn; all of them where there are no more (13 samples)
SURE = 0.05  # p below which two are told apart, adjusted for all that are compared together
MANY = 1000  # pairs, from which the mean under flipped signs is as good as normal

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """What parts two runs in one metric, sample by sample.

    Attributes:
        mean: of the first run's scores minus the second's.
        interval: 95 % percentile bootstrap interval of that mean; None for one sample.
        p: of the sign-flip test, two-sided: how often signs drawn at random make a mean as large.
            Of MANY pairs it is that of the normal distribution with the same variance.
        n: pairs.
    """

    mean: float
    interval: Interval | None
    p: float
    n: int


def interval_of_mean(scores: np.ndarray) -> Interval | None:
    """95 % percentile bootstrap interval of the mean of scores [n]; None for fewer than two."""
    n = len(scores)
    if n < 2:
        return None
    random = np.random.default_rng(0)  # the same scores give the same interval
    means = [scores[random.integers(n, size=n)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def intervals_of_means(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """`interval_of_mean` of every column of scores [n, k], drawn together: low [k] and high [k]."""
    n = len(scores)
    if n < 2:
        return None
    random = np.random.default_rng(0)
    means = [scores[random.integers(n, size=n)].mean(axis=0) for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], axis=0)
    return low, high


def interval_of_median(values: Sequence[float]) -> Interval | None:
    """95 % interval of the median, whatever the distribution; None for fewer than two values.

    The bounds are two of the values themselves: between the k-th lowest and the k-th highest the
    median lies unless fewer than k fall on one side of it. Of fewer than six values no two are sure
    to 95 %, and all of their range is given.
    """
    from scipy.stats import binom

    n, ordered = len(values), sorted(values)
    if n < 2:
        return None
    k = max(1, int(binom.ppf((1 - COVERAGE) / 2, n, 0.5)))
    return ordered[k - 1], ordered[n - k]


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two runs' scores of the same samples, in the same order.

    Raises:
        ValueError: they are not as many, or none.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError("scores of the same samples, one or more, are compared")
    apart = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return Difference(float(apart.mean()), interval_of_mean(apart), sign_flip(apart), len(apart))


def sign_flip(apart: np.ndarray) -> float:
    """The p of differences [n], two-sided: how often signs drawn at random make a mean as large."""
    from scipy.stats import norm, permutation_test

    if len(apart) < 2 or not apart.any():
        return 1.0  # either sign makes a mean as large
    if len(apart) >= MANY:
        return float(2 * norm.sf(abs(apart.sum()) / np.sqrt((apart**2).sum())))
    test = permutation_test(
        (apart,),
        lambda values, axis: values.mean(axis=axis),
        permutation_type="samples",  # of one sample: signs are flipped
        vectorized=True,
        n_resamples=FLIPS,
        batch=1000,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """p values of several tests, adjusted so that all of them together err as one would.

    Source: Holm, A simple sequentially rejective multiple test procedure (1979).
    """
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = largest
    return adjusted
