"""Distance of generated clothes from real ones, on the embedded classifier's features (not FID).

As `fid@digits`, with the classifier of clothes and the 60,000 training images of Fashion-MNIST.
"""

from collections.abc import Iterable

import numpy as np

from skipdit_cli.metrics import Meta, _embedded

NAME = "fid@fashion"
LABEL = "FID@fashion"
UNIT = ""
BETTER = "lower"
NEEDS = "set"
TASKS = ("c2i",)
VERSION = 1
PROTOCOL = "embedded classifier of clothes"


def score_set(samples: Iterable[np.ndarray], metas: Iterable[Meta]) -> float:
    """The distance of images, uint8 [32,32,3], from the real clothes, whatever was asked for.

    Raises:
        UsageError: the samples are not images of this size, or there are fewer than two.
    """
    return _embedded.distance(samples, metric=NAME)
