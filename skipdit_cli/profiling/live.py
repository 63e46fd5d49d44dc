"""How much memory tensors take at a time, from shapes alone: nothing is computed on "meta".

Every storage that an operation makes counts from there on until nothing holds it any more, as it
does for torch's own allocators. Attention is taken for one fused kernel, which is what runs on GPUs
and CPUs: the matrix of all its weights is never in memory.
"""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from skipdit_cli.profiling.cost import Decoding, Sizes
from skipdit_cli.sites import place_of, site_modules

if TYPE_CHECKING:
    from skipdit_cli.models import Network


FLOAT32 = 4  # bytes
KNOWN = 20_000  # operations whose results are remembered
_results: dict[Any, Any] = {}


class Live(TorchDispatchMode):
    """Counts the bytes of all storages that are made in the block, for as long as they live.

    Attributes:
        now, peak: bytes at this moment, and at most so far.
        scalar: what a tensor of one value says where it is asked for as a number.
    """

    def __init__(self, *, scalar: float = 0.0) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.scalar = scalar
        self._known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def held_before(self, *tensors: Tensor) -> None:
        """Leave tensors out that were there before the block."""
        for tensor in tensors:
            self._known[tensor.untyped_storage()] = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return self.scalar  # there is no value on the meta device
        if func is torch.ops.aten._to_copy.default and args[0].is_meta:
            kwargs = {**(kwargs or {}), "device": args[0].device}  # and none on another
        result = _made(func, args, kwargs or {})
        for each in tree_leaves(result):
            if isinstance(each, Tensor) and (storage := each.untyped_storage()) not in self._known:
                self._known[storage] = size = storage.nbytes()
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, size)
        return result

    def _freed(self, size: int) -> None:
        self.now -= size


def _made(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, from what it gave last time if those were new tensors.

    Torch finds the shapes of most operations in Python, which takes hundreds of times as long as
    making tensors of them.
    """
    try:
        key = (func, _alike(args), _alike(kwargs))
    except _OtherwiseError:
        return func(*args, **kwargs)
    if made := _results.get(key):
        tensors = tuple(torch.empty_strided(*at, dtype=of, device="meta") for *at, of in made)
        return tensors if len(tensors) > 1 else tensors[0]
    result = func(*args, **kwargs)
    if key not in _results and len(_results) < KNOWN:
        _results[key] = _new(result, before=[*tree_leaves(args), *tree_leaves(kwargs)])
    return result


class _OtherwiseError(Exception):
    """What an operation gives does not follow from shapes alone."""


def _alike(value: Any) -> Any:
    """What is equal for arguments of which an operation makes tensors of equal shapes."""
    if isinstance(value, Tensor):
        if not value.is_meta or type(value) not in (Tensor, nn.Parameter):
            raise _OtherwiseError
        return Tensor, value.shape, value.stride(), value.storage_offset(), value.dtype
    if isinstance(value, list | tuple):
        return type(value), *map(_alike, value)
    if isinstance(value, dict):
        return tuple((key, _alike(each)) for key, each in value.items())
    return type(value), value  # 1, 1.0 and True are equal, and make tensors of different types


def _new(result: Any, *, before: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Shape, strides and type of each tensor that an operation has made; none where what it gave
    is not new alone, as a view is not."""
    results = result if type(result) is tuple and len(result) > 1 else (result,)
    taken = [each.untyped_storage() for each in before if isinstance(each, Tensor)]
    made = []
    for each in results:
        if type(each) is not Tensor or not each.is_meta or each.storage_offset():
            return []
        alike = torch.empty_strided(each.shape, each.stride(), dtype=each.dtype, device="meta")
        storage = each.untyped_storage()
        shared = any(storage is other for other in taken)
        if shared or storage.nbytes() != alike.untyped_storage().nbytes():
            return []
        taken.append(storage)
        made.append((each.shape, each.stride(), each.dtype))
    return made


class FusedAttention(TorchFunctionMode):
    """Attention as one kernel that holds its output and nothing else."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            query, _, value = [*args, *((kwargs or {}).get(n) for n in ("query", "key", "value"))][
                :3
            ]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **(kwargs or {}))


def peak(work: Callable[[], object], *, before: Iterable[Tensor] = ()) -> int:
    """The most bytes that tensors of the block take at a time.

    Args:
        work: on meta tensors.
        before: tensors that are not counted.
    """
    with torch.no_grad(), FusedAttention(), Live() as live:
        live.held_before(*before)
        result = work()
        del result
    return live.peak


def sizes(model: "Network", tokens: Sequence[int]) -> Sizes:
    """What a network holds, and in one call of it for one sample without guidance.

    Args:
        model: on the meta device, in float32.
        tokens: of each text encoder.
    """
    inputs = model.inputs(1, device="meta")
    sites: dict[str, tuple[int, ...]] = {}

    def enters(kind: str) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            sites[kind] = tuple(place_of(model, kind).entering(module, args, kwargs).shape)

        return note

    handles = [
        module.register_forward_pre_hook(enters(site.kind), with_kwargs=True)
        for site, module in site_modules(model).items()
    ]
    weights = [*model.parameters(), *model.buffers()]
    try:
        most = peak(lambda: model(**inputs), before=[*weights, *inputs.values()])
    finally:
        for handle in handles:
            handle.remove()
    texts = [value for name, value in inputs.items() if name.startswith("encoder_hidden_states")]
    return Sizes(
        weights=sum(weight.numel() for weight in weights),
        step=most // FLOAT32,
        latents=tuple(inputs["hidden_states"].shape[1:]),
        channel_dim=model.CHANNEL_DIM,
        sites=sites,
        texts=tuple(zip(tokens, (text.shape[-1] for text in texts), strict=False)),
    )


def decoding(config: Mapping[str, Any], side: tuple[int, int]) -> Decoding:
    """What an autoencoder of diffusers computes and holds to decode one frame.

    Args:
        config: the content of its config.json.
        side: height and width of the latents.
    """
    import diffusers

    temporal = config["_class_name"] == "AutoencoderKLTemporalDecoder"
    kind: Any = diffusers.AutoencoderKLTemporalDecoder if temporal else diffusers.AutoencoderKL
    given = {key: value for key, value in config.items() if not key.startswith("_")}
    with torch.device("meta"):
        network = kind(**given).to("meta").eval()  # some of it is made on the CPU in any case
        latents = torch.empty(1, network.config.latent_channels, *side)
    frames = {"num_frames": 1} if temporal else {}
    weights = [*network.parameters(), *network.buffers()]
    flops = FlopCounterMode(display=False)
    with torch.no_grad(), flops:
        network.decode(latents, **frames)
    most = peak(lambda: network.decode(latents, **frames), before=[*weights, latents])
    return Decoding(
        flops=flops.get_total_flops(),
        values=most // FLOAT32,
        weights=sum(weight.numel() for weight in weights),
    )
