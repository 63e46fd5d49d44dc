"""Where full steps belong, and how the steps between are forecast: numbers alone, no network.

A forecast of a feature F at step j, from the last two full steps i and i2 before it, is

    F_i + a (j - i) / (i - i2) (F_i - F_i2) + b (h_j - h_i)

with h the hidden state that enters the first layer that is not computed. Its error, and the two
coefficients that make it least, follow from the inner products of all F and h alone. A segment is
a full step and those up to the next one; the cost of a segment is the square of the sum over its
steps of error times weight, the weight being what of a feature's error is left in the sample.

Source: dynamic programming over (previous, last) full step as "path-aware cost" of DPCache (arXiv
2602.22654); the term of h as in Increment-Calibrated Caching (arXiv 2505.05829).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Steps = tuple[int, ...]
Pair = tuple[float, float]  # a, b

FREEZE, TAYLOR, FIT = "freeze", "taylor", "fit"
FIXED: dict[str, Pair] = {FREEZE: (0.0, 0.0), TAYLOR: (1.0, 0.0)}
KINDS = (FREEZE, TAYLOR, FIT)

RIDGE = 1e-3  # of the diagonal: keeps coefficients small where F and h change alike
GAP, TIMES = 18, 3  # the longest segment: this many steps, or times the mean of all


@dataclass(frozen=True)
class Measured:
    """What is known of a model's features as it samples.

    Attributes:
        products: [2T, 2T], inner products over values and samples of F_0 .. F_T-1, h_0 .. h_T-1.
        weights: [T], what an error of F of one at a step becomes in the sample.
    """

    products: np.ndarray
    weights: np.ndarray

    @property
    def steps(self) -> int:
        """T."""
        return len(self.weights)


def gram(values: np.ndarray) -> np.ndarray:
    """The `products` of a `Measured`.

    Args:
        values: [T, 2, ...] of F and h at every step; all samples and values after that.
    """
    rows = np.concatenate([values[:, 0], values[:, 1]]).reshape(2 * len(values), -1)
    return rows @ rows.T / rows.shape[1]


def weights(strays: dict[int, np.ndarray], products: np.ndarray, count: int) -> np.ndarray:
    """The `weights` of a `Measured`, from samples in which one step alone was reused.

    Of the samples the geometric mean; between the steps that were tried, interpolated in logarithm.

    Args:
        strays: by step, [samples] the mean square by which each sample then differs.
        products: of the same samples one by one, [samples, 2T, 2T].
        count: T.
    """
    tried = sorted(strays)
    logs = []
    for j in tried:
        change = products[:, j, j] - 2 * products[:, j, j - 1] + products[:, j - 1, j - 1]
        ratio = np.maximum(strays[j], 1e-20) / np.maximum(change, 1e-20)
        logs.append(np.log(ratio).mean() / 2)
    return np.exp(np.interp(np.arange(count), tried, logs))


def coefficients(measured: Measured, kind: str, full: Sequence[int]) -> list[Pair]:
    """(a, b) of every segment of a schedule.

    Args:
        full: the steps that are full, ascending, 0 among them.
    """
    if kind in FIXED:
        return [FIXED[kind]] * len(full)
    found = []
    for number, step in enumerate(full):
        end = full[number + 1] if number + 1 < len(full) else measured.steps
        before = full[number - 1] if number else None
        (a, b), _ = _segments(measured, FIT, step, before, end - step)
        found.append((float(a[-1]), float(b[-1])))
    return found


def placed(measured: Measured, kind: str, count: int) -> Steps:
    """The full steps at which the sum of the costs of all segments is least.

    Args:
        count: how many there are to be, the first step among them.
    """
    steps = measured.steps
    longest = min(steps, max(GAP, TIMES * -(-steps // count)))
    cost = costs(measured, kind, longest)
    best = np.full(
        (longest + 1, steps), np.inf
    )  # by how far back the one before is (0: none), last
    best[0, 0] = 0.0
    came: list[np.ndarray] = []
    for _ in range(count - 1):
        following, back = np.full_like(best, np.inf), np.zeros(best.shape, int)
        for gap in range(1, longest + 1):
            total = best[:, : steps - gap] + cost[:, : steps - gap, gap]
            if total.size:
                back[gap, gap:] = total.argmin(axis=0)
                following[gap, gap:] = total.min(axis=0)
        best = following
        came.append(back)
    ends = np.full_like(best, np.inf)
    for last in range(max(0, steps - longest), steps):
        ends[:, last] = best[:, last] + cost[:, last, steps - last]
    gap, last = map(int, np.unravel_index(ends.argmin(), ends.shape))
    path = [last]
    for back in reversed(came):
        gap, last = int(back[gap, last]), last - gap
        path.append(last)
    return tuple(path[::-1])


def costs(measured: Measured, kind: str, longest: int) -> np.ndarray:
    """The cost of every segment: [longest + 1, T, longest + 1], infinite where there is none.

    By how far back the full step before it is (0 where there is none), its full step, and how many
    steps it has with that one.
    """
    steps = measured.steps
    cost = np.full((longest + 1, steps, longest + 1), np.inf)
    for step in range(steps):
        for back in range(min(step, longest) + 1):
            before = step - back if back else None
            last = min(longest, steps - step)
            _, sums = _segments(measured, kind, step, before, last)
            cost[back, step, 1 : last + 1] = sums**2
    return cost


def _segments(
    measured: Measured, kind: str, step: int, before: int | None, longest: int
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Of the segments of 1 to `longest` steps that begin at a full step, each [longest]: a and b,
    and the sum over their steps of error times weight.

    Args:
        before: the full step before that one, if there is one.
    """
    # y, what is to be forecast, and p and q, which a and b stand before, as inner products by step
    products, i, k = measured.products, step, step if before is None else before
    j = np.arange(step + 1, step + longest)
    hi, hj = i + measured.steps, j + measured.steps
    factor = (j - i) / (i - k) if before is not None else np.zeros(len(j))
    yy = products[j, j] - 2 * products[j, i] + products[i, i]
    pp = factor**2 * (products[i, i] - 2 * products[i, k] + products[k, k])
    qq = products[hj, hj] - 2 * products[hj, hi] + products[hi, hi]
    yp = factor * (products[j, i] - products[j, k] - products[i, i] + products[i, k])
    yq = products[j, hj] - products[j, hi] - products[i, hj] + products[i, hi]
    pq = factor * (products[i, hj] - products[i, hi] - products[k, hj] + products[k, hi])

    weight = measured.weights[j]
    if kind in FIXED:
        a, b = (np.full(longest, value) for value in FIXED[kind])
    else:  # one row per length: its first has nothing to forecast
        summed = (np.append(0.0, np.cumsum(weight**2 * each)) for each in (pp, pq, qq, yp, yq))
        a, b = _least(*summed)
    rows = (a[:, None], b[:, None])
    error = (
        yy
        + rows[0] ** 2 * pp
        + rows[1] ** 2 * qq
        - 2 * (rows[0] * yp + rows[1] * yq - rows[0] * rows[1] * pq)
    )
    inside = np.arange(longest)[:, None] > np.arange(longest - 1)
    return (a, b), (inside * weight * np.sqrt(np.maximum(error, 0))).sum(axis=1)


def _least(
    pp: np.ndarray, pq: np.ndarray, qq: np.ndarray, yp: np.ndarray, yq: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(a, b) for which |y - a p - b q|^2 is least, a little nearer to 0; 0 before what is none."""
    pp, qq = pp * (1 + RIDGE), qq * (1 + RIDGE)
    none_p, none_q = pp <= 0, qq <= 0
    pp, qq = np.where(none_p, 1, pp), np.where(none_q, 1, qq)
    pq = np.where(none_p | none_q, 0, pq)
    determinant = pp * qq - pq**2
    a = (yp * qq - yq * pq) / determinant
    b = (yq * pp - yp * pq) / determinant
    return np.where(none_p, 0, a), np.where(none_q, 0, b)
