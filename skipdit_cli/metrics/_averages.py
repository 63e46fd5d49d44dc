"""Means over samples that some code takes otherwise."""

import numpy as np

BATCH = 16  # samples


def mean_of_batches(scores: np.ndarray) -> float:
    """Mean over batches of 16 samples of their means: a short last batch weighs as much as others.

    Source: VideoSys eval/pab/common_metrics/eval.py.
    """
    return float(np.mean([scores[i : i + BATCH].mean() for i in range(0, len(scores), BATCH)]))
