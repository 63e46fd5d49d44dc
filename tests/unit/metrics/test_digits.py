"""Features of images and clips on a toy classifier."""

import gc
import weakref

import numpy as np
import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import _digits


def test_images_are_scaled_to_minus_one_to_one(toy, grey):
    features = _digits.image_features(toy, np.stack([grey(0), grey(255), grey(51)]))
    assert features.shape == (3, 64)
    np.testing.assert_allclose(features[:, 0], [-1, 1, -0.6], atol=1e-6)
    np.testing.assert_allclose(features[:, 1], [1, -1, 0.6], atol=1e-6)


def test_many_images_go_through_the_network_in_chunks(toy, grey):
    seen, features = [], toy.features
    toy.features = lambda images: seen.append(len(images)) or features(images)
    images = np.stack([grey(i % 256) for i in range(_digits.CHUNK + 5)])
    whole = _digits.image_features(toy, images)
    assert seen == [_digits.CHUNK, 5]
    np.testing.assert_allclose(whole[:, 0], images[:, 0, 0, 0] / 127.5 - 1, atol=1e-6)


def test_clips_are_described_by_mean_and_motion(toy, grey):
    back_and_forth = np.stack([grey(0), grey(255), grey(0), grey(255)])
    still = np.stack([grey(255)] * 4)
    once = np.stack([grey(0), grey(0), grey(0), grey(255)])
    features = _digits.clip_features(toy, np.stack([back_and_forth, still, once]))
    assert features.shape == (3, 128)
    np.testing.assert_allclose(features[:, 0], [0, 1, -0.5], atol=1e-6)
    np.testing.assert_allclose(features[:, 64], [2, 0, 2 / 3], atol=1e-6)
    np.testing.assert_allclose(features[:, 65], [2, 0, 2 / 3], atol=1e-6)  # no sign
    np.testing.assert_array_equal(features[:, 66:], 0)


def test_motion_is_that_of_single_features(toy, grey):
    a, b = np.stack([grey(0), grey(255)]), np.stack([grey(255), grey(0)])
    features = _digits.clip_features(toy, np.stack([a, b]))
    np.testing.assert_array_equal(features[0], features[1])  # played backwards, the same


def test_batches_keep_order_and_lose_nothing(grey):
    samples = [grey(i) for i in range(150)]
    batches = list(_digits.batches(iter(samples), metric="x", kind="images"))
    assert [len(batch) for batch in batches] == [64, 64, 22]
    np.testing.assert_array_equal(np.concatenate(batches)[:, 0], samples)


def test_samples_are_let_go(grey):
    alive, most = set(), 0

    def produce():
        nonlocal most
        for i in range(1000):
            sample = grey(i % 256)
            alive.add(i)
            weakref.finalize(sample, alive.discard, i)
            most = max(most, len(alive))
            yield sample

    count = sum(len(batch) for batch in _digits.batches(produce(), metric="x", kind="images"))
    gc.collect()
    assert count == 1000
    assert most <= 2 * _digits.BATCH + 2
    assert not alive


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        ((32, 32, 3), "images", "a sample of 32x32; it takes the 16x16 images"),
        ((8, 16, 16, 3), "images", "a sample of 8 frames of 16x16; it takes the 16x16 images"),
        ((16, 16, 3), "clips", "a sample of 16x16; it takes the 16x16 clips"),
        ((1, 16, 16, 3), "clips", "a sample of 16x16; it takes the 16x16 clips"),
        ((8, 16, 20, 3), "images or clips", "8 frames of 16x20; it takes the 16x16 images or"),
    ],
)
def test_samples_of_another_kind(shape, kind, words):
    with pytest.raises(UsageError, match=words):
        list(_digits.batches([np.zeros(shape, np.uint8)], metric="x", kind=kind))
