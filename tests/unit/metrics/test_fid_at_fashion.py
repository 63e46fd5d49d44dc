"""FID@fashion on a toy classifier, by hand."""

import numpy as np
import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import fid_at_fashion


def test_by_hand(embedded, grey):
    """Features +-1 of which the toy has each twice: mean 0 and, with ddof 1, variance 2."""
    mean, cov = np.zeros(64), np.zeros((64, 64))
    mean[:2] = 3, -3
    cov[:2, :2] = np.array([[8, -8], [-8, 8]])
    embedded["fashion"] = mean, cov, 60_000
    embedded["digits"] = None  # these are not looked at
    value = fid_at_fashion.score_set([grey(0, side=32), grey(255, side=32)], [{}, {}])
    assert value == pytest.approx(2 * (3**2 + (np.sqrt(2) - np.sqrt(8)) ** 2), rel=1e-6)


def test_digits_are_refused(embedded, grey):
    embedded["fashion"] = np.zeros(64), np.eye(64), 60_000
    with pytest.raises(UsageError, match="fid@fashion cannot score a sample of 16x16"):
        fid_at_fashion.score_set([grey(0)] * 2, [{}, {}])
