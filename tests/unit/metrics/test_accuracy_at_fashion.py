"""Accuracy@fashion on a toy classifier, by hand."""

import numpy as np
import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import accuracy_at_fashion


def clothes(class_):
    """An image the toy takes for `class_`."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[class_] = 255
    return image


def test_the_share_of_right_classes(embedded):
    metas = [{"class": class_} for class_ in (3, 1, 5, 9)]
    samples = (clothes(class_) for class_ in (3, 1, 4, 9))
    assert accuracy_at_fashion.score_set(samples, iter(metas)) == 0.75


@pytest.mark.parametrize(
    ("samples", "metas", "said"),
    [
        ([clothes(0)], [{"prompt": "a shirt"}], "needs the class that every sample was to show"),
        ([clothes(0)[:16, :16]], [{"class": 0}], "a sample of 16x16; it takes the 32x32 images"),
        ([np.stack([clothes(0)] * 2)], [{"class": 0}], "a sample of 2 frames of 32x32"),
        ([], [], "no samples"),
    ],
)
def test_what_cannot_be_scored(embedded, samples, metas, said):
    with pytest.raises(UsageError, match=said):
        accuracy_at_fashion.score_set(samples, metas)
