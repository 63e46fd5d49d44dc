"""What caches reuse, as places of a map of layers and steps."""

from collections.abc import Mapping, Sequence

import numpy as np

from skipdit_cli.analyze.trial import tried
from skipdit_cli.generate.options import Options
from skipdit_cli.run import Run

Places = tuple[tuple[int, int], ...]  # (layer, step)


def reused(run: Run, options: Options) -> Places:
    """The layers of which a cache reuses anything, with the step.

    Of a method that decides while it runs it is what it reuses in the first batch.

    Raises:
        UsageError: such a method, where weights are random.
    """
    steps = tried(run, options) if run.cache.method.DYNAMIC else run.reused()
    return tuple(
        (layer, step)
        for step, sites in enumerate(steps)
        for layer in sorted({site.layer for site in sites})
    )


def marks(
    places: Mapping[str, Places], layers: Sequence[int], steps: Sequence[int]
) -> dict[str, Places]:
    """Places as (row, column) of a map; those that it has no row or column for are left out.

    Args:
        places: name of a cache -> what it reuses.
        layers, steps: of rows and columns.
    """
    row, column = ({at: i for i, at in enumerate(each)} for each in (layers, steps))
    return {
        name: tuple((row[i], column[step]) for i, step in each if i in row and step in column)
        for name, each in places.items()
    }


def mask(places: Places, shape: tuple[int, int]) -> np.ndarray:
    """Places of a map as a mask of that shape."""
    found = np.zeros(shape, dtype=bool)
    for place in places:
        found[place] = True
    return found
