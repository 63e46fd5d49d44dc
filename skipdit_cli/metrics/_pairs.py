"""A sample beside its uncached reference, frame by frame."""

from collections.abc import Iterator

import numpy as np

from skipdit_cli.errors import UsageError


def frames(
    reference: np.ndarray, sample: np.ndarray, *, smallest: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The frames of the two, side by side; an image is one frame.

    Args:
        reference: uint8 [H,W,3] or [T,H,W,3].
        sample: the same.
        smallest: the least height and width a frame may have.

    Raises:
        UsageError: the two do not correspond, are not images or clips, or are too small.
    """
    if (reference.shape, reference.dtype) != (sample.shape, sample.dtype):
        raise UsageError(
            f"{_text(sample)} cannot be compared with {_text(reference)}",
            fix="a sample and its reference have the same size, length and type",
        )
    if sample.dtype != np.uint8 or sample.ndim not in (3, 4) or sample.shape[-1] != 3:
        raise UsageError(
            f"{_text(sample)} is neither an image nor a clip",
            fix="an image is uint8 [H,W,3], a clip uint8 [T,H,W,3]",
        )
    height, width = sample.shape[-3:-1]
    if min(height, width) < smallest or 0 in sample.shape:
        raise UsageError(
            f"{_text(sample)} is too small", fix=f"height and width are at least {smallest}"
        )
    size = (-1, height, width, 3)
    return zip(reference.reshape(size), sample.reshape(size), strict=True)


def _text(array: np.ndarray) -> str:
    return f"{array.dtype} [{','.join(map(str, array.shape))}]"
