"""Accuracy@digits on a toy classifier, by hand."""

import numpy as np
import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import accuracy_at_digits


def digit(class_, level=255):
    """An image the toy takes for `class_`."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[class_] = level
    return image


def test_the_share_of_right_classes(embedded):
    samples = (digit(class_) for class_ in (3, 1, 4, 9))
    assert accuracy_at_digits.score_set(samples, iter([3, 1, 5, 9])) == 0.75


def test_classes_stay_with_their_samples_across_batches(embedded):
    classes = [i % 10 for i in range(150)]
    asked = [*classes[:149], 8]  # the last one is a 9
    value = accuracy_at_digits.score_set((digit(c) for c in classes), iter(asked))
    assert value == pytest.approx(149 / 150)


def test_a_clip_goes_by_its_mean_logits(embedded):
    clip = np.stack([digit(4, 110)] * 3)  # likeliest in the mean, though in no frame
    clip[:2, 1] = 120  # what most frames say
    clip[2, 2] = 255  # what the surest frame says
    assert accuracy_at_digits.score_set([clip] * 3, [4, 1, 2]) == pytest.approx(1 / 3)
    assert accuracy_at_digits.score_set([clip], [4]) == 1


def test_samples_without_class(embedded):
    with pytest.raises(UsageError, match="needs the class of every sample"):
        accuracy_at_digits.score_set([digit(0), digit(1)], [0, None])


def test_no_samples(embedded):
    with pytest.raises(UsageError, match="no samples"):
        accuracy_at_digits.score_set([], [])
