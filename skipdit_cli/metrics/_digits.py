"""Features of the embedded digit classifier: what the `@digits` metrics see in a sample.

An image [16,16,3] is scaled to [-1,1] (it is grey, so one channel says all) and described by the 64
features of the classifier. A clip is described by 128 numbers: the mean of these features over its
frames (what is shown), and the mean absolute difference of consecutive frames (how it moves).
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from skipdit_cli.errors import UsageError

if TYPE_CHECKING:  # torch takes seconds, and a report asks for a metric's name and kind alone
    from torch import Tensor

SIZE = 16  # pixels, height and width
IMAGE_FEATURES = 64
CLIP_FEATURES = 2 * IMAGE_FEATURES
BATCH = 64  # samples
CHUNK = 1024  # images in the network at once
FRAMES = {"images": range(1, 2), "clips": range(2, 10**6), "images or clips": range(1, 10**6)}


class Classifier(Protocol):
    """What is needed of the network; images are [N,1,16,16] in [-1,1]."""

    def features(self, images: "Tensor") -> "Tensor": ...  # [N,64]

    def __call__(self, images: "Tensor") -> "Tensor": ...  # logits [N,10]


def image_features(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """Features of images: uint8 [N,16,16,3] -> float32 [N,64]."""
    import torch

    with torch.inference_mode():
        parts = [classifier.features(part) for part in _inputs(images).split(CHUNK)]
        return torch.cat(parts).numpy()


def clip_features(classifier: Classifier, clips: np.ndarray) -> np.ndarray:
    """Features of clips: uint8 [N,T,16,16,3], T at least 2 -> float32 [N,128]."""
    frames = image_features(classifier, clips.reshape(-1, *clips.shape[2:]))
    frames = frames.reshape(*clips.shape[:2], -1)  # [N,T,64]
    motion = np.abs(np.diff(frames, axis=1))  # [N,T-1,64]
    return np.concatenate([frames.mean(axis=1), motion.mean(axis=1)], axis=1)


def predicted_classes(classifier: Classifier, clips: np.ndarray) -> np.ndarray:
    """The likeliest class of clips, by the mean of the logits: uint8 [N,T,16,16,3] -> int [N]."""
    import torch

    with torch.inference_mode():
        logits = classifier(_inputs(clips.reshape(-1, *clips.shape[2:])))  # [N*T,10]
    return logits.unflatten(0, clips.shape[:2]).mean(dim=1).argmax(dim=1).numpy()


def batches(samples: Iterable[np.ndarray], *, metric: str, kind: str) -> Iterator[np.ndarray]:
    """Samples in batches, uint8 [N,T,16,16,3]; T is 1 for images [16,16,3].

    Args:
        metric: who asks, for the error.
        kind: what it takes, a key of FRAMES.

    Raises:
        UsageError: a sample is something else.
    """
    rest = iter(samples)
    while batch := list(islice(rest, BATCH)):
        clips = [sample if sample.ndim == 4 else sample[None] for sample in batch]
        for clip in clips:
            if clip.shape[1:] != (SIZE, SIZE, 3) or len(clip) not in FRAMES[kind]:
                raise UsageError(
                    f"{metric} cannot score a sample of {_text(clip)}",
                    fix=f"it takes the {SIZE}x{SIZE} {kind} of the embedded digit models",
                )
        yield np.stack(clips)


def _text(clip: np.ndarray) -> str:
    frames, height, width = clip.shape[:3]
    return f"{height}x{width}" if frames == 1 else f"{frames} frames of {height}x{width}"


def _inputs(images: np.ndarray) -> "Tensor":
    import torch

    grey = torch.from_numpy(np.ascontiguousarray(images[..., 0]))  # [N,16,16]
    return (grey.float() / 127.5 - 1).unsqueeze(1)  # [N,1,16,16]
