"""The npz of the ADM evaluator: read in place, written for others, refused where it is none."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from skipdit_cli.errors import IncompleteError, StoreError, UsageError
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.storage.npz import NpzSamples, statistics, write_npz
from skipdit_cli.storage.store import open_store

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_are_read_from_both_kinds_of_file(tmp_path, save):
    save(tmp_path / "a.npz", mu=np.zeros(3), arr_0=IMAGES, arr_1=np.arange(5))
    samples = NpzSamples(tmp_path / "a.npz")
    assert len(samples) == 5
    for i in (4, 0, 2):
        np.testing.assert_array_equal(samples.read(i), IMAGES[i])
        assert samples.meta(i) == {"class": i}


def test_a_file_without_labels_and_in_the_other_order(tmp_path):
    np.savez(tmp_path / "a.npz", arr_0=np.asfortranarray(IMAGES))
    samples = NpzSamples(tmp_path / "a.npz")
    np.testing.assert_array_equal(samples.read(3), IMAGES[3])
    assert samples.meta(3) == {}


def test_hashes_follow_the_file(tmp_path):
    np.savez(tmp_path / "a.npz", arr_0=IMAGES)
    np.savez(tmp_path / "b.npz", arr_0=255 - IMAGES)
    a, b = NpzSamples(tmp_path / "a.npz"), NpzSamples(tmp_path / "b.npz")
    assert len(set(a.hashes(5))) == 5
    assert not set(a.hashes(5)) & set(b.hashes(5))


class Bomb:
    def __reduce__(self):
        return open, ("exploded", "w")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"arr_0": IMAGES.astype(np.float32)}, r"arr_0 is float32 \[5, 6, 4, 3\]"),
        ({"arr_0": IMAGES[..., :2]}, r"arr_0 is uint8 \[5, 6, 4, 2\]"),
        ({"images": IMAGES}, "is no npz with images in arr_0"),
        ({"arr_0": np.array([Bomb()], dtype=object)}, "is no npz with images in arr_0"),
    ],
)
def test_other_content_is_refused(tmp_path, monkeypatch, content, problem):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(UsageError, match=rf"a\.npz: {problem}"):
        NpzSamples(tmp_path / "a.npz")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["mu", "sigma", "arr_1"])
def test_no_code_of_statistics_and_labels_is_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    sound = {"arr_0": IMAGES, "arr_1": np.arange(5), "mu": np.zeros(1), "sigma": np.eye(1)}
    np.savez(tmp_path / "a.npz", **sound | {name: np.array([Bomb()], dtype=object)})
    with pytest.raises((UsageError, ValueError)):  # noqa: PT012
        statistics(tmp_path / "a.npz", "mu", "sigma")
        NpzSamples(tmp_path / "a.npz").meta(0)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("damage", [b"", b"no zip", None])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "a.npz"
    np.savez(path, arr_0=IMAGES)
    path.write_bytes(path.read_bytes()[:200] if damage is None else damage)
    with pytest.raises(UsageError, match=r"a\.npz: is no npz"):
        NpzSamples(path)
    with pytest.raises(UsageError, match=r"absent\.npz: cannot be read"):
        NpzSamples(tmp_path / "absent.npz")


def test_statistics(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, mu=np.arange(3, dtype=np.float32), sigma=np.eye(3), mu_s=np.zeros(2))
    mean, covariance = statistics(path, "mu", "sigma")
    assert (mean.dtype, covariance.dtype) == (np.float64, np.float64)
    np.testing.assert_array_equal(mean, [0, 1, 2])
    assert statistics(path, "mu_s", "sigma_s") is None
    with pytest.raises(UsageError, match="do not fit"):
        statistics(path, "mu_s", "sigma")
    with (tmp_path / "b.npz").open("wb") as file:
        pickle.dump({"mu": 1}, file)
    with pytest.raises(UsageError, match=r"b\.npz: cannot be read"):
        statistics(tmp_path / "b.npz", "mu", "sigma")


def test_what_is_written_is_what_was_made(tmp_path):
    run = make_run("digits", "none", {"num_samples": 5})
    store = open_store(tmp_path, run)
    for i, image in enumerate(IMAGES):
        store.write(i, image, meta={"class": 9 - i})
    write_npz(tmp_path / "out" / "a.npz", store, 5)
    with np.load(tmp_path / "out" / "a.npz") as content:  # as the evaluator reads it
        np.testing.assert_array_equal(content["arr_0"], IMAGES)
        np.testing.assert_array_equal(content["arr_1"], [9, 8, 7, 6, 5])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.npz"]
    with pytest.raises(IncompleteError):
        write_npz(tmp_path / "b.npz", open_store(tmp_path, replace(run, num_samples=6)), 6)
    assert not (tmp_path / "b.npz").exists()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file: a file is where a folder should be"):
        write_npz(tmp_path / "file" / "a.npz", store, 5)


def test_a_sample_that_cannot_be_read_leaves_no_torn_npz(tmp_path):
    store = open_store(tmp_path / "results", make_run("digits", "none", {"num_samples": 5}))
    for i, image in enumerate(IMAGES):
        store.write(i, image, meta={})
    store.require = lambda n: None  # it is damaged only afterwards
    store.file(3).write_bytes(b"?")
    with pytest.raises(StoreError, match=r"000003\.png: the file is damaged"):
        write_npz(tmp_path / "out" / "a.npz", store, 5)
    assert list((tmp_path / "out").iterdir()) == []


def test_clips_have_no_npz(tmp_path):
    run = make_run("moving-digits", "none", {"num_samples": 1})
    store = open_store(tmp_path, run)
    store.write(0, IMAGES, meta={})
    with pytest.raises(UsageError, match="an npz holds images, not clips"):
        write_npz(tmp_path / "a.npz", store, 1)
