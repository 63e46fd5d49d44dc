"""Share of generated images within the manifold of real ones, as in the ADM evaluator.

On Inception features, beside the 10,000 images of the reference batch; see `_manifold.py`.
"""

from collections.abc import Iterable

from skipdit_cli.metrics import Features, Reference, _imagenet, _inception, _manifold

NAME = "precision"
LABEL = "Precision"
UNIT = ""
BETTER = "higher"
NEEDS = "set"
TASKS = ("c2i",)
VERSION = 1
PROTOCOL = "ADM evaluator, exact distances"

EXTRACTOR = _inception.IMAGES
REFERENCE = _imagenet.REFERENCE
REFERENCES = (_imagenet.BATCH,)


def score_set(features: Iterable[Features], reference: Reference) -> float:
    """The share, 0 to 1, of images that are within the real ones' manifold."""
    return _manifold.of_sets(features, reference)[0]
