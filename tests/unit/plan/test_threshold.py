"""Closing in on a threshold, worked out by hand."""

import pytest

from skipdit_cli.plan.threshold import MOST, close_in


def steps(*thresholds):
    """The share that is left where each threshold that is passed saves a tenth."""
    return lambda threshold: 1 - sum(threshold > each for each in thresholds) / 10


def test_the_wanted_share_is_shut_in_from_both_sides():
    """From 0.1 up: 0.4 is too far. Between them 0.2 leaves 0.8, just what is wanted."""
    asked = []

    def share(threshold):
        asked.append(threshold)
        return steps(0.15, 0.19, 0.3)(threshold)

    tried = close_in(share, wanted=0.8, first=0.1, gap=0.1)
    assert tried == {0.1: 1.0, 0.4: pytest.approx(0.7), 0.2: pytest.approx(0.8)}
    assert asked == [0.1, 0.4, 0.2]  # each once


def test_the_search_goes_down_as_well():
    """1 and 0.25 save too much, 0.0156 and 0.0624 nothing, and 0.125 two tenths."""
    tried = close_in(steps(*[0.1] * 2, *[0.2] * 2), wanted=0.8, first=1, gap=0.1)
    assert list(tried) == [1, 0.25, 0.0156, 0.0624, 0.125]
    assert tried[0.125] == pytest.approx(0.8)


def test_between_two_that_part_by_one_step_none_is_tried():
    tried = close_in(steps(0.2), wanted=0.95, first=0.1, gap=0.1)
    assert list(tried) == [0.1, 0.4]


def test_what_cannot_be_reached_ends():
    assert list(close_in(lambda _: 0.7, wanted=0.5, first=0.1, gap=0.1)) == [*(0.1, 0.4, 6.4, 1640)]
    assert list(close_in(lambda _: 0.2, wanted=0.5, first=0.1, gap=0.1)) == [
        *(0.1, 0.025, 0.00156, 6.09e-06)
    ]
    tried = close_in(lambda each: 1.0 if each < 0.3 else 0.1, wanted=0.5, first=0.1, gap=1e-3)
    assert len(tried) <= MOST
    assert max(each for each in tried if each < 0.3) > 0.29
