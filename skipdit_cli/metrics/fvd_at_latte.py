"""Frechet video distance from real clips that were prepared as in Latte's own evaluation.

Every third frame of a real video (every sixth of Taichi), from anywhere in it; else as `fvd`.

Source: Latte tools, compute_fvd with realdata_subsample_factor, after StyleGAN-V.
"""

from collections.abc import Iterable

from skipdit_cli.metrics import Features, Reference, _frechet, _i3d

NAME = "fvd@latte"
LABEL = "FVD@Latte"
UNIT = ""
BETTER = "lower"
NEEDS = "set"
TASKS = ("c2v",)
VERSION = 1
PROTOCOL = "StyleGAN-V fvd2048_16f, real clips as in Latte"
FRAMES = _i3d.FRAMES

EXTRACTOR = _i3d.EXTRACTOR
REFERENCE = "{dataset}/latte"


def score_set(features: Iterable[Features], reference: Reference) -> float:
    """The distance of clips from real ones, at least two of them."""
    return _frechet.from_features(features, reference, "logits", ddof=0)
