"""FVD@digits on a toy classifier, by hand."""

import numpy as np
import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import fvd_at_digits

MOVING, STILL = (0, 255), (255, 255)  # means 0 and 1, motion 2 and 0


def reference(mean, motion):
    m = np.zeros(128)
    m[[0, 1, 64, 65]] = mean, -mean, motion, motion
    return m, np.zeros((128, 128)), 1000


def clip(grey, levels):
    return np.stack([grey(level) for level in levels])


def test_by_hand(embedded, grey):
    # against a point at their own mean the distance is the trace of the covariance, which with
    # ddof 0 is 1/4 for the means and 1 for the motion, each twice
    embedded["moving-digits"] = reference(0.5, 1)
    clips = [clip(grey, MOVING), clip(grey, STILL)]
    assert fvd_at_digits.score_set(iter(clips), [{}] * 2) == pytest.approx(2.5, rel=1e-6)


def test_motion_alone_is_seen(embedded, grey):
    embedded["moving-digits"] = reference(0, 2)
    flicker, frozen = clip(grey, (0, 255, 0, 255)), clip(grey, (127, 128, 127, 128))
    assert fvd_at_digits.score_set([flicker] * 3, [{}] * 3) == pytest.approx(0, abs=1e-9)
    far = fvd_at_digits.score_set([frozen] * 3, [{}] * 3)
    assert far == pytest.approx(2 * (2 - 1 / 127.5) ** 2, rel=1e-6)


def test_images_are_refused(embedded, grey):
    with pytest.raises(UsageError, match="fvd@digits cannot score a sample of 16x16"):
        fvd_at_digits.score_set([grey(0)] * 2, [{}, {}])
