"""Networks in memory: of each kind the one that was used last, and none where others need the room.

A sweep goes through models one after the other, and a GPU that holds one of them at full size may
not hold two.
"""

import gc
import sys
from collections.abc import Callable, Hashable
from typing import TypeVar

Loaded = TypeVar("Loaded")

_loaded: dict[str, tuple[Hashable, object]] = {}


def one(kind: str, key: Hashable, load: Callable[[], Loaded]) -> Loaded:
    """The network of a kind that is loaded, or that of `load`, before which the other one goes.

    Args:
        kind: "denoiser" or "autoencoder".
        key: what tells it from others of its kind.
    """
    if kind not in _loaded or _loaded[kind][0] != key:
        release(kind)
        _loaded[kind] = key, load()
    return _loaded[kind][1]  # type: ignore[return-value]  # it is of this key, so of this `load`


def release(*kinds: str) -> None:
    """Forget the networks of these kinds, or all, and give back what the GPU has put aside.

    That is before text encoders are loaded, and before other processes use the same GPU.
    """
    before = len(_loaded)
    for kind in kinds or tuple(_loaded):
        _loaded.pop(kind, None)
    if len(_loaded) < before:
        gc.collect()  # what only circles of references hold
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():  # to ask a GPU would take it
        torch.cuda.empty_cache()
