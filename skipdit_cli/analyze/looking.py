"""Looking at what enters and leaves the sites of a network while it runs, ours or a pipeline's.

A pipeline has several transformers where they take turns, guidance in one batch or in two calls,
and blocks with two hidden states, which are looked at as caches see them: as one tensor.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from skipdit_cli.checkpoints.denoiser import Blocks, Packing, Stream, latents
from skipdit_cli.generate.pipelines import transformers_of
from skipdit_cli.run import Run
from skipdit_cli.sites import (
    BOTH,
    CONDITIONAL,
    NULL,
    NULL_FIRST,
    Site,
    place_of,
    site_modules,
)

# (layer, hidden state that leaves it, what the batch holds) -> what takes its place, or None.
See = Callable[[int, Tensor, str], Tensor | None]


class Place(Protocol):
    """Where a module has its hidden state; see `sites.Place`."""

    def entering(self, module: nn.Module, args: Any, kwargs: Any) -> Tensor: ...

    def leaving(self, returned: Any) -> Tensor: ...

    def replaced(self, returned: Any, hidden_states: Tensor) -> Any: ...


class Spot(NamedTuple):
    """A site, the module behind it, and where that has its hidden state.

    Attributes:
        gates: whether `gate` and `residual` among its arguments are those of `sites.gated`.
    """

    site: Site
    module: nn.Module
    place: Place
    gates: bool


@dataclass
class _Packed:
    """Where a block of a pipeline has its hidden states, packed as one.

    A stream that a block does not return goes on as it came.

    Attributes:
        image: whether the stream of the image is looked at alone.
        part: whether it is a part of a block, of which the first is looked at of what it returns.
    """

    stream: Stream
    image: bool = False
    part: bool = False
    entered: list[Tensor] = field(default_factory=list)

    def entering(self, module: nn.Module, args: Any, kwargs: Any) -> Tensor:
        self.entered = self.stream.entering(args, kwargs)
        return self._seen(self.entered)

    def leaving(self, returned: Any) -> Tensor:
        if self.part:
            return next(x for x in tree_leaves(returned) if isinstance(x, Tensor))
        return self._seen(self.stream.leaving(returned, self.entered))

    def _seen(self, states: list[Tensor]) -> Tensor:
        seen = states[-1:] if self.image else states
        return Packing.of(seen).pack(seen)

    def replaced(self, returned: Any, hidden_states: Tensor) -> Any:
        states = self.stream.leaving(returned, self.entered)
        pattern = returned if isinstance(returned, tuple) else None
        return self.stream.returned(Packing.of(states).unpack(hidden_states), pattern)


@dataclass
class Subject:
    """What a run is computed by, open to be looked at.

    Attributes:
        run: of the network.
        networks: the network, or the transformers of a pipeline, in their turns.
        spots: the sites of each.
    """

    run: Run
    networks: Sequence[nn.Module]
    spots: Sequence[Sequence[Spot]]

    @classmethod
    def of(cls, run: Run, model: Any, *, image: bool = False) -> "Subject":
        """
        Args:
            model: the network of a run, or its pipeline.
            image: whether the image is looked at alone, where every block has text beside it.
        """
        if not run.card.pipeline:
            own = [
                Spot(site, module, place_of(model, site.kind), gates=True)
                for site, module in site_modules(model).items()
            ]
            return cls(run, [model], [own])
        traced = run.traced_in(run.steps)
        image = image and len({len(names) for names, _ in traced.streams}) == 1
        networks = transformers_of(model, run.card)
        spots = []
        for network in networks:
            blocks = Blocks(network, traced.order, streams=traced.streams)
            places = {
                site: _Packed(stream, image, site.kind != "layer")
                for site, stream in blocks.streams.items()
            }
            spots.append(
                [Spot(site, blocks.modules[site], places[site], False) for site in blocks.modules]
            )
        return cls(run, networks, spots)

    def of_sites(self, sites: Iterable[Site]) -> Iterator[Spot]:
        """The spots of some sites, in all networks."""
        wanted = {*sites}
        return (spot for each in self.spots for spot in each if spot.site in wanted)

    @contextmanager
    def calls(self, samples: int) -> "Iterator[Calls]":
        """What the batch of the call at hand holds, while the networks are called."""
        calls = Calls(samples, BOTH if self.run.guided else CONDITIONAL)
        if self.run.card.pipeline and self.run.traced_in(self.run.steps).conditional_first:
            calls.doubled = BOTH
        with ExitStack() as stack:
            if self.run.card.pipeline:
                for network in self.networks:
                    hook = network.register_forward_pre_hook(calls.begin, with_kwargs=True)
                    stack.callback(hook.remove)
            yield calls


@dataclass
class Calls:
    """The calls of a step.

    Attributes:
        samples: of the batch.
        holds: what the batch of the call at hand holds, of `sites`; of pipelines that call twice
            the null half second.
        number: how many calls of the step were begun.
        entered: latents that entered the first of them, [B, ...]; of pipelines.
        doubled: what a batch of both halves of a pipeline holds.
    """

    samples: int
    holds: str
    number: int = 0
    entered: Tensor | None = None
    doubled: str = NULL_FIRST

    def begin(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        x = latents(module, args, kwargs)
        self.holds = self.doubled if len(x) > self.samples else (CONDITIONAL, NULL)[self.number % 2]
        self.entered = x[: self.samples] if self.number == 0 else self.entered
        self.number += 1

    def next_step(self) -> None:
        self.number = 0


@contextmanager
def leaving(subject: Subject, calls: Calls, layers: Iterable[int], see: See) -> Iterator[None]:
    """Call `see` with every hidden state that leaves one of some layers."""

    def enter(spot: Spot, module: nn.Module, args: Any, kwargs: Any) -> None:
        spot.place.entering(module, args, kwargs)

    def look(spot: Spot, module: nn.Module, args: Any, output: Any) -> Any:
        instead = see(spot.site.layer, spot.place.leaving(output), calls.holds)
        return output if instead is None else spot.place.replaced(output, instead)

    with ExitStack() as stack:
        for spot in subject.of_sites(Site("layer", layer) for layer in layers):
            for handle in (
                spot.module.register_forward_pre_hook(
                    functools.partial(enter, spot), with_kwargs=True
                ),
                spot.module.register_forward_hook(functools.partial(look, spot)),
            ):
                stack.callback(handle.remove)
        yield


def halves(x: Tensor, samples: int, holds: str) -> dict[str, Tensor]:
    """All values of each sample in each half: [(2) B * ..., ...] -> [B, values], by half.

    Args:
        holds: what the batch holds, of `sites`.
    """
    if holds in (CONDITIONAL, NULL):
        return {holds: x.reshape(samples, -1)}
    first, second = x.reshape(2, samples, -1)
    return (
        {CONDITIONAL: second, NULL: first}
        if holds == NULL_FIRST
        else {CONDITIONAL: first, NULL: second}
    )
