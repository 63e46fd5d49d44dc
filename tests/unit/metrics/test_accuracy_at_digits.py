"""Accuracy@digits on a toy classifier, by hand."""

import numpy as np
import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import accuracy_at_digits


def asked(*classes):
    return [{"class": class_} for class_ in classes]


def digit(class_, level=255):
    """An image the toy takes for `class_`."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[class_] = level
    return image


def test_the_share_of_right_classes(embedded):
    samples = (digit(class_) for class_ in (3, 1, 4, 9))
    assert accuracy_at_digits.score_set(samples, iter(asked(3, 1, 5, 9))) == 0.75


def test_classes_stay_with_their_samples_across_batches(embedded):
    classes = [i % 10 for i in range(150)]
    metas = asked(*classes[:149], 8)  # the last one is a 9
    value = accuracy_at_digits.score_set((digit(c) for c in classes), iter(metas))
    assert value == pytest.approx(149 / 150)


def test_a_clip_goes_by_its_mean_logits(embedded):
    clip = np.stack([digit(4, 110)] * 3)  # likeliest in the mean, though in no frame
    clip[:2, 1] = 120  # what most frames say
    clip[2, 2] = 255  # what the surest frame says
    assert accuracy_at_digits.score_set([clip] * 3, asked(4, 1, 2)) == pytest.approx(1 / 3)
    assert accuracy_at_digits.score_set([clip], asked(4)) == 1


def test_a_prompt_names_the_digit(embedded):
    metas = [{"prompt": f"a {word} moving up"} for word in ("three", "one", "nine")]
    assert accuracy_at_digits.score_set([digit(c) for c in (3, 1, 4)], metas) == pytest.approx(
        2 / 3
    )


@pytest.mark.parametrize("meta", [{}, {"prompt": "a stop sign"}])
def test_samples_without_a_digit_asked_for(embedded, meta):
    with pytest.raises(UsageError, match="needs the digit that every sample was to show"):
        accuracy_at_digits.score_set([digit(0), digit(1)], [{"class": 0}, meta])


def test_no_samples(embedded):
    with pytest.raises(UsageError, match="no samples"):
        accuracy_at_digits.score_set([], [])
