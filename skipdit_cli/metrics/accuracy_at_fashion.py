"""Share of generated clothes that the embedded classifier takes for the class asked for."""

from collections.abc import Iterable

import numpy as np

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import Meta, _embedded

NAME = "accuracy@fashion"
LABEL = "Accuracy@fashion"
UNIT = ""
BETTER = "higher"
NEEDS = "set"
TASKS = ("c2i",)
VERSION = 1
PROTOCOL = "embedded classifier of clothes"


def score_set(samples: Iterable[np.ndarray], metas: Iterable[Meta]) -> float:
    """The share, 0 to 1, of images uint8 [32,32,3] with the right piece of clothing.

    Args:
        samples: read only once.
        metas: what was asked for, in the order of the samples: {"class": 3}.

    Raises:
        UsageError: the samples have another size, no class was asked for, or there are none.
    """
    return _embedded.accuracy(samples, metas, metric=NAME, kind="images", asked=_class)


def _class(meta: Meta) -> int:
    if "class" not in meta:
        problem = f"{NAME} needs the class that every sample was to show"
        raise UsageError(problem, fix="score a class-conditional model")
    return int(meta["class"])
