"""Frechet video distance from real clips that were prepared as the official tools do.

Frechet distance (`_frechet.py` has the formula) of I3D's logits of 16-frame clips, covariance with
ddof 0. The released tools hand every video over as its first 17 frames at its own rate, in JPEG of
quality 75; Latte's own evaluation takes every third frame, which gives another number
(`fvd@latte`). The paper has 2,048 clips.

Source: Skip-DiT class-to-video/tools (fvd2048_16f), after StyleGAN-V.
"""

from collections.abc import Iterable

from skipdit_cli.metrics import Features, Reference, _frechet, _i3d

NAME = "fvd"
LABEL = "FVD"
UNIT = ""
BETTER = "lower"
NEEDS = "set"
TASKS = ("c2v",)
VERSION = 1
PROTOCOL = "StyleGAN-V fvd2048_16f, real clips as in Skip-DiT's tools"
FRAMES = _i3d.FRAMES

EXTRACTOR = _i3d.EXTRACTOR
REFERENCE = "{dataset}/released"


def score_set(features: Iterable[Features], reference: Reference) -> float:
    """The distance of clips from real ones, at least two of them."""
    return _frechet.from_features(features, reference, "logits", ddof=0)
