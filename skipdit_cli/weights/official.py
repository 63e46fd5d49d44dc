"""Official files and state dicts -> our models: safe, strict, every key accounted for."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

_FOREIGN = "the file belongs to another model or is incomplete"


def from_official(
    family: str, arguments: Mapping[str, Any], state_dict: "Mapping[str, Tensor]"
) -> "nn.Module":
    """Build a model from an official state dict.

    Args:
        family: "dit" or "latte".
        arguments: the official constructor's arguments plus `skip: bool` (and `extras: 1 | 2` for
            latte: unconditional or class-conditional).
        state_dict: official keys. Skip-branch keys are dropped for a model without skip branches.
    Returns:
        The model in float32, in eval mode.
    Raises:
        UsageError: keys missing or left over, or shapes that differ; all are named.
    """
    import torch

    ours = _constructor_arguments(family, arguments)
    with torch.device("meta"):
        model = registry.load("models", family).MODEL(**ours)
    state = rename(family, dict(model.config), state_dict)
    check_keys(model, state, place=f"{family} state dict")
    state = {key: value.float() for key, value in state.items()}
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def _constructor_arguments(family: str, arguments: Mapping[str, Any]) -> dict:
    mapped = dict(arguments)
    if family == "latte" and mapped.pop("extras", 1) == 1:
        mapped["num_classes"] = None
    known = inspect.signature(registry.load("models", family).MODEL.__init__).parameters
    if strange := sorted(set(mapped) - set(known)):
        raise UsageError(f"{family} has no constructor argument {', '.join(strange)}")
    return mapped


def rename(family: str, config: dict, state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Official keys -> ours; skip-branch keys are dropped if the model has none."""
    renamed = registry.load("models", family).rename
    return {
        renamed(key, config): value
        for key, value in state.items()
        if config["skip"] or not key.startswith("skip_")
    }


def check_keys(model: "nn.Module", state: "Mapping[str, Tensor]", *, place: str) -> None:
    """Raise a UsageError that names missing keys, left-over keys and differing shapes."""
    wanted = model.state_dict()
    problems = []
    if missing := [key for key in wanted if key not in state]:
        problems.append(f"{len(missing)} keys missing ({_some(missing)})")
    if extra := [key for key in state if key not in wanted]:
        problems.append(f"{len(extra)} keys left over ({_some(extra)})")
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and wanted[key].shape != state[key].shape
    ]
    if shapes:
        problems.append(f"{len(shapes)} shapes differ ({_some(shapes)})")
    if problems:
        raise UsageError(", ".join(problems), place=place, fix=_FOREIGN)


def read_state(path: Path) -> "dict[str, Tensor]":
    """The state dict in an official or converted file; no code in the file is run.

    Training files hold several copies (`ema`, `model`, `opt`, `args`): the moving average is taken.

    Raises:
        UsageError: the file cannot be read as a checkpoint (truncated, foreign, unsafe).
    """
    import pickle

    import torch
    from safetensors.torch import load_file

    if not path.is_file():
        raise UsageError("no such file", place=str(path))
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except Exception as error:  # a damaged file makes its reader raise anything
        text, unpickling = str(error), isinstance(error, pickle.UnpicklingError)
        if unpickling and "GLOBAL" in text:
            raise UsageError(
                "holds objects that could run code",
                place=str(path),
                fix="only tensors and argparse.Namespace are read",
            ) from None
        reason = type(error).__name__ if unpickling or not text else text.splitlines()[0][:120]
        raise UsageError(
            f"is truncated or not a checkpoint ({reason})", place=str(path), fix="fetch it again"
        ) from None
    for part in ("ema", "model"):
        if isinstance(content, dict) and isinstance(content.get(part), dict):
            content = content[part]
            break
    if not isinstance(content, dict) or not content:
        raise UsageError("holds no state dict", place=str(path), fix=_FOREIGN)
    strange = [
        key
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, torch.Tensor))
    ]
    if strange:
        raise UsageError(f"holds no state dict ({_some(strange)})", place=str(path), fix=_FOREIGN)
    return content


def _unpickle(path: Path) -> Any:
    """What is in a file of torch.save, read without running anything."""
    import argparse
    import warnings
    import zipfile

    import torch

    zipped = zipfile.is_zipfile(path)  # files of a torch before 1.6 are not, and cannot be mapped
    with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
        warnings.simplefilter("ignore")  # advice on pickle protocols
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def _some(keys: list) -> str:
    return ", ".join(map(str, keys[:3])) + (", ..." if len(keys) > 3 else "")
