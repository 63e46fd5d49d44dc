"""The latents that a run keeps after every step, and what they say of a cache."""

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest

from skipdit_cli.errors import SkipditWarning
from skipdit_cli.generate.samples import generate
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.samplers import timesteps
from skipdit_cli.storage import trajectory
from skipdit_cli.storage.store import open_store
from skipdit_cli.storage.trajectory import compare

WINDOW = (700, 50)


def told(counts):
    """A stage that notes (finished, wanted) of samples, as it shows them, in a list."""

    @contextmanager
    def stage(what):
        yield lambda *n: counts.append(n) if what.startswith("sampling") else None

    return stage


def planned(cache="none", **settings):
    return make_run(
        "digits-skip", cache, {"steps": "10", "num_samples": 6, "batch_size": 5, **settings}
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A results folder with the uncached reference, an interval of 1 and one of 3."""
    folder = tmp_path_factory.mktemp("results")
    for cache in ("none", "skip-cache(n=1,window=700-50)", "skip-cache(n=3,window=700-50)"):
        generate(planned(cache), folder)
    return folder


def test_a_cache_is_off_from_its_first_reuse_on(root):
    run = planned("skip-cache(n=3,window=700-50)")
    found = compare(run, root=root)
    assert found.timesteps == tuple(timesteps("10"))
    assert found.errors.shape == (4, 10)  # four of a batch of five
    before = [t > WINDOW[0] for t in found.timesteps]
    assert 0 < sum(before) < 10
    assert (found.errors[:, before] == 0).all()
    assert (found.errors[:, -1] > 1e-3).all()
    assert (found.errors < 1).all()


def test_without_reuse_there_is_no_error(root):
    found = compare(planned("skip-cache(n=1,window=700-50)"), root=root)
    assert found.errors.shape == (4, 10)
    assert (found.errors == 0).all()


def test_the_last_state_is_the_sample(root):
    """These models have no autoencoder: a sample is its latents, rounded to 256 levels."""
    store = open_store(root, planned())
    latents, _ = trajectory.read_trajectory(store)
    for i in range(3):
        pixels = store.read(i)[..., 0].ravel()  # a channel of grey
        expected = (latents[i, -1].clip(-1, 1) + 1) * 127.5
        assert np.abs(pixels - expected).max() <= 1


@pytest.mark.parametrize("damage", [None, b"torn"])
def test_a_trajectory_that_is_gone_is_made_again_and_nothing_else(root, damage):
    run, done = planned(), []
    store = open_store(root, run)
    whole = {path: path.read_bytes() for path in store.path.glob("*.[psj]*")}
    assert store.path / trajectory.FILE in whole
    path = store.path / trajectory.FILE
    path.unlink() if damage is None else path.write_bytes(damage)
    with nullcontext() if damage is None else pytest.warns(SkipditWarning, match="not a readable"):
        assert compare(planned("skip-cache(n=3,window=700-50)"), root=root) is None
    stamps = {path: path.stat().st_mtime_ns for path in store.path.glob("*.png")}
    with nullcontext() if damage is None else pytest.warns(SkipditWarning, match="not a readable"):
        generate(run, root, stage=told(done))
    assert done == [(6, 6), (6, 6)]
    assert {path: path.read_bytes() for path in store.path.glob("*.[psj]*")} == whole
    assert {path: path.stat().st_mtime_ns for path in store.path.glob("*.png")} == stamps


def test_what_has_not_run_has_no_curve(tmp_path):
    assert compare(planned("skip-cache(n=2)"), root=tmp_path) is None


def test_the_places_of_large_latents_never_change():
    """Runs of different years are compared at the same places."""
    places = trajectory.places(65536)
    assert len(set(places.tolist())) == len(places) == trajectory.VALUES
    assert places.tolist() == sorted(places.tolist())
    assert places[:5].tolist() == [0, 3, 6, 14, 17]
    assert trajectory.places(7).tolist() == list(range(7))


def test_errors_by_hand(tmp_path):
    """||(3, 4)|| = 5 of a reference ||(6, 8)|| = 10 is 0.5; nothing is 0."""
    cached = planned("skip-cache(n=2)", steps="2")
    reference = np.array([[[6, 8], [0, 2]]], np.float32)  # one sample, two steps, two values
    ours = np.array([[[9, 12], [0, 2]]], np.float32)
    for run, latents in ((cached.reference, reference), (cached, ours)):
        open_store(tmp_path, run).put(*trajectory.file(run, latents))
    found = compare(cached, root=tmp_path)
    assert found.errors.tolist() == [[0.5, 0]]
    assert found.timesteps == (999, 0)
