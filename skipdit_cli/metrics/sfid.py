"""Frechet distance of spatial Inception features from ImageNet's, as in the ADM evaluator.

The first 7 channels of `mixed_6/conv`, 17x17x7 numbers (Nash et al. 2021), else as FID.

Source: guided-diffusion evaluations/evaluator.py; statistics are in float64 throughout (the
evaluator's float32 mean is 1e-8 off).
"""

from collections.abc import Iterable

from skipdit_cli.metrics import Features, Reference, _frechet, _imagenet, _inception

NAME = "sfid"
LABEL = "sFID"
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
    return _frechet.from_features(features, reference, "spatial", ddof=1)
