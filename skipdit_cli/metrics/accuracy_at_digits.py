"""Share of generated digits that the embedded classifier takes for the class asked for.

A clip counts as the class that is likeliest by the mean of its frames' logits.
"""

from collections.abc import Iterable

import numpy as np

from skipdit_cli.embedded import captions
from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import Meta, _embedded

NAME = "accuracy@digits"
LABEL = "Accuracy@digits"
UNIT = ""
BETTER = "higher"
NEEDS = "set"
TASKS = ("c2i", "c2v", "t2v", "t2i")
VERSION = 1
PROTOCOL = "embedded digit classifier"


def score_set(samples: Iterable[np.ndarray], metas: Iterable[Meta]) -> float:
    """The share, 0 to 1, of images uint8 [16,16,3] or clips [T,16,16,3] with the right digit.

    Args:
        samples: read only once.
        metas: what was asked for, in the order of the samples: {"class": 3} or {"prompt": ...}.

    Raises:
        UsageError: the samples have another size, no digit was asked for, or there are none.
    """
    kind = "images or clips"
    return _embedded.accuracy(samples, metas, metric=NAME, kind=kind, asked=_digit)


def _digit(meta: Meta) -> int:
    digit = captions.digit(meta["prompt"]) if "prompt" in meta else meta.get("class")
    if digit is None:
        raise UsageError(
            f"{NAME} needs the digit that every sample was to show",
            fix="score a class-conditional model, or prompts that name a digit",
        )
    return int(digit)
