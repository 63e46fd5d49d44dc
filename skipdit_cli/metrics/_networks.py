"""Weights of networks that metrics look through, read without running code from a file."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

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


def pretrained(
    kind: Any, folder: Path, asset: str, arguments: Mapping[str, Any] = MappingProxyType({})
) -> "nn.Module":
    """A model of transformers in float32, with the weights of a folder in its layout.

    Args:
        kind: the class of the model.
        asset: the name under which the folder is downloaded.
        arguments: of the class, besides the configuration.
    Raises:
        UsageError: a file in it is damaged, is of another model, or lacks weights.
    """
    import torch
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # else it reports what a file has that the model leaves out
    logging.disable_progress_bar()
    try:
        model, found = kind.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            weights_only=True,
            output_loading_info=True,
            **arguments,
        )
    except Exception as error:  # each part of transformers has its own
        problem = f"is not a {kind.__name__} ({type(error).__name__})"
        raise UsageError(problem, place=str(folder), fix=again(asset)) from None
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
    if absent := found["missing_keys"]:  # which it draws at random
        problem = f"has no weights of {sorted(absent)[0]}, which a {kind.__name__} has"
        raise UsageError(problem, place=str(folder), fix=again(asset))
    return model
