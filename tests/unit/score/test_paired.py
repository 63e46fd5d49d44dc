"""Runs compared sample by sample, in real stores with samples whose scores are known."""

from dataclasses import replace

import numpy as np
import pytest

from skipdit_cli import registry
from skipdit_cli.errors import UsageError
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.score.measure import measure
from skipdit_cli.score.paired import called, compare, compare_folders
from skipdit_cli.storage.store import open_store

SETTINGS = {"sampler": "ddim", "steps": "20", "guidance": None, "num_samples": 8}
ONE, TWO, THREE = (
    make_run("digits-skip", f"skip-cache(n={n},window=1000-20)", SETTINGS) for n in (2, 3, 4)
)
LEVELS = {ONE.key: range(1, 9), TWO.key: range(2, 10), THREE.key: (9, 1, 8, 2, 7, 3, 6, 4)}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Three runs whose score is the level of a sample, and their reference."""
    fill(tmp_path, ONE.reference, [0] * 8)
    for run in (ONE, TWO, THREE):
        fill(tmp_path, run, LEVELS[run.key])
    module = registry.load("metrics", "psnr")
    monkeypatch.setattr(module, "score", lambda reference, sample: float(sample.flat[0]))
    return tmp_path


def fill(root, run, levels):
    store = open_store(root, run)
    for i, level in enumerate(levels):
        store.write(i, np.full((16, 16, 3), level, np.uint8), meta={"class": i})


def compared(root, *runs):
    return compare(runs, ["psnr"], lambda run, name: measure(run, name, root=root))


def test_every_two_by_hand(study):
    first, second, third = compared(study, ONE, TWO, THREE)
    assert (first.first, first.second) == (ONE.cache.short, TWO.cache.short)
    assert first.means == (4.5, 5.5)
    assert first.difference.mean == -1
    assert first.difference.interval == (-1, -1)
    assert first.difference.p == pytest.approx(2 / 2**8)  # one below in all: no other signs do
    assert first.p_holm == pytest.approx(3 * 2 / 2**8)
    assert first.better == "second"  # a higher PSNR
    assert (second.second, third.second) == (THREE.cache.short, THREE.cache.short)
    assert (second.better, third.better) == ("", "")


def test_the_samples_that_both_have_are_compared(study):
    shorter = replace(ONE, num_samples=3)
    (found,) = compared(study, shorter, TWO)
    assert (found.difference.n, found.means) == (3, (2, 3))


def test_a_metric_of_a_set_does_not_pair(study):
    with pytest.raises(UsageError, match=r"^--metric: fid scores a set as a whole"):
        compare([ONE, TWO], ["fid"], lambda run, name: measure(run, name, root=study))


def test_other_noise_does_not_pair(study):
    other = make_run("digits-skip", str(TWO.cache), {**SETTINGS, "seed": 1})
    with pytest.raises(UsageError, match=r"do not pair: their seed differ"):
        compared(study, ONE, other)
    with pytest.raises(UsageError, match=r"do not pair: their seeds differ"):
        compared(study, ONE, replace(TWO, seeds=(0, 1)))


def test_the_uncached_run_is_what_the_others_are_compared_with(study):
    with pytest.raises(UsageError, match=r"^none cannot be compared in psnr: what the other runs"):
        compared(study, ONE.reference, ONE)


def test_runs_of_one_name_are_told_apart_by_their_keys():
    other = make_run("digits-skip", str(ONE.cache), {**SETTINGS, "seed": 1})
    names = called([ONE, other])
    assert names == {run.key: f"{ONE.cache.short} [{run.key[:6]}]" for run in (ONE, other)}


def test_two_folders_are_compared_by_what_their_runs_are(study, tmp_path):
    other = tmp_path / "other"
    changed = replace(
        ONE, weights="00", names=("a",)
    )  # as another version of the code, or of the weights
    fill(other, changed.reference, [0] * 8)
    fill(other, changed, range(3, 11))
    measure(ONE, "psnr", root=study)
    measure(changed, "psnr", root=other)
    (found,) = compare_folders(study, other, ())  # whatever samples are called
    assert (found.metric, found.difference.mean, found.better) == ("psnr", -2, "second")
    with pytest.raises(UsageError, match="no run is scored sample by sample in both"):
        compare_folders(study, other, ["ssim"])
