"""Zero-shot Frechet Inception distance from COCO's val2014 images (FID-30K with 30,000 samples).

FID (`fid.py`) from the images that the prompt list `coco` describes. The paper does not say how it
made the two sides alike; here both are cut to their middle square and brought to 256x256 by
Lanczos. Covariance with ddof 1.

Source: the usual definition (Ramesh et al. 2021); there is no official code for it.
"""

from collections.abc import Iterable

from skipdit_cli.metrics import Features, Reference, _coco, _frechet, _inception

NAME = "fid@coco"
LABEL = "FID@COCO"
UNIT = ""
BETTER = "lower"
NEEDS = "set"
TASKS = ("t2i",)
VERSION = 1
PROTOCOL = "COCO val2014, Lanczos 256"

EXTRACTOR = _inception.RESIZED
REFERENCE = _coco.REFERENCE
REFERENCES = (_coco.IMAGES,)


def score_set(features: Iterable[Features], reference: Reference) -> float:
    """The distance of images from COCO's, at least two of them."""
    return _frechet.from_features(features, reference, "pool", ddof=1)
