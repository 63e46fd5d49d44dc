"""Features of images and clips on a toy classifier."""

import gc
import weakref

import numpy as np
import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import _embedded


def test_images_are_scaled_to_minus_one_to_one(toy, grey):
    features = _embedded.image_features(toy, np.stack([grey(0), grey(255), grey(51)]))
    assert features.shape == (3, 64)
    np.testing.assert_allclose(features[:, 0], [-1, 1, -0.6], atol=1e-6)
    np.testing.assert_allclose(features[:, 1], [1, -1, 0.6], atol=1e-6)


def test_many_images_go_through_the_network_in_chunks(toy, grey):
    seen, features = [], toy.features
    toy.features = lambda images: seen.append(len(images)) or features(images)
    images = np.stack([grey(i % 256) for i in range(_embedded.CHUNK + 5)])
    whole = _embedded.image_features(toy, images)
    assert seen == [_embedded.CHUNK, 5]
    np.testing.assert_allclose(whole[:, 0], images[:, 0, 0, 0] / 127.5 - 1, atol=1e-6)


def test_clips_are_described_by_mean_and_motion(toy, grey):
    back_and_forth = np.stack([grey(0), grey(255), grey(0), grey(255)])
    still = np.stack([grey(255)] * 4)
    once = np.stack([grey(0), grey(0), grey(0), grey(255)])
    features = _embedded.clip_features(toy, np.stack([back_and_forth, still, once]))
    assert features.shape == (3, 128)
    np.testing.assert_allclose(features[:, 0], [0, 1, -0.5], atol=1e-6)
    np.testing.assert_allclose(features[:, 64], [2, 0, 2 / 3], atol=1e-6)
    np.testing.assert_allclose(features[:, 65], [2, 0, 2 / 3], atol=1e-6)  # no sign
    np.testing.assert_array_equal(features[:, 66:], 0)


def test_motion_is_that_of_single_features(toy, grey):
    a, b = np.stack([grey(0), grey(255)]), np.stack([grey(255), grey(0)])
    features = _embedded.clip_features(toy, np.stack([a, b]))
    np.testing.assert_array_equal(features[0], features[1])  # played backwards, the same


def test_batches_keep_order_and_lose_nothing(grey):
    samples = [grey(i) for i in range(150)]
    batches = list(_embedded.batches(iter(samples), metric="fid@digits", kind="images"))
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

    count = sum(
        len(batch) for batch in _embedded.batches(produce(), metric="fid@digits", kind="images")
    )
    gc.collect()
    assert count == 1000
    assert most <= 2 * _embedded.BATCH + 2
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
        list(_embedded.batches([np.zeros(shape, np.uint8)], metric="fid@digits", kind=kind))


def test_every_data_has_samples_of_its_size():
    made = {side: np.zeros((side, side, 3), np.uint8) for side in (16, 32)}
    for name, side in (("digits", 16), ("fashion", 32)):
        [batch] = _embedded.batches([made[side]], metric=f"fid@{name}", kind="images")
        assert batch.shape == (1, 1, side, side, 3)
        said = f"it takes the {side}x{side} images of the embedded models of {name}"
        with pytest.raises(UsageError, match=said):
            list(_embedded.batches([made[48 - side]], metric=f"fid@{name}", kind="images"))
