import itertools

import numpy as np
import pytest
from scipy.stats import ttest_ind

from skipdit_cli.score import certainty
from skipdit_cli.score.certainty import (
    holm,
    interval_of_mean,
    interval_of_median,
    intervals_of_means,
    paired,
)


@pytest.mark.parametrize(
    ("apart", "p"),
    [
        ([1, 2, 3], 2 / 8),  # of eight ways to choose signs, two make a mean of 2 or more
        ([1, 2, -3], 1),
        ([4, 2, 3, -1], 4 / 16),  # 8, and 10 of the four of 4, 2, 3, 1, and their mirrors
        ([5], 1),
        ([0, 0, 0], 1),
    ],
)
def test_p_of_few_pairs_is_counted(apart, p):
    assert paired(apart, [0] * len(apart)).p == pytest.approx(p)


def test_p_is_that_of_every_choice_of_signs():
    apart = np.random.default_rng(3).normal(0.4, 1, size=11)
    signs = np.array([*itertools.product((1, -1), repeat=11)])
    means = abs((signs * apart).mean(axis=1))
    counted = np.mean(means >= abs(apart.mean()) - 1e-12)
    assert paired(apart, np.zeros(11)).p == pytest.approx(counted)


def test_many_pairs_are_judged_as_those_that_are_counted(monkeypatch):
    apart = np.random.default_rng(4).normal(0.05, 1, size=1200)
    normal = paired(apart, np.zeros(1200)).p
    monkeypatch.setattr(certainty, "MANY", 10**9)
    assert paired(apart, np.zeros(1200)).p == pytest.approx(normal, abs=0.01)
    assert 0.01 < normal < 0.5


def test_pairs_tell_what_means_cannot():
    draw = np.random.default_rng(5)
    of_samples = draw.normal(25, 4, size=20)  # dB: some samples are easy and some are hard
    first, second = (of_samples + draw.normal(shift, 0.3, size=20) for shift in (0.5, 0))
    assert ttest_ind(first, second).pvalue > 0.5
    found = paired(first, second)
    assert found.p < 0.01
    assert found.interval[0] > 0
    assert found.mean == pytest.approx(first.mean() - second.mean())
    assert paired(second, first).mean == -found.mean


def test_the_interval_holds_the_mean_as_often_as_it_says():
    draw = np.random.default_rng(6)
    held = [
        low <= 3 <= high
        for low, high in (interval_of_mean(s) for s in draw.normal(3, 1, (200, 40)))
    ]
    assert 0.88 <= np.mean(held) <= 0.99


def test_one_pair_has_no_interval():
    assert paired([2.0], [1.0]).interval is None


@pytest.mark.parametrize("pairs", [([], []), ([1, 2], [1])])
def test_other_numbers_of_scores_do_not_pair(pairs):
    with pytest.raises(ValueError):
        paired(*pairs)


@pytest.mark.parametrize(
    ("ps", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5], [0.5]),
        ([0.9, 0.8], [1, 1]),
        ([0.01, 0.01, 0.01, 0.01], [0.04] * 4),
        ([], []),
    ],
)
def test_holm(ps, adjusted):
    assert holm(ps) == pytest.approx(adjusted)


@pytest.mark.parametrize(
    ("values", "interval"),
    [
        ((3.0,), None),
        ((2.0, 1.0), (1.0, 2.0)),
        ((5.0, 1.0, 3.0), (1.0, 5.0)),  # of fewer than six: their range
        (tuple(range(1, 7)), (1, 6)),  # both sides: 2 / 2**6 = 3.1 %
        (tuple(range(1, 9)), (1, 8)),  # without the ends it would be 2 * 9 / 2**8 = 7.0 %
        (tuple(range(1, 10)), (2, 8)),  # 2 * (1 + 9) / 2**9 = 3.9 %
        ((1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 100.0), (1.0, 1.0)),  # an outlier does not matter
    ],
)
def test_the_interval_of_a_median_lies_between_two_of_the_values(values, interval):
    assert interval_of_median(values) == interval


def test_intervals_of_several_means_are_those_of_each():
    scores = np.random.default_rng(5).normal(size=(20, 3))
    low, high = intervals_of_means(scores)
    each = [interval_of_mean(column) for column in scores.T]
    assert [*zip(low, high, strict=True)] == [pytest.approx(interval) for interval in each]
    assert intervals_of_means(scores[:1]) is None
