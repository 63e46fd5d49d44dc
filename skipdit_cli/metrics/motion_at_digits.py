"""Share of generated clips that move as their captions say, by the frames' centre of mass.

The centre of the first and of the last frame is the mean place of its pixels, weighted by their
brightness; a clip moves the way (right, left, down, up) that the way between them is nearest to.
"""

from collections.abc import Iterable

import numpy as np

from skipdit_cli.embedded import captions
from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import Meta

NAME = "motion@digits"
LABEL = "Motion@digits"
UNIT = ""
BETTER = "higher"
NEEDS = "set"
TASKS = ("t2v",)
VERSION = 1
PROTOCOL = "centre of mass"


def score_set(samples: Iterable[np.ndarray], metas: Iterable[Meta]) -> float:
    """The share, 0 to 1, of clips uint8 [T,H,W,3], T at least 2, that move the right way.

    Args:
        samples: read only once.
        metas: what was asked for, in the order of the samples: {"prompt": ...}.

    Raises:
        UsageError: no clip, a prompt that names no direction, or no samples.
    """
    right = []
    for sample, meta in zip(samples, metas, strict=True):
        asked = captions.direction(meta.get("prompt", ""))
        if asked is None:
            raise UsageError(
                f"{NAME} needs prompts that name a direction",
                fix=f"end them with {', '.join(captions.DIRECTIONS)}",
            )
        if sample.ndim != 4 or len(sample) < 2:
            raise UsageError(f"{NAME} cannot score an image", fix="score a video model")
        way = _centre(sample[-1]) - _centre(sample[0])
        ways = list(captions.DIRECTIONS.values())
        right.append(ways[int(np.argmax(np.array(ways) @ way))] == asked)
    if not right:
        raise UsageError(f"{NAME} has no samples to score", fix="generate at least one")
    return float(np.mean(right))


def _centre(frame: np.ndarray) -> np.ndarray:
    """(row, column) of the centre of mass of a frame uint8 [H,W,3]; its middle if it is black."""
    mass = frame.astype(np.float64).mean(axis=-1)
    if not mass.any():
        return (np.array(mass.shape) - 1) / 2
    places = np.indices(mass.shape).reshape(2, -1)
    return places @ mass.ravel() / mass.sum()
