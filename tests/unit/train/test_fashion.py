"""Fashion-MNIST: what is read of its files, what is drawn of it, and the classifier of it."""

import gzip
import json
import struct

import numpy as np
import pytest
import torch

from skipdit_cli import embedded
from skipdit_cli.checkpoints import catalog
from skipdit_cli.embedded import shipped
from skipdit_cli.embedded.classifier import load_classifier
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.train import classifier, fashion
from skipdit_cli.train.source import Drawn

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def test_images_and_labels(clothes):
    pixels, labels = fashion.images("train")
    assert (pixels.shape, pixels.dtype, labels.dtype) == ((20, 28, 28), torch.uint8, torch.int64)
    assert [int(image.min()) for image in pixels] == list(range(100, 120))
    assert labels.tolist() == [*range(10)] * 2


def test_they_lie_in_black(clothes):
    made = fashion.prepared(
        torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None].expand(3, 28, 28)
    )
    assert made.shape == (3, 1, 32, 32)
    inside = made[:, 0, 2:30, 2:30]
    assert torch.allclose(inside.amin((1, 2)), torch.tensor([-1, -0.6, 1]))
    assert torch.allclose(inside.amax((1, 2)), torch.tensor([-1, -0.6, 1]))
    assert (made == -1).sum((1, 2, 3)).tolist() == [32 * 32, *[32 * 32 - 28 * 28] * 2]


def test_a_step_draws_its_own(clothes):
    source = Drawn(catalog.card("fashion"))
    x0, labels = source.batch(3, range(4), size=4, seed=0)
    again, _ = source.batch(3, range(1, 3), size=4, seed=0)
    assert torch.equal(again, x0[1:3])
    levels = ((x0[:, 0, 5, 5] + 1) * 127.5).round().long() - 100
    assert torch.equal(levels % 10, labels)
    assert not torch.equal(x0, source.batch(4, range(4), size=4, seed=0)[0])


def test_without_it(clothes):
    (clothes / LABELS).unlink()
    with pytest.raises(MissingAssetError) as caught:
        Drawn(catalog.card("fashion-skip"))
    assert str(caught.value) == (
        f"training needs Fashion-MNIST, and {LABELS} is not here; "
        f"run `apt install dataset-fashion-mnist`, or put its files into {clothes}"
    )


def packed(content):
    """Without the time, which tests of several processes would be named by."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (IMAGES, b"no gzip", "cannot be read: "),
        (IMAGES, packed(bytes(100))[:-9], "cannot be read: "),
        (IMAGES, packed(b"")[:10] + b"\xff" * 20, "cannot be read: "),
        (IMAGES, packed(b""), "is not whole"),
        (IMAGES, packed(struct.pack(">4I", 0x803, 2, 28, 28) + bytes(28)), "is not whole"),
        (IMAGES, packed(struct.pack(">4I", 0x803, 2, 4, 4) + bytes(32)), "are not 28x28"),
        (LABELS, packed(struct.pack(">2I", 0x803, 20) + bytes(20)), "is not whole"),
        (LABELS, packed(struct.pack(">2I", 0x801, 19) + bytes(19)), "is not of the images"),
        (LABELS, packed(struct.pack(">2I", 0x801, 20) + b"\x0a" * 20), "is not of the"),
    ],
)
def test_a_file_that_is_something_else(clothes, name, content, said):
    (clothes / name).write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        fashion.require()
    assert str(caught.value).startswith(f"{clothes / name}: ")
    assert str(caught.value).endswith("; get Fashion-MNIST again")


def test_its_classifier(clothes, tmp_path, monkeypatch):
    """Weights, statistics of all training images, and how well it knows the test set."""
    losses = []
    out = tmp_path / "made" / "fashion-classifier"
    monkeypatch.setattr(classifier, "BATCH", 8)
    share = classifier.train_fashion(
        out, steps=100, seed=0, command="skipdit train", progress=lambda *told: losses.append(told)
    )
    monkeypatch.setattr(shipped, "embedded", lambda: tmp_path / "made")
    model = load_classifier.__wrapped__("fashion")
    right = [
        int(model(fashion.prepared(image[None])).argmax()) == label
        for image, label in zip(*fashion.images("t10k"), strict=True)
    ]
    assert share == pytest.approx(np.mean(right))
    mean, cov, count = embedded.reference_statistics.__wrapped__("fashion")
    features = model.features(fashion.prepared(fashion.images("train")[0])).numpy()
    assert count == 20
    np.testing.assert_allclose(mean, features.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cov, np.cov(features, rowvar=False, ddof=1), rtol=1e-3, atol=1e-5)
    record = json.loads((out / "training.json").read_text())
    said = {"command": "skipdit train", "seed": 0, "steps": 100, "accuracy_test": share}
    assert said.items() <= record.items()
    assert [step for step, _ in losses] == [100]
