"""Frechet Inception distance from ImageNet, by the protocol of the ADM evaluator.

Frechet distance (`_frechet.py` has the formula) of Inception v3's pool features, covariance with
ddof 1, from the statistics of the whole training set that come with the reference batch. The paper
has 50,000 samples; with another number the value is another one.

Source: guided-diffusion evaluations/evaluator.py; statistics are in float64 throughout (the
evaluator's float32 mean is 1e-8 off).
"""

from collections.abc import Iterable

from skipdit_cli.metrics import Features, Reference, _frechet, _imagenet, _inception

NAME = "fid"
LABEL = "FID"
UNIT = ""
BETTER = "lower"
NEEDS = "set"
TASKS = ("c2i",)
VERSION = 1
PROTOCOL = "ADM evaluator"

EXTRACTOR = _inception.IMAGES
REFERENCE = _imagenet.REFERENCE
REFERENCES = (_imagenet.BATCH,)


def score_set(features: Iterable[Features], reference: Reference) -> float:
    """The distance of images from the reference, at least two of them."""
    return _frechet.from_features(features, reference, "pool", ddof=1)
