"""Frechet distance where it is known by hand, and statistics against numpy's."""

import numpy as np
import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import _frechet


def test_one_dimension():  # (m1 - m2)^2 + (s1 - s2)^2
    a, b = (np.array([1.0]), np.array([[4.0]])), (np.array([4.0]), np.array([[25.0]]))
    assert _frechet.distance(a, b) == pytest.approx(9 + 9)


def test_diagonal_covariances_add_up_by_dimension():
    a = np.array([0.0, 1.0]), np.diag([1.0, 9.0])
    b = np.array([2.0, 1.0]), np.diag([16.0, 4.0])
    assert _frechet.distance(a, b) == pytest.approx(4 + (1 - 4) ** 2 + (3 - 2) ** 2)


def test_covariances_that_do_not_commute():
    a = np.zeros(2), np.diag([4.0, 1.0])
    b = np.zeros(2), np.array([[2.0, 1.0], [1.0, 2.0]])
    # tr (AB)^1/2 = sqrt(tr AB + 2 sqrt(det AB)) for 2x2: AB = [[8,4],[1,2]], trace 10, det 12
    expected = 5 + 4 - 2 * np.sqrt(10 + 2 * np.sqrt(12))
    assert _frechet.distance(a, b) == pytest.approx(expected)
    assert _frechet.distance(b, a) == pytest.approx(expected)


def test_covariances_of_lower_rank():
    a = np.zeros(3), np.diag([4.0, 0.0, 0.0])
    b = np.zeros(3), np.diag([0.0, 9.0, 0.0])
    assert _frechet.distance(a, b) == pytest.approx(13)  # they share no direction
    assert _frechet.distance(a, a) == 0


@pytest.mark.parametrize("direction", [(1, 2, 2), (1, 2, 3), (1, 2, 4, 10)])
def test_one_direction_that_is_no_axis(direction):
    """Covariances vv' and 4vv' have roots of traces |v| and 2|v| along v: the distance is |v|^2.

    The eigenvalues that are 0 come out as tiny numbers of either sign.
    """
    v = np.array(direction, dtype=float)
    a, b = ((np.zeros(len(v)), times * np.outer(v, v)) for times in (1, 4))
    assert _frechet.distance(a, b) == pytest.approx(v @ v, abs=1e-4)
    assert _frechet.distance(b, a) == pytest.approx(v @ v, abs=1e-4)
    assert 0 <= _frechet.distance(a, a) < 1e-4


@pytest.mark.parametrize("batches", [[50], [1] * 50, [7, 43], [0, 20, 0, 30]])
@pytest.mark.parametrize("ddof", [0, 1])
def test_statistics_are_numpys_however_the_features_arrive(batches, ddof):
    features = np.random.default_rng(0).normal(1000, 1, (50, 5)).astype(np.float32)
    statistics, start = _frechet.Statistics(5), 0
    for size in batches:
        statistics.update(features[start : start + size])
        start += size
    mean, covariance = statistics.moments(ddof=ddof)
    exact = features.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(covariance, np.cov(exact, rowvar=False, ddof=ddof), rtol=1e-11)


def test_two_samples_by_hand():
    statistics = _frechet.Statistics(2)
    statistics.update(np.array([[0.0, 1.0], [2.0, 5.0]]))
    np.testing.assert_array_equal(statistics.moments(ddof=0)[0], [1, 3])
    np.testing.assert_array_equal(statistics.moments(ddof=0)[1], [[1, 2], [2, 4]])
    np.testing.assert_array_equal(statistics.moments(ddof=1)[1], [[2, 4], [4, 8]])


def test_memory_does_not_grow_with_the_samples():
    statistics = _frechet.Statistics(8)
    sizes = set()
    for _ in range(3):
        statistics.update(np.ones((1000, 8)))
        state = vars(statistics).values()
        sizes.add(sum(value.nbytes for value in state if isinstance(value, np.ndarray)))
    assert statistics.count == 3000
    assert (statistics.mean.shape, statistics.scatter.shape) == ((8,), (8, 8))
    assert sizes == {8 * (8 + 8 * 8)}


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("ddof", [0, 1])
def test_too_few_samples(count, ddof):
    statistics = _frechet.Statistics(2)
    statistics.update(np.zeros((count, 2)))
    with pytest.raises(UsageError, match=rf"from {count} sample\(s\); take at least 2"):
        statistics.moments(ddof=ddof)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("place", "whose"), [(0, "the samples"), (1, "the real ones")])
def test_numbers_that_are_none(bad, place, whose):
    """One sample's one feature is enough, in the mean or in the covariance."""
    good = np.zeros(2), np.eye(2)
    for wrong in ((np.array([0, bad]), np.eye(2)), (np.zeros(2), np.diag([1, bad]))):
        pair = [good, good]
        pair[place] = wrong
        with pytest.raises(UsageError, match=f"the features of {whose} are not finite everywhere"):
            _frechet.distance(*pair)
