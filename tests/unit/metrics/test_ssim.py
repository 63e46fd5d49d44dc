"""SSIM on flat pictures, where only its luminance term is left, and against its definition."""

import numpy as np
import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import ssim


def flat(rgb, *shape):
    return np.broadcast_to(np.array(rgb, np.uint8), (*shape, 3)).copy()


def luminance(a, b):
    c1 = (0.01 * 255) ** 2
    return (2 * a * b + c1) / (a * a + b * b + c1)


def test_flat_pictures_leave_the_luminance_term():
    ours = ssim.score(flat((100,) * 3, 16, 16), flat((150,) * 3, 16, 16))
    assert ours == pytest.approx(luminance(100, 150), abs=1e-9)


def test_colours_are_scored_one_by_one():
    ours = ssim.score(flat((0, 50, 100), 12, 12), flat((255, 50, 150), 12, 12))
    expected = np.mean([luminance(0, 255), 1, luminance(100, 150)])
    assert ours == pytest.approx(expected, abs=1e-9)


def test_a_clip_scores_the_mean_of_its_frames():
    black, white = flat((0,) * 3, 12, 12), flat((255,) * 3, 12, 12)
    ours = ssim.score(np.stack([black, black]), np.stack([black, white]))
    assert ours == pytest.approx((1 + luminance(0, 255)) / 2, abs=1e-9)


def test_one_window_follows_the_definition():
    random = np.random.default_rng(0)
    a, b = random.integers(0, 256, (2, 11, 11, 3), dtype=np.uint8)
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line)[..., None] / np.outer(line, line).sum()
    x, y = a.astype(float), b.astype(float)
    mx, my = (weights * x).sum((0, 1)), (weights * y).sum((0, 1))
    vx, vy = (weights * (x - mx) ** 2).sum((0, 1)), (weights * (y - my) ** 2).sum((0, 1))
    covariance = (weights * (x - mx) * (y - my)).sum((0, 1))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * mx * my + c1) * (2 * covariance + c2)
    expected /= (mx**2 + my**2 + c1) * (vx + vy + c2)
    assert ssim.score(a, b) == pytest.approx(expected.mean(), abs=1e-9)


def test_windows_that_leave_the_frame_do_not_count():
    reference = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    sample = 255 - reference  # mirrored or padded borders would change the mean
    inner = [
        ssim.score(reference[i : i + 11, j : j + 11], sample[i : i + 11, j : j + 11])
        for i in range(14)
        for j in range(14)
    ]
    assert ssim.score(reference, sample) == pytest.approx(np.mean(inner), abs=1e-9)


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (4, 10, 10)])
def test_smaller_than_the_window(shape):
    picture = flat((1, 2, 3), *shape)
    with pytest.raises(UsageError, match="too small; height and width are at least 11"):
        ssim.score(picture, picture)


def test_shapes_must_agree():
    with pytest.raises(UsageError, match=r"\[12,13,3\] cannot be compared with uint8 \[12,12,3\]"):
        ssim.score(flat((0,) * 3, 12, 12), flat((0,) * 3, 12, 13))
