"""How hidden states go through a transformer: in which order its blocks run, and what they hand on.

Seen in one call. Of a block that diffusers knows what its registry says holds, as long as it is
what the block really takes and returns; of others, what it returns is what it was given of the same
shape, or what the next block of its class is given.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from skipdit_cli.checkpoints.denoiser import (
    HIDDEN,
    Packing,
    Stream,
    block_stream,
    by_name,
    lists,
    main,
    parameters,
)


@dataclass
class Called:
    """One call of a block.

    Attributes:
        path: of the block.
        given: its tensors, by the names of `forward`.
        returned: what it gave.
        stream: where its hidden states are.
    """

    path: str
    block: nn.Module
    given: dict[str, Tensor]
    returned: Any = None
    stream: Stream = field(init=False)

    @property
    def entered(self) -> list[Tensor]:
        """The hidden states that it was given."""
        return self.named(self.stream.names)

    def named(self, names: Sequence[str]) -> list[Tensor]:
        """What it was given by these names."""
        return [self.given[name] for name in names]

    @property
    def left(self) -> list[Tensor]:
        """Those that it leaves."""
        return self.stream.leaving(self.returned, self.entered)

    @property
    def outputs(self) -> list[tuple[int, Tensor]]:
        """The tensors that it returned, and their places."""
        several = self.returned if isinstance(self.returned, tuple) else (self.returned,)
        return [(at, each) for at, each in enumerate(several) if isinstance(each, Tensor)]


class _Joins(TorchFunctionMode):
    """Remembers what tensors were joined."""

    def __init__(self) -> None:
        super().__init__()
        self.joins: list[tuple[Tensor, Sequence[Tensor]]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.cat, torch.concat):
            self.joins.append((result, args[0] if args else (kwargs or {})["tensors"]))
        return result

    def parts(self, state: Tensor) -> list[Tensor]:
        """What a tensor was joined of; itself, where it was not."""
        return next(([*of] for result, of in self.joins if result is state), [state])


class Watched:
    """What one call of a transformer showed.

    Attributes:
        order: paths of the blocks, as they were called.
        streams: of each, where it has its hidden states.
        skips: pairs of layers (to, from): the output of one goes into the other as well.
        steady: whether hidden states, those of text and image together, keep their shape from one
            block to the next.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module, self._calls, self._joins = module, list[Called](), _Joins()
        self.order: list[str] = []
        self.streams: list[Stream] = []
        self.skips: list[tuple[int, int]] = []
        self.steady = True

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the one call in the block."""
        found = lists(self._module)
        known = {self._module.get_submodule(path): path for each in found.values() for path in each}

        def enter(block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            given = by_name(parameters(block), args, kwargs)
            tensors = {name: each for name, each in given.items() if isinstance(each, Tensor)}
            self._calls.append(Called(known[block], block, tensors))

        def leave(block: nn.Module, args: tuple, output: Any) -> None:
            next(each for each in reversed(self._calls) if each.block is block).returned = output

        handles = [block.register_forward_pre_hook(enter, with_kwargs=True) for block in known]
        handles += [block.register_forward_hook(leave) for block in known]
        try:
            with self._joins:
                yield
        finally:
            for handle in handles:
                handle.remove()
        self._conclude(main(self._module))

    def _conclude(self, wanted: set[str]) -> None:
        learnt: dict[type, Stream] = {}
        for each, after in zip(self._calls, [*self._calls[1:], None], strict=True):
            stream = learnt.get(type(each.block))
            if stream is None or not _holds(stream, each):
                stream = self._stream(each, after)
            each.stream = stream
            learnt.setdefault(type(each.block), stream)
        while more := self._joined(wanted):
            wanted |= more
        calls = [each for each in self._calls if _list(each.path) in wanted]
        self.order, self.streams = [each.path for each in calls], [each.stream for each in calls]
        self.skips = _skips(calls)
        shapes = {
            tuple(Packing.of(states).pack(states).shape)
            for each in calls
            for states in (each.entered, each.left)
        }
        handed = all(
            len(one.stream.names) == len(other.stream.names) or self._goes(one, other)
            for one, other in pairwise(calls)
        )
        self.steady = len(shapes) == 1 and handed

    def _stream(self, called: Called, after: Called | None) -> Stream:
        known = block_stream(called.block)
        if _holds(known, called):
            return known
        following = after.given if after and type(after.block) is type(called.block) else {}
        pairs: dict[str, int] = {}
        for at, tensor in called.outputs:
            alike = [
                name
                for name, each in called.given.items()
                if each.shape == tensor.shape and name not in pairs
            ]
            alike.sort(key=lambda name: following.get(name) is not tensor)
            if alike:
                pairs[alike[0]] = at
        if not pairs:
            return known
        image = HIDDEN if HIDDEN in pairs else min(pairs, key=known.parameters.index)
        names = (*(name for name in pairs if name != image), image)
        several = isinstance(called.returned, tuple)
        return Stream(names, tuple(pairs[name] for name in names) * several, known.parameters)

    def _joined(self, wanted: set[str]) -> set[str]:
        """Other lists, whose hidden states go into those of the wanted ones, or come from there."""
        return {
            _list(off.path)
            for one, other in pairwise(self._calls)
            if self._goes(one, other)
            for on, off in ((one, other), (other, one))
            if _list(on.path) in wanted and _list(off.path) not in wanted
        }

    def _goes(self, one: Called, other: Called) -> bool:
        """Whether what a block leaves goes into another one, in the same order."""
        handed = [part for state in other.entered for part in self._joins.parts(state)]
        left = one.left
        return len(handed) == len(left) and all(a is b for a, b in zip(handed, left, strict=True))


def _holds(stream: Stream, called: Called) -> bool:
    """Whether a block takes and returns what a stream says."""
    if any(name not in called.given for name in stream.names):
        return False
    if not stream.outputs:
        return isinstance(called.returned, Tensor)
    if not isinstance(called.returned, tuple):
        return False
    return all(
        at is not None
        and at < len(called.returned)
        and (called.returned[at] is None or called.returned[at].shape == state.shape)
        for at, state in zip(stream.outputs, called.named(stream.names), strict=True)
    )


def _list(path: str) -> str:
    return path.rpartition(".")[0]


def _skips(calls: Sequence[Called]) -> list[tuple[int, int]]:
    found = []
    for layer, each in enumerate(calls):
        entered = each.entered
        others = [one for one in each.given.values() if all(one is not state for state in entered)]
        for source, earlier in enumerate(calls[: max(layer - 1, 0)]):
            left = [tensor for _, tensor in earlier.outputs]
            found += [(layer, source) for one in others if any(one is state for state in left)]
    return found
