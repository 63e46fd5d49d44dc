"""Frechet distance from ImageNet's images of what DINOv2 sees (FD-DINOv2), as in dgm-eval.

Frechet distance (`_frechet.py` has the formula) of the class tokens of DINOv2 ViT-L/14, 1,024
numbers, covariance with ddof 1; both sides of an image are brought to 224 (`_dino.py`). Papers
compare 50,000 samples with as many or all real training images. Here they are the 10,000 images of
ADM's reference batch, unless others are given with `--reference`: with another number of samples or
of real images the value is another one.

Source: Stein et al. 2023, layer6ai-labs/dgm-eval; statistics are in float64 throughout.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from skipdit_cli.metrics import Extract, Extractor, Features, Reference, _dino, _frechet, _imagenet

NAME = "fd-dinov2"
LABEL = "FD-DINOv2"
UNIT = ""
BETTER = "lower"
NEEDS = "set"
TASKS = ("c2i",)
VERSION = 1
PROTOCOL = "dgm-eval, DINOv2 ViT-L/14, images of ADM's reference batch"


def _load(assets: Mapping[str, Path], device: str) -> Extract:
    """Images uint8 [H,W,3] -> class tokens [N,1024]."""
    network = _dino.load_v2(assets["dinov2-large"], "dinov2-large", device, _dino.WHOLE)

    def extract(images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return {"token": _dino.features(images, network)}

    return extract


EXTRACTOR = Extractor("dinov2-large", 1, (_dino.LARGE_V2,), _load, values=1024, any_size=True)
REFERENCE = _imagenet.REFERENCE
REFERENCES = (_imagenet.BATCH,)


def score_set(features: Iterable[Features], reference: Reference) -> float:
    """The distance of images from the reference, at least two of them."""
    return _frechet.from_features(features, reference, "token", ddof=1)
