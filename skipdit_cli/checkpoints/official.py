"""Official files and state dicts -> our models: safe, strict, every key accounted for."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.storage import given

if TYPE_CHECKING:
    from torch import Tensor, nn

    from skipdit_cli.models import Network

_FOREIGN = "the file belongs to another model or is incomplete"
# Official constructor arguments that have one value in every published model of a family.
_FIXED: dict[str, dict[str, Any]] = {
    "hunyuan_dit": {"norm": "layer", "qk_norm": True, "size_cond": None, "use_style_cond": False},
    "latte_t2v": {
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "norm_type": "ada_norm_single",
        "num_embeds_ada_norm": 1000,
    },
}
# HunyuanDiT's official arguments, by their names in diffusers.
_DIFFUSERS = {
    "depth": "num_layers",
    "input_size": "sample_size",
    "learn_sigma": "learn_sigma",
    "num_heads": "num_attention_heads",
    "text_len": "text_len",
    "text_len_t5": "text_len_t5",
    "text_states_dim": "cross_attention_dim",
    "text_states_dim_t5": "cross_attention_dim_t5",
}


def from_official(
    family: str, arguments: Mapping[str, Any], state_dict: "Mapping[str, Tensor]"
) -> "Network":
    """Build a model from an official state dict.

    Args:
        family: the name of a model file.
        arguments: the official constructor's arguments plus `skip: bool` (and `extras: 1 | 2` for
            latte: unconditional or class-conditional; `args: dict` for hunyuan_dit, whose first
            constructor argument is that namespace).
        state_dict: official keys. Skip-branch keys are dropped for a model without skip branches.
    Returns:
        The model in float32, in eval mode.
    Raises:
        UsageError: keys missing or left over, or shapes that differ; all are named.
    """
    import torch

    ours = _constructor_arguments(family, arguments)

    def build(device: str) -> "Network":
        with torch.device(device):
            return registry.load("models", family).MODEL(**ours)

    model = build("meta")
    state = converted(family, model.config, state_dict)
    check_keys(model, state, place=f"{family} state dict")
    return filled(model, state, build, family=family)


def filled(
    model: "Network",
    state: "Mapping[str, Tensor]",
    build: "Callable[[str], Network]",
    *,
    family: str,
    device: str | None = None,
    dtype: str = "float32",
) -> "Network":
    """A model of the meta device with its weights, in eval mode.

    Args:
        state: with the model's keys.
        device: of the model; where the state is if None.
        build: device -> the model; called for buffers that are in no state dict alone, which need
            the whole of it on the CPU for a moment.
        dtype: of everything that is not a whole number.
    Raises:
        SkipditError: a tensor of the model is neither in its state dict nor a buffer.
    """
    import torch

    def own(value: "Tensor") -> "Tensor":
        kind = getattr(torch, dtype) if value.is_floating_point() else value.dtype
        return value.to(device or value.device, kind)

    model.load_state_dict({key: own(value) for key, value in state.items()}, assign=True)
    if all(value.is_meta for value in state.values()):  # shapes alone were asked for
        return model.requires_grad_(False).eval()
    absent = [name for name, buffer in _buffers(model) if buffer.is_meta]
    if absent:
        computed = dict(_buffers(build("cpu")))
        for name in absent:
            module, _, key = name.rpartition(".")
            value = own(computed[name])
            model.get_submodule(module).register_buffer(key, value, persistent=False)
    plain = [
        f"{name}.{key}".lstrip(".")
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, torch.Tensor) and value.is_meta
    ]
    if lost := [name for name, buffer in _buffers(model) if buffer.is_meta] + plain:
        raise SkipditError(
            f"{_some(lost)} has no values once the weights are loaded",
            place=f"family {family}",
            fix="compute it in the constructor as a buffer (register_buffer)",
        )
    return model.requires_grad_(False).eval()


def _buffers(model: "Network") -> "Iterator[tuple[str, Tensor]]":
    """All of them, by every name that they have."""
    return model.named_buffers(remove_duplicate=False)


def _constructor_arguments(family: str, arguments: Mapping[str, Any]) -> dict:
    mapped = dict(arguments)
    if family == "latte" and mapped.pop("extras", 1) == 1:
        mapped["num_classes"] = None
    if family == "hunyuan_dit":
        mapped = _diffusers_arguments(mapped)
    for key, value in _FIXED.get(family, {}).items():
        if (given := mapped.pop(key, value)) != value:
            raise UsageError(
                f"{family} with {key}={given} is another model", fix=f"{key} is {value} here"
            )
    known = inspect.signature(registry.load("models", family).MODEL.__init__).parameters
    if strange := sorted(set(mapped) - set(known)):
        raise UsageError(f"{family} has no constructor argument {', '.join(strange)}")
    return mapped


def _diffusers_arguments(official: dict[str, Any]) -> dict:
    """HunyuanDiT's constructor arguments, with `args`, under the names of diffusers' class."""
    if not official.pop("skip", True):
        raise UsageError(
            "hunyuan_dit has no version without skip branches", fix="leave skip out or true"
        )
    namespace = official.pop("args", {})  # most of it says how to train or run
    chosen = {
        key: namespace[key] for key in (*_DIFFUSERS, *_FIXED["hunyuan_dit"]) if key in namespace
    }
    mapped = {_DIFFUSERS.get(key, key): value for key, value in {**official, **chosen}.items()}
    if isinstance(size := mapped.get("sample_size"), list | tuple):
        mapped["sample_size"] = size[0]  # of (height, width)
    if {"hidden_size", "num_attention_heads"} <= mapped.keys():
        mapped["attention_head_dim"] = mapped["hidden_size"] // mapped["num_attention_heads"]
    return mapped


def converted(
    family: str, config: Mapping[str, Any], state: "Mapping[str, Tensor]"
) -> "dict[str, Tensor]":
    """Official state dict -> ours; skip-branch keys are dropped if the model has none."""
    if not config.get("skip", True):
        state = {key: value for key, value in state.items() if not key.startswith("skip_")}
    return registry.load("models", family).convert(state, config)


def check_keys(model: "nn.Module", state: "Mapping[str, Tensor]", *, place: str) -> None:
    """Raise a UsageError that names missing and left-over keys, other shapes and other numbers."""
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
    kinds = [
        f"{key} is {str(state[key].dtype).removeprefix('torch.')}"
        for key in wanted
        if key in state and wanted[key].is_floating_point() != state[key].is_floating_point()
    ]
    if kinds:
        problems.append(f"{len(kinds)} are not floating-point numbers ({_some(kinds)})")
    if problems:
        raise UsageError(", ".join(problems), place=place, fix=_FOREIGN)


def read_state(path: Path) -> "dict[str, Tensor]":
    """The state dict in an official or converted file; no code in the file is run.

    Training files hold several copies (`ema`, `model`, `opt`, `args`): the moving average is taken.

    Raises:
        UsageError: the file cannot be read as a checkpoint (truncated, foreign, unsafe).
    """
    import torch
    from safetensors.torch import load_file

    given.check(path)
    with given.decoding(str(path), "is truncated or not a checkpoint", fix="fetch it again"):
        content = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
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
    for key, value in content.items():
        if value.layout != torch.strided or value.is_nested or value.is_quantized or value.is_meta:
            raise UsageError(
                f"{key} is a sparse, nested, quantized or empty tensor",
                place=str(path),
                fix="save plain tensors, as to_dense and dequantize give them",
            )
    return content


def _unpickle(path: Path) -> Any:
    """What is in a file of torch.save, read without running anything."""
    import argparse
    import pickle
    import warnings
    import zipfile

    import torch

    zipped = zipfile.is_zipfile(path)  # files of a torch before 1.6 are not, and cannot be mapped
    if zipped:
        with zipfile.ZipFile(path) as parts:
            packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist())
        if packed:  # torch would take the packed bytes for numbers
            raise UsageError(
                "has compressed parts", place=str(path), fix="write it again with torch.save"
            )
    with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
        warnings.simplefilter("ignore")  # advice on pickle protocols
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        except pickle.UnpicklingError as error:  # its own words lead to reading it unsafely
            if "GLOBAL" not in str(error):
                raise ValueError(type(error).__name__) from None
            raise UsageError(
                "holds objects that could run code",
                place=str(path),
                fix="only tensors and argparse.Namespace are read",
            ) from None


def _some(keys: list) -> str:
    return ", ".join(map(str, keys[:3])) + (", ..." if len(keys) > 3 else "")
