"""Improved precision and recall (Kynkaanniemi et al. 2019) on Inception's pool features.

The manifold of a set is the union of balls around its samples, each as wide as the way to the third
nearest other one; a sample on the edge is inside.

Source: guided-diffusion evaluations/evaluator.py (k = 3), by torch-fidelity in float64. The
evaluator computes distances in float16, which moves its values by some 0.003.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import Features, Reference

NEIGHBOURS = 3
ROWS = 2500  # of a matrix of distances, at once
_known: dict[str, tuple[float, float]] = {}  # so that precision and recall are computed together


def of_sets(features: Iterable[Features], reference: Reference) -> tuple[float, float]:
    """(precision, recall) of samples, each 0 to 1.

    Raises:
        UsageError: one of the sets has fewer than four samples.
    """
    ours = np.concatenate([chunk["pool"] for chunk in features])
    real = np.concatenate([chunk["pool"] for chunk in reference.features()])
    key = hashlib.sha256(ours.tobytes() + real.tobytes()).hexdigest()
    if key not in _known:
        _known[key] = precision_and_recall(ours, real)
    return _known[key]


def precision_and_recall(samples: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """(precision, recall) of features [N,d] beside those of real samples [M,d]."""
    import torch
    from torch_fidelity.metric_prc import prc_features_to_metric

    if min(len(samples), len(real)) <= NEIGHBOURS:
        raise UsageError(
            f"precision and recall cannot be told from {min(len(samples), len(real))} sample(s)",
            fix=f"take at least {NEIGHBOURS + 1}, and many more for a number that means something",
        )
    shares = prc_features_to_metric(
        torch.from_numpy(np.asarray(samples, dtype=np.float64)),
        torch.from_numpy(np.asarray(real, dtype=np.float64)),
        prc_neighborhood=NEIGHBOURS,
        prc_batch_size=ROWS,
        save_cpu_ram=True,
        verbose=False,
    )
    # shares come back as float32: take the whole numbers behind them
    precision = round(shares["precision"] * len(samples)) / len(samples)
    recall = round(shares["recall"] * len(real)) / len(real)
    return precision, recall
