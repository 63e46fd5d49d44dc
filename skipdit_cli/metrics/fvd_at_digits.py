"""Distance of generated clips from real ones, on the embedded classifier's features (not FVD).

Frechet distance between 128 features (what is shown, how it moves) of the samples and of the real
moving digits, covariance with ddof 0 as in the FVD of StyleGAN-V. Comparable with nothing but
itself at the same number of samples.
"""

from collections.abc import Iterable

import numpy as np

from skipdit_cli.checkpoints.card import DIGITS
from skipdit_cli.metrics import Meta, _embedded, _frechet

NAME = "fvd@digits"
LABEL = "FVD@digits"
UNIT = ""
BETTER = "lower"
NEEDS = "set"
TASKS = ("c2v", "t2v")
VERSION = 1
PROTOCOL = "embedded digit classifier"


def score_set(samples: Iterable[np.ndarray], metas: Iterable[Meta]) -> float:
    """The distance of clips, uint8 [T,16,16,3], from the real ones, whatever was asked for.

    Raises:
        UsageError: the samples are not clips of this size, or there are fewer than two.
    """
    from skipdit_cli.embedded import reference_statistics
    from skipdit_cli.embedded.classifier import load_classifier

    classifier = load_classifier(DIGITS)
    statistics = _frechet.Statistics(_embedded.CLIP_FEATURES)
    for clips in _embedded.batches(samples, metric=NAME, kind="clips"):
        statistics.update(_embedded.clip_features(classifier, clips))
    mean, covariance, _ = reference_statistics("moving-digits")
    return _frechet.distance(statistics.moments(ddof=0), (mean, covariance))
