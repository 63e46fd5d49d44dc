"""Scores of single samples, as they are on disk."""

import pytest

from skipdit_cli.recipe.runs import make_run
from skipdit_cli.report.scores import of_samples, picks
from skipdit_cli.storage.results import Result, write_result


def test_of_equal_samples_the_first_is_the_worst_and_the_first_the_best():
    assert picks([2.0, 1.0, 1.0, 2.0], better="higher") == {"worst": 1, "median": 2, "best": 0}
    assert picks([5.0], better="lower") == {"worst": 0, "median": 0, "best": 0}


@pytest.fixture
def kept(tmp_path):
    """kept(metric, scores): a result on disk."""
    run = make_run("digits-skip", "fora", {"num_samples": 3, "steps": 4})

    def keep(metric, scores):
        value = None if scores is None else 1.0
        result = Result(metric=metric, value=value, unit="", n=3, run=run.key, scores=scores)
        write_result(tmp_path, result)

    return run, keep


def test_metrics_of_samples_are_read_and_others_are_not(kept, tmp_path):
    run, keep = kept
    assert of_samples(run, tmp_path, 3) == {}
    keep("ssim", (0.1, 0.2, 0.3))
    keep("psnr", (1.0, 2.0, 3.0))
    keep("fid", None)
    keep("latency", (1.0, 2.0, 3.0))  # of repetitions
    keep("lpips", (1.0, 2.0))  # of fewer samples
    assert of_samples(run, tmp_path, 3) == {"psnr": (1.0, 2.0, 3.0), "ssim": (0.1, 0.2, 0.3)}
    assert of_samples(run, tmp_path, 2)["psnr"] == (1.0, 2.0)
