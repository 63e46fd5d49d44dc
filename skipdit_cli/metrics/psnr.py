"""Peak signal-to-noise ratio against the uncached sample, in dB.

Per frame 10 log10(1 / MSE), with the MSE over height, width and RGB at data range 1; the score of
a clip is the plain mean over its frames. A frame whose MSE is below 1e-10 scores 100, not infinity.

Source: VideoSys eval/pab/common_metrics (after JunyaoHu/common_metrics_on_video_quality). Its mean
over batches of 16, which gives a short last batch the weight of a full one, is not repeated here.
"""

import math

import numpy as np

from skipdit_cli.metrics import _pairs

NAME = "psnr"
LABEL = "PSNR"
UNIT = "dB"
BETTER = "higher"
NEEDS = "pairs"
TASKS = ("c2i", "c2v", "t2v", "t2i")
VERSION = 1
PROTOCOL = "VideoSys eval/pab, plain mean"

IDENTICAL = 100.0  # dB, for an MSE below SMALLEST_MSE
SMALLEST_MSE = 1e-10


def score(reference: np.ndarray, sample: np.ndarray) -> float:
    """PSNR in dB of a sample: uint8 [H,W,3] or [T,H,W,3], both the same.

    Raises:
        UsageError: the two do not have the same shape.
    """
    return float(np.mean([_frame(a, b) for a, b in _pairs.frames(reference, sample)]))


def _frame(reference: np.ndarray, sample: np.ndarray) -> float:
    difference = reference.astype(np.int32) - sample  # integers, so the sum of squares is exact
    mse = float(np.mean(difference * difference)) / 255**2
    return IDENTICAL if mse < SMALLEST_MSE else -10 * math.log10(mse)
