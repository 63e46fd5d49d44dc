"""The threshold of a method that decides while it runs, closed in on by trying a few."""

from collections.abc import Callable

FACTORS = (4, 16, 256)  # by which the first threshold is left, until the wanted share is passed
MOST = 12  # thresholds that are tried
CLOSE = 0.005  # relative to the wanted share: what is close enough


def close_in(
    share: Callable[[float], float], *, wanted: float, first: float, gap: float
) -> dict[float, float]:
    """Thresholds around the one that leaves a wanted share of the cost, each with what it leaves.

    From the first one away until the wanted share lies between two; then their geometric mean takes
    the place of one of them, again and again. All have three digits.

    Args:
        share: what is left of the cost under a threshold; it falls, mostly, by steps.
        first: the threshold to begin with, above 0.
        gap: the least by which two shares differ: that of one step.
    """
    tried: dict[float, float] = {}

    def at(threshold: float) -> float:
        if threshold not in tried:
            tried[threshold] = share(threshold)
        return tried[threshold]

    low = high = first
    up = at(first) > wanted
    for factor in FACTORS:
        if up and at(high) > wanted:
            low, high = high, _rounded(high * factor)
        elif not up and at(low) < wanted:
            low, high = _rounded(low / factor), low
    while len(tried) < MOST and at(low) > wanted > at(high) and at(low) - at(high) > 1.5 * gap:
        middle = _rounded((low * high) ** 0.5)
        if middle in (low, high) or abs(at(middle) / wanted - 1) <= CLOSE:
            break
        low, high = (middle, high) if at(middle) > wanted else (low, middle)
    return tried


def _rounded(threshold: float) -> float:
    return float(f"{threshold:.3g}")
