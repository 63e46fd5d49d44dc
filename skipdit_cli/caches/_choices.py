"""What a search for settings of a given cost tries, as far as several methods share it."""

import types
import typing
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

INTERVALS = tuple(range(2, 11))  # the paper sweeps 2 to 6
STARTS, STOPS = (1000, 900, 800, 700, 600, 500), (0, 50, 100, 150, 200, 300, 400)
WINDOWS = tuple((start, stop) for start in STARTS for stop in STOPS)
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


def usual(config: type) -> dict[str, Sequence[Any]]:
    """Of a method that does not say what to try: 1 to 10 of every integer, WINDOWS of a window."""
    hints = typing.get_type_hints(config)
    known: dict[str, Sequence[Any]] = {}
    for field in fields(config):
        hint = hints[field.name]
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if int in kinds:
            known[field.name] = tuple(range(1, 11))
        elif field.name == "window":
            known[field.name] = WINDOWS
    return known
