"""Share of generated digits that the embedded classifier takes for the class asked for.

A clip counts as the class that is likeliest by the mean of its frames' logits.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import _digits

NAME = "accuracy@digits"
LABEL = "Accuracy@digits"
UNIT = ""
BETTER = "higher"
NEEDS = "set"
VERSION = 1


def score_set(samples: Iterable[np.ndarray], classes: Iterable[int | None]) -> float:
    """The share, 0 to 1, of images uint8 [16,16,3] or clips [T,16,16,3] with the right class.

    Args:
        samples: read only once.
        classes: the class asked for, in the order of the samples.

    Raises:
        UsageError: the samples have another size, no class, or there are none.
    """
    from skipdit_cli.embedded.classifier import load_classifier

    classifier = load_classifier()
    asked: list[int] = []
    predicted: list[int] = []
    pairs = _remember(zip(samples, classes, strict=True), asked)
    for clips in _digits.batches(pairs, metric=NAME, kind="images or clips"):
        predicted += _digits.predicted_classes(classifier, clips).tolist()
    if not asked:
        raise UsageError(f"{NAME} has no samples to score", fix="generate at least one")
    return float(np.mean(np.equal(asked, predicted)))


def _remember(
    pairs: Iterable[tuple[np.ndarray, int | None]], asked: list[int]
) -> Iterator[np.ndarray]:
    for sample, class_ in pairs:
        if class_ is None:
            raise UsageError(
                f"{NAME} needs the class of every sample, which an unconditional model has not",
                fix="score a class-conditional model",
            )
        asked.append(class_)
        yield sample
