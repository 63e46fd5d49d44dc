"""Frechet distance between two sets of features, each taken as a normal distribution.

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))

Source: Heusel et al. 2017, equation 6. The trace of the root is the sum of the roots of the
eigenvalues of C1^(1/2) C2 C1^(1/2). That matrix is symmetric, so this holds with fewer samples than
features too, where `sqrtm` of the product has gone wrong (scipy issue 19415).
"""

from collections.abc import Iterable

import numpy as np

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import Features, Moments, Reference


class Statistics:
    """Mean and covariance of features that arrive in batches; keeps d + d*d float64 numbers.

    Batches are merged around their own means (Chan, Golub, LeVeque 1983), so that a large mean
    costs no digits.
    """

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self.mean = np.zeros(dimension)
        self.scatter = np.zeros((dimension, dimension))

    def update(self, features: np.ndarray) -> None:
        """Add a batch of features [N,d]."""
        batch = np.asarray(features, dtype=np.float64)
        if batch.shape[0] == 0:
            return
        total = self.count + batch.shape[0]
        mean = batch.mean(axis=0)
        centred, shift = batch - mean, mean - self.mean
        weight = self.count * batch.shape[0] / total
        self.scatter += centred.T @ centred + weight * np.outer(shift, shift)
        self.mean += shift * (batch.shape[0] / total)
        self.count = total

    def moments(self, *, ddof: int) -> Moments:
        """Mean [d] and covariance [d,d], the latter divided by count - ddof.

        Args:
            ddof: 1 as in FID (np.cov, the ADM evaluator), 0 as in FVD (StyleGAN-V).

        Raises:
            UsageError: fewer than two samples.
        """
        if self.count < 2:
            raise UsageError(
                f"a distribution cannot be told from {self.count} sample(s)",
                fix="take at least 2, and many more for a number that means something",
            )
        return self.mean, self.scatter / (self.count - ddof)


def distance(a: Moments, b: Moments) -> float:
    """Frechet distance of two (mean [d], covariance [d,d]); 0 for the same distribution.

    Raises:
        UsageError: a number of them is not finite.
    """
    for moments, whose in ((a, "the samples"), (b, "the real ones")):
        if not all(np.isfinite(part).all() for part in moments):
            raise UsageError(
                f"the features of {whose} are not finite everywhere, so they have no distance",
                fix="look at the samples, and make the features again",
            )
    (mean_a, cov_a), (mean_b, cov_b) = a, b
    shift = mean_a - mean_b
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)).sum()
    squared = shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap
    return max(float(squared), 0.0)


def from_features(
    features: Iterable[Features], reference: Reference, name: str, *, ddof: int
) -> float:
    """Distance between samples, by the chunks of one of their features, and real ones.

    Features with an axis more than [N,d] have it over frames, which count one by one.

    Raises:
        UsageError: fewer than two samples.
    """
    return distance(moments_of(features, name, ddof=ddof), reference.moments(name, ddof=ddof))


def moments_of(features: Iterable[Features], name: str, *, ddof: int) -> Moments:
    """Mean [d] and covariance [d,d] of a feature that arrives in chunks, [N,d] or [N,T,d].

    Raises:
        UsageError: fewer than two samples.
    """
    statistics = None
    for chunk in features:
        rows = chunk[name].reshape(-1, chunk[name].shape[-1])
        statistics = statistics or Statistics(rows.shape[1])
        statistics.update(rows)
    return (statistics or Statistics(1)).moments(ddof=ddof)
