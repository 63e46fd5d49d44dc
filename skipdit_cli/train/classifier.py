"""Train the embedded digit classifier and take the statistics of real data with it."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save as arrays_to_bytes
from safetensors.torch import save as to_bytes
from torch import Generator

from skipdit_cli.embedded import STATISTICS
from skipdit_cli.embedded.classifier import Classifier
from skipdit_cli.generate.decode import to_uint8
from skipdit_cli.metrics._digits import clip_features, image_features
from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import write_whole
from skipdit_cli.train.data import digits, moving_digits

REFERENCE_IMAGES, REFERENCE_CLIPS = 20_000, 4_096


def train_classifier(
    folder: Path,
    *,
    steps: int,
    seed: int,
    command: str = "",
    progress: Callable[[int, float], None] | None = None,
) -> float:
    """Train on still digits and on frames of moving ones; write weights and reference statistics.

    Args:
        command: the command line, kept in `training.json`.
        progress: called with (step, loss) after every hundredth step.
    Returns:
        Accuracy on fresh draws of still digits, 0 to 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed)
    model, started = Classifier(), time.monotonic()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        still, still_labels = digits(96, generator)
        clips, clip_labels = moving_digits(96, generator)
        frames = clips[torch.arange(96), torch.randint(8, (96,), generator=generator)]
        images = torch.cat([still, frames])
        images = images + 0.1 * torch.randn(images.shape, generator=generator)
        loss = F.cross_entropy(
            model(images), torch.cat([still_labels, clip_labels]), label_smoothing=0.05
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress and (step + 1) % 100 == 0:
            progress(step + 1, float(loss.detach()))
    model = model.half().float().requires_grad_(False).eval()  # as it will be loaded
    images, labels = digits(REFERENCE_IMAGES, Generator().manual_seed(seed + 1))
    clips, clip_labels = moving_digits(REFERENCE_CLIPS, Generator().manual_seed(seed + 2))
    accuracy = float((model(images).argmax(1) == labels).float().mean())
    votes = model(clips.flatten(0, 1)).unflatten(0, clips.shape[:2]).mean(1).argmax(1)
    halved = {key: value.half() for key, value in model.state_dict().items()}
    write_whole(folder / "model.safetensors", to_bytes(halved))
    features = image_features(model, to_uint8(images).numpy())
    _save_statistics(folder / "reference_digits.safetensors", features, ddof=1)
    frames = to_uint8(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
    moving = clip_features(model, frames.numpy())
    _save_statistics(folder / "reference_moving-digits.safetensors", moving, ddof=0)
    record = {
        "command": command,
        "seed": seed,
        "steps": steps,
        "torch": torch.__version__,
        "seconds": round(time.monotonic() - started, 1),
        "accuracy_digits": accuracy,
        "accuracy_moving_digits": float((votes == clip_labels).float().mean()),
    }
    write_whole(folder / "training.json", json.dumps(record).encode() + b"\n")
    return accuracy


def _save_statistics(path: Path, features: np.ndarray, *, ddof: int) -> None:
    features = features.astype(np.float64)
    content = {
        "mean": features.mean(0),
        "cov": np.cov(features, rowvar=False, ddof=ddof),
        "n": np.array([len(features)], dtype=np.int64),
    }
    write_whole(path, kept.sealed_arrays(arrays_to_bytes(content), STATISTICS, of=path.stem))
