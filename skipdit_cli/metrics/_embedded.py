"""What the embedded classifiers see in samples: shared by the metrics of the data they know.

An image [side,side,3] is scaled to [-1,1] (it is grey, so one channel says all) and described by
the 64 features of the classifier. A clip is described by 128 numbers: the mean of these features
over its frames (what is shown), and the mean absolute difference of consecutive frames (how it
moves). Which classifier it is, the name of the metric says: `fid@digits`, `fid@fashion`.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from skipdit_cli.checkpoints.card import DIGITS, FASHION, data_of
from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import Meta, _frechet

if TYPE_CHECKING:  # torch takes seconds, and a report asks for a metric's name and kind alone
    from torch import Tensor

SIDES = {DIGITS: 16, FASHION: 32}  # pixels, height and width
IMAGE_FEATURES = 64
CLIP_FEATURES = 2 * IMAGE_FEATURES
BATCH = 64  # samples
CHUNK = 1024  # images in the network at once
FRAMES = {"images": range(1, 2), "clips": range(2, 10**6), "images or clips": range(1, 10**6)}


class Classifier(Protocol):
    """What is needed of the network; images are [N,1,side,side] in [-1,1]."""

    def features(self, images: "Tensor") -> "Tensor": ...  # [N,64]

    def __call__(self, images: "Tensor") -> "Tensor": ...  # logits [N,10]


def distance(samples: Iterable[np.ndarray], *, metric: str) -> float:
    """The Frechet distance of images from the real ones, covariances with ddof 1.

    Args:
        samples: uint8 [side,side,3], read only once.
        metric: its name, which says the data.

    Raises:
        UsageError: the samples are not images of this size, or there are fewer than two.
    """
    from skipdit_cli.embedded import reference_statistics
    from skipdit_cli.embedded.classifier import load_classifier

    classifier = load_classifier(data_of(metric))
    statistics = _frechet.Statistics(IMAGE_FEATURES)
    for images in batches(samples, metric=metric, kind="images"):
        statistics.update(image_features(classifier, images[:, 0]))
    mean, covariance, _ = reference_statistics(data_of(metric))
    return _frechet.distance(statistics.moments(ddof=1), (mean, covariance))


def accuracy(
    samples: Iterable[np.ndarray],
    metas: Iterable[Meta],
    *,
    metric: str,
    kind: str,
    asked: Callable[[Meta], int],
) -> float:
    """The share of samples, 0 to 1, that are taken for what was asked for.

    Args:
        samples: uint8 [side,side,3] or clips [T,side,side,3], read only once.
        metas: what was asked for, in the order of the samples.
        metric: its name, which says the data.
        kind: what it takes, a key of FRAMES.
        asked: the class that a meta asks for; raises a UsageError where it asks for none.

    Raises:
        UsageError: the samples have another size, or there are none.
    """
    from skipdit_cli.embedded.classifier import load_classifier

    classifier = load_classifier(data_of(metric))
    classes: list[int] = []
    predicted: list[int] = []

    def remember() -> Iterator[np.ndarray]:
        for sample, meta in zip(samples, metas, strict=True):
            classes.append(asked(meta))
            yield sample

    for clips in batches(remember(), metric=metric, kind=kind):
        predicted += predicted_classes(classifier, clips).tolist()
    if not classes:
        raise UsageError(f"{metric} has no samples to score", fix="generate at least one")
    return float(np.mean(np.equal(classes, predicted)))


def image_features(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """Features of images: uint8 [N,side,side,3] -> float32 [N,64]."""
    import torch

    with torch.inference_mode():
        parts = [classifier.features(part) for part in _inputs(images).split(CHUNK)]
        return torch.cat(parts).numpy()


def clip_features(classifier: Classifier, clips: np.ndarray) -> np.ndarray:
    """Features of clips: uint8 [N,T,side,side,3], T at least 2 -> float32 [N,128]."""
    frames = image_features(classifier, clips.reshape(-1, *clips.shape[2:]))
    frames = frames.reshape(*clips.shape[:2], -1)  # [N,T,64]
    motion = np.abs(np.diff(frames, axis=1))  # [N,T-1,64]
    return np.concatenate([frames.mean(axis=1), motion.mean(axis=1)], axis=1)


def predicted_classes(classifier: Classifier, clips: np.ndarray) -> np.ndarray:
    """The likeliest class of clips, by the mean logits: uint8 [N,T,side,side,3] -> int [N]."""
    import torch

    with torch.inference_mode():
        logits = classifier(_inputs(clips.reshape(-1, *clips.shape[2:])))  # [N*T,10]
    return logits.unflatten(0, clips.shape[:2]).mean(dim=1).argmax(dim=1).numpy()


def batches(samples: Iterable[np.ndarray], *, metric: str, kind: str) -> Iterator[np.ndarray]:
    """Samples in batches, uint8 [N,T,side,side,3]; T is 1 for images [side,side,3].

    Args:
        metric: who asks, which says the data.
        kind: what it takes, a key of FRAMES.

    Raises:
        UsageError: a sample is something else.
    """
    data, rest = data_of(metric), iter(samples)
    side = SIDES[data]
    while batch := list(islice(rest, BATCH)):
        clips = [sample if sample.ndim == 4 else sample[None] for sample in batch]
        for clip in clips:
            if clip.shape[1:] != (side, side, 3) or len(clip) not in FRAMES[kind]:
                raise UsageError(
                    f"{metric} cannot score a sample of {_text(clip)}",
                    fix=f"it takes the {side}x{side} {kind} of the embedded models of {data}",
                )
        yield np.stack(clips)


def _text(clip: np.ndarray) -> str:
    frames, height, width = clip.shape[:3]
    return f"{height}x{width}" if frames == 1 else f"{frames} frames of {height}x{width}"


def _inputs(images: np.ndarray) -> "Tensor":
    import torch

    grey = torch.from_numpy(np.ascontiguousarray(images[..., 0]))  # [N,side,side]
    return (grey.float() / 127.5 - 1).unsqueeze(1)  # [N,1,side,side]
