"""Structural similarity to the uncached sample, at most 1.

    (2 ma mb + C1) (2 cab + C2) / ((ma^2 + mb^2 + C1) (ca + cb + C2))

Wang et al. 2004, with the means, variances and covariance of an 11x11 Gaussian window of sigma 1.5,
population covariance, C1 = (0.01 * 255)^2, C2 = (0.03 * 255)^2, windows that lie within the frame
only; the mean over windows, then over R, G and B, then over the frames of a clip.

Source: VideoSys eval/pab/common_metrics, whose numbers scikit-image gives with these arguments.
"""

import numpy as np

from skipdit_cli.metrics import _pairs

NAME = "ssim"
LABEL = "SSIM"
UNIT = ""
BETTER = "higher"
NEEDS = "pairs"
TASKS = ("c2i", "c2v", "t2v", "t2i")
VERSION = 1
PROTOCOL = "VideoSys eval/pab, plain mean"

WINDOW = 11  # pixels; what scikit-image makes of sigma 1.5


def score(reference: np.ndarray, sample: np.ndarray) -> float:
    """SSIM of a sample: uint8 [H,W,3] or [T,H,W,3], both the same, H and W at least 11.

    Raises:
        UsageError: the two do not have the same shape, or are smaller than the window.
    """
    pairs = _pairs.frames(reference, sample, smallest=WINDOW)
    return float(np.mean([_frame(a, b) for a, b in pairs]))


def _frame(reference: np.ndarray, sample: np.ndarray) -> float:
    from skimage.metrics import structural_similarity  # with scipy, which reports do not need

    return structural_similarity(
        reference,
        sample,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=-1,
    )
