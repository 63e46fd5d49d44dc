"""A classifier simple enough to work out what the metrics of embedded data make of it."""

import sys
from types import ModuleType

import numpy as np
import pytest
from torch import nn


class Toy(nn.Module):
    """Feature 0 is the mean grey value, feature 1 its negative; the logit of class c is the mean
    of row c; all of them in [-1,1]. Images are as large as its data's."""

    def __init__(self, side=16):
        super().__init__()
        self.side = side

    def features(self, images):
        assert images.shape[1:] == (1, self.side, self.side)
        features = images.new_zeros(len(images), 64)
        features[:, 0] = images.mean(dim=(1, 2, 3))
        features[:, 1] = -features[:, 0]
        return features

    def forward(self, images):
        return images[:, 0, :10].mean(dim=-1)


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def embedded(monkeypatch, toy):
    """Puts the toy in the classifier's place; returns {name: (mean, covariance, n)} to fill."""
    statistics = {}
    package, classifier = ModuleType("embedded"), ModuleType("classifier")
    package.reference_statistics = statistics.__getitem__
    classifier.load_classifier = {"digits": toy, "fashion": Toy(32)}.__getitem__
    monkeypatch.setitem(sys.modules, "skipdit_cli.embedded", package)
    monkeypatch.setitem(sys.modules, "skipdit_cli.embedded.classifier", classifier)
    return statistics


@pytest.fixture
def grey():
    """A grey image whose green and blue are something else, which must not matter."""

    def make(level, side=16):
        image = np.full((side, side, 3), 77, np.uint8)
        image[..., 0] = level
        return image

    return make
