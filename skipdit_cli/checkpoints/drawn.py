"""Random weights: a checkpoint of which nothing is read, for a dry run at full size.

Denoiser, autoencoder and text encoders have their real structure, which their configurations in
`configs/` tell by the folders that they have on the hub, and weights that depend on nothing but the
names of the parameters: the same bits in every process, on every device, after every restart.

Sources of the configurations: the model pages of the repositories that the folders are named after.
"""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from skipdit_cli.checkpoints import local
from skipdit_cli.checkpoints.card import EMBEDDED, Card

if TYPE_CHECKING:
    import torch
    from torch import nn

    Module = TypeVar("Module", bound=nn.Module)

SMALL = 0.02  # standard deviation of biases, and of the scales of normalisations around 1
CHUNK = 2**18  # numbers that are drawn at once


def card(chosen: Card) -> Card:
    """A checkpoint whose weights are drawn; it has no tokenizers but those that ship.

    A pipeline has its own, and the digest of all its files but weights.
    """
    if chosen.pipeline:
        digest = local.pipeline_fingerprint(Path(chosen.folder), weights=False)
        return replace(chosen, random=True, digest=digest)
    parts = {}
    for key, part in chosen.components.items():
        config = local.configuration(part)
        known = part.repository != EMBEDDED and local.component_folder(config).is_dir()
        if part.repository == EMBEDDED or not key.startswith("tokenizer"):
            parts[key] = config if known else part
    return replace(chosen, random=True, components=parts)


def empty(build: "Callable[[], Module]") -> "Module":
    """A model without memory for its parameters; its buffers are there."""
    with _without_memory():
        return build()


def size(model: "nn.Module", dtype: str, kept: tuple[str, ...] = ()) -> int:
    """Bytes of the parameters that `fill` draws for a model."""
    return sum(
        value.numel() * _kind(name, dtype, kept).itemsize
        for name, value in model.named_parameters()
    )


def fill(
    model: "Module", *, device: str = "cpu", dtype: str = "float32", kept: tuple[str, ...] = ()
) -> "Module":
    """Draw the parameters of a model that `empty` gave.

    A matrix or kernel is uniform with the variance 1 / inputs, the zeros of an untrained network
    (gates, last layers) included, so that all of it matters. Whatever is one number per channel is
    small, and near 1 where it is a weight: the scale of a normalisation.

    Args:
        dtype: of all that is not a whole number.
        kept: names of modules whose parameters stay float32, as the real ones do.
    """
    import torch
    from torch import nn

    named = dict(model.named_parameters())
    kinds = [_kind(name, dtype, kept) for name in named]
    with ThreadPoolExecutor() as pool:
        shapes = (parameter.shape for parameter in named.values())
        values = pool.map(partial(_draw, device=device), named, shapes, kinds)
        for parameter, value in zip(named.values(), values, strict=True):
            drawn = nn.Parameter(value, requires_grad=False)
            torch.utils.swap_tensors(parameter, drawn)  # wherever else it stands
    for name, module in model.named_modules():
        for key, buffer in module._buffers.items():
            if buffer is not None:
                own = _kind(name, dtype, kept) if buffer.is_floating_point() else buffer.dtype
                module._buffers[key] = buffer.to(device, own)
    return model.requires_grad_(False).eval()


def _kind(name: str, dtype: str, kept: tuple[str, ...]) -> "torch.dtype":
    import torch

    return torch.float32 if set(kept) & set(name.split(".")) else getattr(torch, dtype)


def _draw(name: str, shape: "torch.Size", dtype: "torch.dtype", *, device: str) -> "torch.Tensor":
    import numpy as np
    import torch

    middle, spread = 0.0, SMALL
    if len(shape) > 1:
        spread = (shape[0] / shape.numel()) ** 0.5
    elif name.endswith("weight"):
        middle = 1.0
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16])
    bits = np.random.PCG64(seed)
    values = torch.empty(shape.numel(), dtype=dtype, device=device)
    for part in values.split(CHUNK):
        raw = bits.random_raw(-(-len(part) // 4)).astype("<u8", copy=False).view("<i2")
        numbers = torch.from_numpy(raw[: len(part)]).float()  # -2**15 to 2**15 - 1
        part.copy_(numbers.mul_(spread * 3**0.5 / 2**15).add_(middle))
    return values.view(shape)


@contextmanager
def _without_memory() -> Iterator[None]:
    """Parameters of modules that are built meanwhile are on the meta device."""
    from torch import nn

    register = nn.Module.register_parameter

    def on_meta(self: "nn.Module", name: str, param: "nn.Parameter | None") -> None:
        if param is not None and not param.is_meta:
            param = nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)
        register(self, name, param)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
