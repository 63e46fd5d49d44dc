"""Zero-shot Frechet Inception distance from COCO's val2014 images (FID-30K with 30,000 samples).

FID (`fid.py`) from the images that the prompt list `coco` describes. The paper does not say how it
made the two sides alike; here both are cut to their middle square and brought to 256x256 by
Lanczos. Covariance with ddof 1.

Source: the usual definition (Ramesh et al. 2021); there is no official code for it.
"""

from collections.abc import Iterable

from skipdit_cli.metrics import Asset, Features, Reference, _frechet, _inception

NAME = "fid@coco"
LABEL = "FID@COCO"
UNIT = ""
BETTER = "lower"
NEEDS = "set"
TASKS = ("t2i",)
VERSION = 1
PROTOCOL = "COCO val2014, Lanczos 256"

EXTRACTOR = _inception.RESIZED
REFERENCE = "coco-val2014"
REFERENCES = (
    Asset(
        name="coco-val2014",
        what="COCO's val2014 images",
        source="http://images.cocodataset.org/zips/val2014.zip",
        file="val2014.zip",
        size=6_645_013_297,
        # TensorFlow Datasets, url_checksums/coco.txt; torchvision's prototypes have the same.
        digest="fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
        licence="terms of use of Flickr",
    ),
)


def score_set(features: Iterable[Features], reference: Reference) -> float:
    """The distance of images from COCO's, at least two of them."""
    return _frechet.from_features(features, reference, "pool", ddof=1)
