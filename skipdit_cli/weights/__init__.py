"""Known checkpoints, where their files are, and how they become models."""

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.weights.catalog import CARDS, Card, Sampling, card
from skipdit_cli.weights.official import check_keys, from_official

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "CARDS",
    "Card",
    "Sampling",
    "build",
    "card",
    "fingerprint",
    "from_official",
    "home",
    "load",
    "locate",
    "require",
    "size_text",
]

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"  # the name diffusers looks for
_EMBEDDED = Path(__file__).parents[1] / "embedded"


def home() -> Path:
    """Where downloaded and converted files live: $SKIPDIT_HOME, or the user's cache folder."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("SKIPDIT_HOME", cache_home / "skipdit"))


def locate(name: str) -> Path | None:
    """The converted weights file of a checkpoint, or None if it is not here."""
    folder = _EMBEDDED if card(name).embedded else home() / "weights"
    path = folder / name / WEIGHTS_FILE
    return path if path.is_file() else None


def require(name: str) -> Path:
    """The converted weights file.

    Raises:
        MissingAssetError: it is not here; the command that fetches it and its size are named.
    """
    path = locate(name)
    if path is None:
        raise MissingAssetError(
            f"the weights of {name} are not here",
            fix=f"run `skipdit download {name}` ({size_text(card(name).size)}), "
            f"or give a file with --weights",
        )
    return path


def size_text(size: int) -> str:
    """Bytes as people say them: '2.77 GB'."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def arguments(chosen: Card) -> dict:
    """The constructor arguments of a checkpoint's model."""
    variants = registry.load("models", chosen.family).VARIANTS
    return {**variants[chosen.variant], **chosen.arguments, "skip": chosen.skip}


def build(chosen: Card, *, device: str = "meta") -> "nn.Module":
    """The checkpoint's model with weights that mean nothing: for counting, timing, training."""
    import torch

    with torch.device(device):
        return registry.load("models", chosen.family).MODEL(**arguments(chosen))


def load(
    name: str, *, path: Path | None = None, device: str = "cpu", dtype: str = "float32"
) -> "nn.Module":
    """The model of a checkpoint with its weights, in eval mode.

    Args:
        path: an official file (.pt, .safetensors) or a converted one, instead of the known place.
    Raises:
        MissingAssetError: the weights are not here.
        UsageError: the file is truncated, foreign, or holds other keys; all are named.
    """
    import torch

    from skipdit_cli.weights.official import read_state, rename

    chosen = card(name)
    model = build(chosen)
    source = path or require(name)
    state = read_state(source)
    if path is not None:
        state = rename(chosen.family, dict(model.config), state)
    kind = getattr(torch, dtype)
    state = {key: value.to(device, kind) for key, value in state.items()}
    check_keys(model, state, place=str(source))
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def fingerprint(name: str, *, path: Path | None = None) -> str:
    """First 16 hex digits of the sha256 of the weights file; "absent" if it is not here."""
    source = path or locate(name)
    if source is None:
        return "absent"
    if not source.is_file():
        raise UsageError(
            f"no file {source}", place="--weights", fix="give a file, .pt or .safetensors"
        )
    stat = source.stat()
    return _sha256(source, stat.st_size, stat.st_mtime_ns)[:16]


@cache
def _sha256(path: Path, size: int, mtime: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
