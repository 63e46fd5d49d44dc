"""What methods share whose settings are measured on a model."""

from collections.abc import Iterable

DIGITS = 6  # significant ones of a value: the spec of a run holds them all


def rounded(values: Iterable[float]) -> tuple[float, ...]:
    """The values as a spec holds them."""
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)
