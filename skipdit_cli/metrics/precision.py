"""Share of generated images within the manifold of real ones, as in the ADM evaluator.

On Inception features, beside the 10,000 images of the reference batch; see `_manifold.py`.
"""

from collections.abc import Iterable

from skipdit_cli.metrics import _inception, _manifold
from skipdit_cli.metrics._extractor import Features, Reference

NAME = "precision"
LABEL = "Precision"
UNIT = ""
BETTER = "higher"
NEEDS = "set"
TASKS = ("c2i",)
VERSION = 1
PROTOCOL = "ADM evaluator, exact distances"

EXTRACTOR = _inception.IMAGES
REFERENCE = "{dataset}"


def score_set(features: Iterable[Features], reference: Reference) -> float:
    """The share, 0 to 1, of images that are within the real ones' manifold."""
    return _manifold.of_sets(features, reference)[0]
