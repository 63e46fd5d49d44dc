"""The transformer of a diffusers pipeline as something that caches can act on.

Blocks are found where diffusers' own caches look for them: in lists of these names, of classes that
`TransformerBlockRegistry` may say more of. What a block is called with and what it returns say the
rest, once it has been called: in which order blocks run, what goes from one to the next, and which
of them are joined with an earlier one.

A dual-stream block has two hidden states, of text and of the image. Caches see one tensor: both,
one behind the other along the tokens, text first.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skipdit_cli.checkpoints.traced import Traced
from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Layout, Site

HIDDEN = "hidden_states"
# Transformers that are given [B, T, C, H, W]; others of clips [B, C, T, H, W].
FRAMES_FIRST = ("CogVideoXTransformer3DModel", "ConsisIDTransformer3DModel")
FEEDFORWARD, TEXT_FEEDFORWARD = ("ff", "ffn", "feed_forward", "mlp"), ("ff_context", "ff_encoder")


@dataclass(frozen=True)
class Stream:
    """Where a module has its hidden states.

    Attributes:
        names: of the arguments of `forward`, text first where it has both streams.
        outputs: places in the tuple that it returns, like `names`, None of a stream that it does
            not return; () where it returns one tensor.
        parameters: names of the arguments of `forward`, in their order.
    """

    names: tuple[str, ...]
    outputs: tuple[int | None, ...]
    parameters: tuple[str, ...]

    def entering(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
        """The hidden states among the arguments of a call."""
        given = by_name(self.parameters, args, kwargs)
        return [given[name] for name in self.names]

    def given(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], states: Sequence[Tensor]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call with other hidden states."""
        changed, named = [*args], {**kwargs}
        for name, state in zip(self.names, states, strict=True):
            at = self.parameters.index(name)
            if at < len(changed):
                changed[at] = state
            else:
                named[name] = state
        return changed, named

    def leaving(self, returned: Any, entered: Sequence[Tensor]) -> list[Tensor]:
        """The hidden states that a call leaves: those that it returned, the others as they came."""
        if not self.outputs:
            return [returned, *entered[1:]] if len(self.names) == 1 else [entered[0], returned]
        return [
            before if at is None or returned[at] is None else returned[at]
            for at, before in zip(self.outputs, entered, strict=True)
        ]

    def returned(self, states: Sequence[Tensor], pattern: Any) -> Any:
        """What a call returns with these hidden states.

        Args:
            pattern: what it returned when it was last computed; None before.
        """
        if not self.outputs:
            return states[-1]
        result = [*pattern] if pattern else [None] * len(self.outputs)
        for at, state in zip(self.outputs, states, strict=True):
            if at is not None and (pattern is None or result[at] is not None):
                result[at] = state
        return tuple(result)


@dataclass(frozen=True)
class Packing:
    """How several hidden states are one tensor.

    Attributes:
        shapes: of each.
        tokens: whether they are joined along the tokens; else all values of a sample in a row.
    """

    shapes: tuple[tuple[int, ...], ...]
    tokens: bool

    @classmethod
    def of(cls, states: Sequence[Tensor]) -> "Packing":
        shapes = tuple(tuple(state.shape) for state in states)
        alike = {(shape[0], *shape[2:]) for shape in shapes if len(shape) > 2}
        return cls(shapes, len(alike) == 1 and all(len(shape) > 2 for shape in shapes))

    def pack(self, states: Sequence[Tensor]) -> Tensor:
        if len(states) == 1:
            return states[0]
        if self.tokens:
            return torch.cat([*states], dim=1)
        return torch.cat([state.flatten(1) for state in states], dim=1)

    def unpack(self, packed: Tensor) -> list[Tensor]:
        if len(self.shapes) == 1:
            return [packed]
        if self.tokens:
            return [*packed.split([shape[1] for shape in self.shapes], dim=1)]
        sizes = [torch.Size(shape[1:]).numel() for shape in self.shapes]
        parts = packed.split(sizes, dim=1)
        return [
            part.reshape(len(packed), *shape[1:])
            for part, shape in zip(parts, self.shapes, strict=True)
        ]


class Blocks:
    """The blocks of a transformer, the layers of a cache, in the order in which they run.

    Attributes:
        module: the transformer.
        layout: what caches may know of it.
        modules: of each site.
        streams: of each site.
    """

    def __init__(
        self,
        module: nn.Module,
        order: Sequence[str],
        skips: tuple = (),
        steady: bool = True,
        streams: Sequence[tuple[Sequence[str], Sequence[int | None]]] = (),
    ) -> None:
        """
        Args:
            order: paths of the blocks, as they are called.
            skips: pairs of layers (to, from) that are joined.
            steady: whether what goes from one to the next keeps its shape.
            streams: of each block, names and outputs of its `Stream`; () for what diffusers knows.
        """
        self.module = module
        self.modules: dict[Site, nn.Module] = {}
        self.streams: dict[Site, Stream] = {}
        for layer, path in enumerate(order):
            block = module.get_submodule(path)
            if steady:
                stream = block_stream(block)
                if streams:
                    names, outputs = streams[layer]
                    stream = Stream(tuple(names), tuple(outputs), stream.parameters)
                self._add(Site("layer", layer), block, stream)
            for kind, part in parts_of(path, block).items():
                self._add(Site(kind, layer), part, part_stream(part))
        kinds = tuple(dict.fromkeys(site.kind for site in self.modules if site.kind != "layer"))
        every = {Site(kind, i) for kind in ("layer", *kinds) for i in range(len(order))}
        absent = frozenset(every - self.modules.keys())
        self.layout = Layout(type(module).__name__, len(order), kinds, tuple(skips), absent)

    @classmethod
    def of(cls, module: nn.Module, traced: Traced) -> "Blocks":
        """Those of a transformer whose calls were traced."""
        return cls(module, traced.order, traced.skips, traced.steady, traced.streams)

    def _add(self, site: Site, module: nn.Module, stream: Stream) -> None:
        self.modules[site], self.streams[site] = module, stream


