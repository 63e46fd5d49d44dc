"""Inception Score by the protocol of the ADM evaluator: higher where images are clear and varied.

    exp(mean over x of KL(p(y|x) || p(y))), p(y) the mean of p(y|x)

of Inception v3's softmax without the bias of its logits, in parts of 5,000 samples in the order in
which they are, a short last part counting in full; then the mean over parts. The order matters:
draw classes at random, as the paper does, not one after the other.

Source: guided-diffusion evaluations/evaluator.py; here in float64.
"""

from collections.abc import Iterable

import numpy as np

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import Features, Reference, _inception

NAME = "inception-score"
LABEL = "IS"
UNIT = ""
BETTER = "higher"
NEEDS = "set"
TASKS = ("c2i",)
VERSION = 1
PROTOCOL = "ADM evaluator"

EXTRACTOR = _inception.IMAGES
SPLIT = 5000  # samples


def score_set(features: Iterable[Features], reference: Reference | None = None) -> float:
    """The score of images; the reference is not used."""
    return of_logits((chunk["logits"] for chunk in features), split=SPLIT)


def of_logits(chunks: Iterable[np.ndarray], *, split: int) -> float:
    """The score of logits that arrive in chunks [n,K], in parts of `split` rows.

    Raises:
        UsageError: there are none.
    """
    scores: list[float] = []
    count, marginal, negentropy = 0, np.zeros(1), 0.0  # of the part that is not full yet

    def close() -> None:
        mean = marginal / count
        scores.append(float(np.exp(negentropy / count - _sum_p_log_p(mean))))

    for chunk in chunks:
        rows = np.asarray(chunk, dtype=np.float64)
        while len(rows):
            now, rows = rows[: split - count], rows[split - count :]
            p = np.exp(now - now.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            count, marginal = count + len(now), marginal + p.sum(axis=0)
            negentropy += _sum_p_log_p(p)
            if count == split:
                close()
                count, marginal, negentropy = 0, np.zeros(1), 0.0
    if count:
        close()
    if not scores:
        raise UsageError(f"{NAME} has no samples to score", fix="generate at least one")
    return float(np.mean(scores))


def _sum_p_log_p(p: np.ndarray) -> float:
    return float(np.sum(p * np.log(np.where(p > 0, p, 1))))
