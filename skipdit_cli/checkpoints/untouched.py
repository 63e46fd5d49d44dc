"""What a network on the meta device computes of its inputs before a weight touches it, in earnest.

Some transformers ask for values as they run: how long a prompt is, whether an image is given. On
the meta device there are none. Under `Untouched` an operation is computed on the CPU as long as all
that it takes is there, and on the meta device as soon as one tensor comes from a weight.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

META = torch.device("meta")


class Untouched(TorchDispatchMode):
    """Keeps values where no weight is among what an operation takes."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if not any(each.is_meta for each in tensors):
            if kwargs.get("device") == META:
                kwargs = {**kwargs, "device": torch.device("cpu")}
        elif func is torch.ops.aten._to_copy.default:
            kwargs = {**kwargs, "device": META}  # there are no values to take elsewhere
        elif not all(each.is_meta for each in tensors):
            args, kwargs = tree_map(_to_meta, _unmasked(func, args)), tree_map(_to_meta, kwargs)
        return func(*args, **kwargs)


def _unmasked(func: Any, args: tuple) -> tuple:
    """The arguments of an indexing by a mask with the places where it is true in its stead."""
    if func.overloadpacket not in (torch.ops.aten.index, torch.ops.aten.index_put_):
        return args
    places: list[Any] = []
    for index in args[1]:
        known = isinstance(index, Tensor) and not index.is_meta and index.dtype == torch.bool
        places += index.nonzero(as_tuple=True) if known else [index]
    return (args[0], places, *args[2:])


def _to_meta(value: Any) -> Any:
    return value.to(META) if isinstance(value, Tensor) else value


@contextmanager
def untouched(values: bool = True) -> Iterator[None]:
    """Values where no weight is, and automatic casts that take the meta device for a CPU.

    Args:
        values: False for nothing of it.
    """
    if not values:
        yield
        return
    own = torch.autocast

    class Autocast(own):  # type: ignore[misc, valid-type]
        def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
            super().__init__("cpu" if device_type == "meta" else device_type, *args, **kwargs)

    torch.autocast = Autocast  # type: ignore[misc]
    try:
        with Untouched():
            yield
    finally:
        torch.autocast = own  # type: ignore[misc]


def on_meta(value: Any) -> Any:
    """A value with all its tensors on the meta device."""
    if isinstance(value, Tensor):
        return value.to("meta")
    if isinstance(value, dict):
        return {key: on_meta(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(on_meta(each) for each in value)
    return value


def zeros(value: Any) -> Any:
    """Zeros of the shapes of all tensors in a value, on the CPU."""
    if isinstance(value, Tensor):
        return torch.zeros(value.shape, dtype=value.dtype)
    if isinstance(value, dict):
        return type(value)(**{key: zeros(each) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(zeros(each) for each in value)
    return value
