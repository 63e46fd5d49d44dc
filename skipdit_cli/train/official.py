"""The settings that the official code trains with: `skipdit train --config official`.

Sources: OpenSparseLLMs/Skip-DiT (72609de) `class-to-image/train.py`, `class-to-video/
train_with_img.py` and `configs/*/*_img_train.yaml`, `text-to-video/train_skip_dit.py` and
`configs/t2v/t2v_joint_train_skip.yaml`; the numbers of steps of class-to-image are those of the
ICCV version's figure. What the code does counts where a configuration says otherwise: the learning
rate of UCF101 is 1e-4, and text-to-video cuts no gradient. Batches are those of 8 GPUs, as the
scripts start them. The paper trains no text-to-image model.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from skipdit_cli.checkpoints.card import Card
from skipdit_cli.errors import UsageError

_ALL = {"learning_rate": 1e-4, "ema": 0.9999, "drop": 0.1, "min_snr": 0.0, "warm_up": 0}
_IMAGE = {**_ALL, "schedule": "constant", "batch_size": 256, "clip": 0.0, "precision": "tf32"}
_VIDEO = {
    **_ALL,
    "schedule": "linear",
    "batch_size": 32,
    "clip": 0.1,
    "precision": "tf32",
    "images_per_clip": 8,
    "steps": 1_000_000,
    "seed": 3407,
}
_TEXT_VIDEO = {
    **_ALL,
    "schedule": "constant",
    "batch_size": 32,
    "accumulate": 2,
    "ema": 0.99985,
    "drop": 0.0,
    "clip": 0.0,
    "precision": "float16",
    "images_per_clip": 4,
    "steps": 1_000_000,
    "seed": 3407,
}
SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {  # by checkpoint, without its "-skip"
        "dit-xl-2": {**_IMAGE, "steps": 2_900_000},
        "ffs": {**_VIDEO, "clip_from": 500_000},
        "skytimelapse": {**_VIDEO, "clip_from": 20_000},
        "taichi": {**_VIDEO, "clip_from": 500_000},
        "ucf101": {**_VIDEO, "clip_from": 10_000, "warm_up": 300, "steps": 100_000},
        "latte": _TEXT_VIDEO,
    }
)


def settings(chosen: Card) -> dict[str, Any]:
    """Arguments of `TrainingSettings` for a checkpoint.

    Raises:
        UsageError: the official code trains no such checkpoint.
    """
    name = chosen.name.removesuffix("-skip")
    if name not in SETTINGS:
        known = ", ".join(SETTINGS)
        raise UsageError(
            f"the official code has no training of {chosen.name}",
            place="--config official",
            fix=f"take one of {known}, with -skip or without, or give settings of your own",
        )
    return dict(SETTINGS[name])
