"""Distance of generated digits from real ones, on the embedded classifier's features (not FID).

Frechet distance between 64 features of the samples and of the real digits, covariance with ddof 1.
It is FID with another, small network, and comparable with nothing but itself: neither with a FID
nor with a run that has another number of samples.
"""

from collections.abc import Iterable

import numpy as np

from skipdit_cli.metrics import Meta, _embedded

NAME = "fid@digits"
LABEL = "FID@digits"
UNIT = ""
BETTER = "lower"
NEEDS = "set"
TASKS = ("c2i", "t2i")
VERSION = 1
PROTOCOL = "embedded digit classifier"


def score_set(samples: Iterable[np.ndarray], metas: Iterable[Meta]) -> float:
    """The distance of images, uint8 [16,16,3], from the real digits, whatever was asked for.

    Raises:
        UsageError: the samples are not images of this size, or there are fewer than two.
    """
    return _embedded.distance(samples, metric=NAME)
