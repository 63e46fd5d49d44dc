"""PSNR on pictures whose error is known."""

import math

import numpy as np
import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import psnr


def grey(level, *shape):
    return np.full((*shape, 3), level, np.uint8)


@pytest.mark.parametrize(
    ("a", "b", "db"),
    [
        (0, 255, 0.0),  # MSE 1
        (255, 0, 0.0),  # and not what uint8 makes of 0 - 255
        (100, 151, 20 * math.log10(5)),  # MSE (51/255)^2 = 1/25
        (200, 200, 100.0),
    ],
)
def test_a_constant_error(a, b, db):
    assert psnr.score(grey(a, 4, 6), grey(b, 4, 6)) == pytest.approx(db, abs=1e-12)


def test_a_clip_scores_the_mean_of_its_frames():
    reference = grey(0, 2, 4, 4)
    clip = np.stack([grey(255, 4, 4), grey(0, 4, 4)])  # 0 dB and 100 dB
    assert psnr.score(reference, clip) == pytest.approx(50)


@pytest.mark.parametrize(("size", "capped"), [(200, False), (250, True)])
def test_an_mse_below_1e_10_counts_as_identical(size, capped):
    reference, sample = grey(7, size, size), grey(7, size, size)
    sample[3, 4, 1] += 1
    mse = 1 / (size * size * 3 * 255**2)
    assert (mse < 1e-10) == capped
    assert psnr.score(reference, sample) == pytest.approx(100 if capped else -10 * math.log10(mse))


@pytest.mark.parametrize(
    ("reference", "sample", "words"),
    [
        (grey(0, 4, 4), grey(0, 4, 5), "uint8 [4,5,3] cannot be compared with uint8 [4,4,3]"),
        (grey(0, 4, 4), grey(0, 1, 4, 4), "uint8 [1,4,4,3] cannot be compared"),
        (grey(0, 4, 4), grey(0, 4, 4) / 255, "float64 [4,4,3] cannot be compared"),
        (grey(0, 4, 4) / 255, grey(0, 4, 4) / 255, "neither an image nor a clip"),
        (grey(0, 4), grey(0, 4), "neither an image nor a clip"),
        (grey(0, 0, 4, 4), grey(0, 0, 4, 4), "too small"),
    ],
)
def test_what_cannot_be_compared(reference, sample, words):
    with pytest.raises(UsageError, match=r"^[^\n]+$") as caught:
        psnr.score(reference, sample)
    assert words in str(caught.value)
