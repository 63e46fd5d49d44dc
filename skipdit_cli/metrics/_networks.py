"""Weights of networks that metrics look through, read without running code from a file."""

from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn


def again(asset: str) -> str:
    """What brings back a file that is damaged, though it has its size."""
    return f"delete it and run `skipdit download --metrics {asset}`"


def read(path: Path, asset: str) -> "dict[str, Tensor]":
    """The tensors of a torch file, by name.

    Args:
        asset: the name under which the file is downloaded.
    Raises:
        UsageError: the file is damaged, or holds something else.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        raise UsageError(
            f"is not a file of weights ({type(error).__name__})",
            place=str(path),
            fix=again(asset),
        ) from None
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UsageError("holds no weights", place=str(path), fix=again(asset))
    return state


def ready(network: "nn.Module", device: str) -> "nn.Module":
    """The network on its device, for inference alone."""
    return network.requires_grad_(False).eval().to(device)
