"""Where full steps are placed, and the coefficients of a forecast: by trying all, and by hand."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from skipdit_cli.caches import _forecast as forecast
from skipdit_cli.caches._forecast import KINDS, Measured, coefficients, costs, gram, placed

STEPS = 8


@pytest.fixture
def values():
    """F and h that wander: [steps, 2, values]."""
    random = np.random.default_rng(0)
    return random.normal(size=(STEPS, 2, 50)).cumsum(axis=0)


@pytest.fixture
def measured(values):
    return Measured(gram(values), np.random.default_rng(1).uniform(0.1, 2, STEPS))


def forecasts(values, kind, full, pairs):
    """Errors of F at every step that is not full, by the formula itself: {step: error}."""
    errors = {}
    for number, (step, end) in enumerate(pairwise([*full, STEPS])):
        a, b = pairs[number]
        for j in range(step + 1, end):
            (now, entered), fresh = values[step], values[j, 1]
            found = now + b * (fresh - entered)
            if number:
                before = full[number - 1]
                found = found + a * (j - step) / (step - before) * (now - values[before, 0])
            errors[j] = np.sqrt(((values[j, 0] - found) ** 2).mean())
    return errors


def cost(values, measured, kind, full):
    pairs = coefficients(measured, kind, full)
    errors = forecasts(values, kind, full, pairs)
    ends = [*full, STEPS]
    return sum(
        sum(measured.weights[j] * errors[j] for j in range(step + 1, end)) ** 2
        for step, end in pairwise(ends)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 3, 5, STEPS])
def test_no_other_place_costs_less(values, measured, kind, count):
    """Of all sets of so many steps, 0 among them."""
    tried = {
        (0, *rest): cost(values, measured, kind, (0, *rest))
        for rest in combinations(range(1, STEPS), count - 1)
    }
    assert placed(measured, kind, count) == min(tried, key=tried.__getitem__)


def test_a_segment_costs_what_its_forecasts_are_off(values, measured):
    found = costs(measured, "taylor", STEPS)
    errors = forecasts(values, "taylor", (0, 2), [(1, 0), (1, 0)])
    # the step before 2 is 0: two back; the segment of 2, 3, 4 has three steps
    wanted = (measured.weights[3] * errors[3] + measured.weights[4] * errors[4]) ** 2
    assert found[2, 2, 3] == pytest.approx(wanted)
    assert found[0, 5, 1] == 0
    assert np.isinf(found[3, 2]).all()
    assert np.isinf(found[0, 6, 3])


def test_coefficients_are_those_of_least_squares(values, measured, monkeypatch):
    monkeypatch.setattr(forecast, "RIDGE", 0)
    full = (0, 3)
    (_, first_b), (a, b) = coefficients(measured, "fit", full)
    rows, wanted = [], []
    for j in range(4, STEPS):
        weight = measured.weights[j]
        slope = (j - 3) / 3 * (values[3, 0] - values[0, 0])
        rows.append(weight * np.stack([slope, values[j, 1] - values[3, 1]], axis=1))
        wanted.append(weight * (values[j, 0] - values[3, 0]))
    found, *_ = np.linalg.lstsq(np.concatenate(rows), np.concatenate(wanted), rcond=None)
    assert (a, b) == pytest.approx(found)
    change, target = (
        np.concatenate([measured.weights[j] * (values[j, k] - values[0, k]) for j in (1, 2)])
        for k in (1, 0)
    )
    assert first_b == pytest.approx(change @ target / (change @ change))


def test_the_first_segment_has_no_slope(measured):
    assert coefficients(measured, "fit", (0, 3))[0][0] == 0


def test_what_never_changes_needs_no_coefficients():
    still = Measured(gram(np.ones((STEPS, 2, 5))), np.ones(STEPS))
    assert coefficients(still, "fit", (0, 4)) == [(0, 0), (0, 0)]


def test_a_line_is_forecast_without_error():
    """F rises by the same at every step: no place costs anything once there is a slope."""
    rising = np.arange(STEPS)[:, None, None] * np.ones((1, 2, 3))
    rising[:, 1] = 0
    line = Measured(gram(rising), np.ones(STEPS))
    assert placed(line, "taylor", 2) == (0, 1)
    assert costs(line, "taylor", STEPS)[1, 1, STEPS - 1] == pytest.approx(0, abs=1e-12)


def test_weights_are_what_a_change_becomes_in_the_sample():
    """Of samples the geometric mean; 4 and 9 times as far, squared, at step 1; 6 at both at 3."""
    values = np.zeros((2, 5, 2, 4))
    values[:, :, 0] = np.arange(5)[:, None]  # F changes by one at every step
    products = np.stack([gram(each) for each in values])
    strays = {1: np.array([16.0, 81.0]), 3: np.array([36.0, 36.0]), 4: np.array([1.0, 1.0])}
    found = forecast.weights(strays, products, 5)
    assert found == pytest.approx([6, 6, 6, 6, 1])
