"""Kernel Inception distance from ImageNet's images; near 0, and a little below it for the same.

Squared maximum mean discrepancy, unbiased, of Inception v3's pool features under the kernel
(x.y / 2048 + 1)^3: the mean over 100 draws of 1,000 samples and 1,000 real images, of as many as
the smaller set has where that is fewer (as clean-fid does), by seed 2020 (torch-fidelity's), so
that the same samples score the same. The features are those of `fid`, with their resize, and the
real ones the 10,000 images of ADM's reference batch. Published values are often times 1,000.

Source: Binkowski et al. 2018; torch-fidelity 0.4 has the formula, here in float64.
"""

from collections.abc import Iterable

import numpy as np

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import Features, Reference, _imagenet, _inception

NAME = "kid"
LABEL = "KID"
UNIT = ""
BETTER = "lower"
NEEDS = "set"
TASKS = ("c2i",)
VERSION = 1
PROTOCOL = "torch-fidelity, 100 subsets of 1,000, ADM's reference batch"

EXTRACTOR = _inception.IMAGES
REFERENCE = _imagenet.REFERENCE
REFERENCES = (_imagenet.BATCH,)

SUBSETS, MOST = 100, 1000  # draws, and samples of each
SEED = 2020


def score_set(features: Iterable[Features], reference: Reference) -> float:
    """The distance of images from the reference, at least two of them."""
    ours, real = (
        np.concatenate([chunk["pool"] for chunk in chunks]).astype(np.float64)
        for chunks in (features, reference.features())
    )
    return of_features(ours, real)


def of_features(samples: np.ndarray, real: np.ndarray) -> float:
    """The distance between features [N,d] and those of real samples [M,d].

    Raises:
        UsageError: one of the sets has fewer than two samples.
    """
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    if (least := min(len(samples), len(real))) < 2:
        raise UsageError(
            f"{NAME} cannot be told from {least} sample(s)",
            fix="take at least 2, and many more for a number that means something",
        )
    found = kid_features_to_metric(
        torch.from_numpy(samples),
        torch.from_numpy(real),
        kid_subsets=SUBSETS,
        kid_subset_size=min(least, MOST),
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
        rng_seed=SEED,
        verbose=False,
    )
    return float(found[KEY_METRIC_KID_MEAN])
