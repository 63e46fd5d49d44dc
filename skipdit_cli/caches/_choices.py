"""What methods share that say what a search for settings of a given cost tries."""

INTERVALS = tuple(range(2, 11))  # the paper sweeps 2 to 6
SOME = 8  # values of a setting that has many


def evenly(first: int, last: int) -> tuple[int, ...]:
    """SOME integers from first to last at about equal distances, all of them where they are few.

    >>> evenly(1, 3), evenly(1, 27)
    ((1, 2, 3), (1, 5, 8, 12, 16, 20, 23, 27))
    """
    count = last - first + 1
    if count <= SOME:
        return tuple(range(first, last + 1))
    return tuple(first + round(i * (count - 1) / (SOME - 1)) for i in range(SOME))
