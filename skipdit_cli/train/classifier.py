"""Train the embedded classifiers and take the statistics of real data with them."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save as arrays_to_bytes
from safetensors.torch import save as to_bytes
from torch import Generator, Tensor

from skipdit_cli.embedded import STATISTICS
from skipdit_cli.embedded.classifier import WEIGHTS, Classifier
from skipdit_cli.generate.decode import to_uint8
from skipdit_cli.metrics._embedded import clip_features, image_features
from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import write_whole
from skipdit_cli.train import data, fashion
from skipdit_cli.train.data import digits, moving_digits

REFERENCE_IMAGES, REFERENCE_CLIPS = 20_000, 4_096
BATCH = 192  # images of a step
NOISE = 0.1  # what is added to them: a standard deviation

Draw = Callable[[Generator], tuple[Tensor, Tensor]]  # images of a step, and their classes
Told = Callable[[int, float], None]


def train_digits(
    folder: Path, *, steps: int, seed: int, command: str = "", progress: Told | None = None
) -> float:
    """Train on still digits and on frames of moving ones; write weights and reference statistics.

    Args:
        command: the command line, kept in `training.json`.
        progress: called with (step, loss) after every hundredth step.
    Returns:
        Accuracy on fresh draws of still digits, 0 to 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    model = _trained(_digits, steps=steps, seed=seed, progress=progress)
    images, labels = digits(REFERENCE_IMAGES, Generator().manual_seed(seed + 1))
    clips, clip_labels = moving_digits(REFERENCE_CLIPS, Generator().manual_seed(seed + 2))
    votes = model(clips.flatten(0, 1)).unflatten(0, clips.shape[:2]).mean(1).argmax(1)
    accuracy = _share(model(images).argmax(1), labels)
    features = image_features(model, to_uint8(images).numpy())
    _save_statistics(folder / "reference_digits.safetensors", features, ddof=1)
    frames = to_uint8(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
    moving = clip_features(model, frames.numpy())
    _save_statistics(folder / "reference_moving-digits.safetensors", moving, ddof=0)
    found = {
        "accuracy_digits": accuracy,
        "accuracy_moving_digits": _share(votes, clip_labels),
    }
    _save(folder, model, {"command": command, "seed": seed, "steps": steps}, started, found)
    return accuracy


def train_fashion(
    folder: Path, *, steps: int, seed: int, command: str = "", progress: Told | None = None
) -> float:
    """Train on clothes; write weights and the statistics of all 60,000.

    Args:
        command: the command line, kept in `training.json`.
        progress: called with (step, loss) after every hundredth step.
    Returns:
        Accuracy on the 10,000 images of the test set, 0 to 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        return fashion.fashion(BATCH, generator)

    model = _trained(draw, steps=steps, seed=seed, progress=progress)
    tested, labels = fashion.images("t10k")
    predicted = [model(part).argmax(1) for part in fashion.prepared(tested).split(1000)]
    accuracy = _share(torch.cat(predicted), labels)
    real = to_uint8(fashion.prepared(fashion.images("train")[0])).numpy()
    _save_statistics(folder / "reference_fashion.safetensors", image_features(model, real), ddof=1)
    given = {"command": command, "seed": seed, "steps": steps}
    _save(folder, model, given, started, {"accuracy_test": accuracy})
    return accuracy


def _trained(draw: Draw, *, steps: int, seed: int, progress: Told | None) -> Classifier:
    """A classifier as it will be loaded: rounded to float16."""
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed)
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        images, labels = draw(generator)
        images = images + NOISE * torch.randn(images.shape, generator=generator)
        loss = F.cross_entropy(model(images), labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress and (step + 1) % 100 == 0:
            progress(step + 1, float(loss.detach()))
    return model.half().float().requires_grad_(False).eval()


def _digits(generator: Generator) -> tuple[Tensor, Tensor]:
    """Half of them still, half frames of clips."""
    half = BATCH // 2
    still, still_labels = digits(half, generator)
    clips, clip_labels = moving_digits(half, generator)
    frames = clips[torch.arange(half), torch.randint(data.FRAMES, (half,), generator=generator)]
    return torch.cat([still, frames]), torch.cat([still_labels, clip_labels])


def _share(predicted: Tensor, labels: Tensor) -> float:
    return float((predicted == labels).float().mean())


def _save(
    folder: Path,
    model: Classifier,
    given: Mapping[str, object],
    started: float,
    found: Mapping[str, float],
) -> None:
    halved = {key: value.half() for key, value in model.state_dict().items()}
    write_whole(folder / WEIGHTS, to_bytes(halved))
    seconds = round(time.monotonic() - started, 1)
    record = {**given, "torch": torch.__version__, "seconds": seconds, **found}
    write_whole(folder / "training.json", json.dumps(record).encode() + b"\n")


def _save_statistics(path: Path, features: np.ndarray, *, ddof: int) -> None:
    features = features.astype(np.float64)
    content = {
        "mean": features.mean(0),
        "cov": np.cov(features, rowvar=False, ddof=ddof),
        "n": np.array([len(features)], dtype=np.int64),
    }
    write_whole(path, kept.sealed_arrays(arrays_to_bytes(content), STATISTICS, of=path.stem))
