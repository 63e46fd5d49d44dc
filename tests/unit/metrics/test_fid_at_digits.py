"""FID@digits on a toy classifier, by hand."""

import numpy as np
import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import fid_at_digits


def moments(mean, variance, sign=1):
    m, c = np.zeros(64), np.zeros((64, 64))
    m[:2] = mean, -mean
    c[:2, :2] = np.array([[1, -1], [-1, 1]]) * variance
    return m, c, 1000


def test_by_hand(embedded, grey):
    # features +-1, so mean 0 and, with ddof 1, variance 2; the toy has each feature twice
    embedded["digits"] = moments(3, 8)
    value = fid_at_digits.score_set([grey(0), grey(255)], [{}, {}])
    assert value == pytest.approx(2 * (3**2 + (np.sqrt(2) - np.sqrt(8)) ** 2), rel=1e-6)


def test_the_same_distribution_is_at_distance_zero(embedded, grey):
    levels = np.arange(0, 256, 3)
    scaled = levels / 127.5 - 1
    embedded["digits"] = moments(scaled.mean(), scaled.var(ddof=1))
    value = fid_at_digits.score_set((grey(level) for level in levels), [{}] * len(levels))
    assert value == pytest.approx(0, abs=1e-6)


def test_many_batches_count_like_one(embedded, grey):
    levels = np.random.default_rng(0).integers(0, 256, 200)
    scaled = levels / 127.5 - 1
    embedded["digits"] = moments(0, 0)
    value = fid_at_digits.score_set((grey(level) for level in levels), [{}] * len(levels))
    assert value == pytest.approx(2 * (scaled.mean() ** 2 + scaled.var(ddof=1)), rel=1e-5)


def test_one_sample_is_no_distribution(embedded, grey):
    embedded["digits"] = moments(0, 1)
    with pytest.raises(UsageError, match="take at least 2"):
        fid_at_digits.score_set([grey(0)], [{}])


def test_clips_are_refused(embedded, grey):
    with pytest.raises(UsageError, match="fid@digits cannot score a sample of 2 frames of 16x16"):
        fid_at_digits.score_set([np.stack([grey(0)] * 2)] * 2, [{}, {}])