def channel_dim(module: nn.Module) -> int:
    """The dimension of the latents that a transformer is given that holds their channels."""
    return 2 if type(module).__name__ in FRAMES_FIRST else 1


def latents(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """The latents that a transformer is given, [B, ...]; a list has one for each sample."""
    names = parameters(module)
    given = by_name(names, args, kwargs)
    return as_batch(given[HIDDEN] if HIDDEN in given else given[names[0]])


def as_batch(x: Tensor | list[Tensor]) -> Tensor:
    """A batch, or a list of samples, as a batch."""
    return torch.stack(x) if isinstance(x, list) else x


def lists(module: nn.Module) -> dict[str, list[str]]:
    """The lists of blocks of a transformer, with the paths of the blocks.

    They are those where diffusers' own caches look, and others of blocks of one class with
    attention.
    """
    return {
        name: [f"{name}.{i}" for i in range(len(child))]
        for name, child in module.named_children()
        if isinstance(child, nn.ModuleList) and (name in _named() or _alike(child))
    }


def main(module: nn.Module) -> set[str]:
    """The lists in which layers are whatever comes of them: diffusers' own, or the longest one.

    Raises:
        UsageError: there is none.
    """
    found = lists(module)
    if not found:
        raise UsageError(
            f"{type(module).__name__} has no list of blocks",
            fix=f"there are none of {', '.join(sorted(_named()))}, nor of blocks with attention",
        )
    return {*found} & _named() or {max(found, key=lambda name: len(found[name]))}


def paths(module: nn.Module) -> list[str]:
    """The paths of the blocks of these lists, list by list."""
    found, wanted = lists(module), main(module)
    return [path for name, each in found.items() if name in wanted for path in each]


def _named() -> set[str]:
    from diffusers.hooks._common import _ALL_TRANSFORMER_BLOCK_IDENTIFIERS

    return {*_ALL_TRANSFORMER_BLOCK_IDENTIFIERS}


def _alike(blocks: nn.ModuleList) -> bool:
    from diffusers.hooks._common import _ATTENTION_CLASSES

    return len({type(each) for each in blocks}) == 1 and all(
        any(isinstance(part, _ATTENTION_CLASSES) for part in block.children()) for block in blocks
    )


def block_stream(block: nn.Module) -> Stream:
    """Where a block has its hidden states: as diffusers knows its class, or by its signature."""
    from diffusers.hooks._helpers import TransformerBlockRegistry

    named = parameters(block)
    try:
        known = TransformerBlockRegistry.get(type(block))
    except ValueError:
        return part_stream(block)
    hidden, text = known.hidden_states_argument_name, known.encoder_hidden_states_argument_name
    at, beside = known.return_hidden_states_index, known.return_encoder_hidden_states_index
    if beside is None:
        return Stream((hidden,), (), named)
    return Stream((text, hidden), (beside, at), named)


def part_stream(part: nn.Module) -> Stream:
    """Where a part of a block, or one that nobody knows, has what enters it."""
    named = parameters(part)
    return Stream((HIDDEN if HIDDEN in named else named[0],), (), named)


def parts_of(path: str, block: nn.Module) -> dict[str, nn.Module]:
    """The sites inside a block: attention and MLPs, by kind."""
    from diffusers.hooks._common import (
        _ATTENTION_CLASSES,
        _FEEDFORWARD_CLASSES,
        _TEMPORAL_TRANSFORMER_BLOCK_IDENTIFIERS,
    )

    temporal = path.partition(".")[0] in _TEMPORAL_TRANSFORMER_BLOCK_IDENTIFIERS
    where = "temporal" if temporal else "spatial"
    found: dict[str, nn.Module] = {}
    for name, child in block.named_children():
        if isinstance(child, _ATTENTION_CLASSES):
            cross = getattr(child, "is_cross_attention", False)
            second = f"attn.{where}" in found and not getattr(block, "use_dual_attention", False)
            kind = "attn.cross" if cross or second else f"attn.{where}"
        elif name in TEXT_FEEDFORWARD:
            kind = "mlp.text"
        elif isinstance(child, _FEEDFORWARD_CLASSES) or name in FEEDFORWARD:
            kind = f"mlp.{where}"
        else:
            continue
        found.setdefault(kind, child)
    return found


def parameters(module: nn.Module) -> tuple[str, ...]:
    """The names of what a module's `forward` takes."""
    return tuple(inspect.signature(type(module).forward).parameters)[1:]


def by_name(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call, by the names that `parameters` gives."""
    return {**dict(zip(names, args, strict=False)), **kwargs}
