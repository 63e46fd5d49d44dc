"""Frechet Inception distance from ImageNet's images by clean-fid's protocol (FID-clean).

As `fid`: the same Inception, the same distance, ddof 1. Two things differ. Images are brought to
299x299 by PIL's bicubic filter, antialiased, channel by channel in float32 and not rounded, in
place of the bilinear resize of TensorFlow 1 inside the network, which skips pixels where it makes
images smaller; that resize is left out here. And real images go the same way: they are the 10,000
of ADM's reference batch unless others are given with `--reference`, not its statistics of the whole
training set, which were seen through the other resize.

Source: Parmar et al. 2022, GaParmar/clean-fid (mode "clean"), which has NVIDIA's TorchScript copy
of this Inception; torch-fidelity's copy is of the same weights.
"""

from collections.abc import Iterable

from skipdit_cli.metrics import Features, Reference, _frechet, _imagenet, _inception

NAME = "fid@clean"
LABEL = "FID@clean"
UNIT = ""
BETTER = "lower"
NEEDS = "set"
TASKS = ("c2i",)
VERSION = 1
PROTOCOL = "clean-fid, images of both sides at 299 by PIL bicubic"

EXTRACTOR = _inception.CLEAN
REFERENCE = _imagenet.REFERENCE
REFERENCES = (_imagenet.BATCH,)


def score_set(features: Iterable[Features], reference: Reference) -> float:
    """The distance of images from the reference, at least two of them."""
    return _frechet.from_features(features, reference, "clean", ddof=1)
