"""Scores of single samples: which sample of a run is its worst, its median and its best."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.storage import results

if TYPE_CHECKING:
    from skipdit_cli.run import Run

PICKS = ("worst", "median", "best")
Scores = dict[str, tuple[float, ...]]  # by metric, those of samples 0, 1, 2, ...


def of_samples(run: "Run", root: Path, count: int) -> Scores:
    """The scores of the first `count` samples of a run by all metrics that score one by one.

    Raises:
        StoreError: the disk cannot be read.
    """
    found = {}
    for metric in sorted(results.metrics_of(root, run.key)):
        if not registry.known("metrics", metric):
            continue
        result = results.read_score(root, run, metric)
        if result and result.scores and len(result.scores) >= count:
            found[metric] = result.scores[:count]
    return found


def from_worst(scores: Sequence[float], *, better: str) -> list[int]:
    """The indices of samples, the worst first; of equal ones in their order.

    >>> from_worst([3.0, 1.0, 3.0], better="higher"), from_worst([3.0, 1.0, 3.0], better="lower")
    ([1, 0, 2], [0, 2, 1])
    """
    sign = 1 if better == "higher" else -1
    return sorted(range(len(scores)), key=lambda i: sign * scores[i])


def picks(scores: Sequence[float], *, better: str) -> dict[str, int]:
    """Which samples are the worst, the median and the best; of equal ones the first.

    The median of an even number is the worse of the two in the middle.

    >>> picks([3.0, 1.0, 2.0, 4.0], better="higher"), picks([3.0, 1.0, 2.0], better="lower")
    ({'worst': 1, 'median': 2, 'best': 3}, {'worst': 0, 'median': 2, 'best': 1})
    """
    order = from_worst(scores, better=better)
    best = min(i for i in order if scores[i] == scores[order[-1]])
    return dict(zip(PICKS, (order[0], order[(len(order) - 1) // 2], best), strict=True))
