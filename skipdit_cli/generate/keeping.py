"""What a cache keeps between steps, in bytes, from shapes alone.

It is found by the cache's own code: the session that runs in a generation calls the method at the
steps that tell, on tensors of the right shapes without content. A method that decides while it runs
is taken to compute every second step.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.checkpoints import pipeline
from skipdit_cli.precision import dtype_of
from skipdit_cli.profiling import counts, traced
from skipdit_cli.sites import BOTH, CONDITIONAL, NULL_FIRST, Site

if TYPE_CHECKING:
    from skipdit_cli.generate.hooks import Session
    from skipdit_cli.run import Run

DECIDING = 8  # steps in which a method that decides while it runs has kept all that it keeps


def by_network(run: "Run") -> int:
    """Bytes that the cache of a run of one network keeps of a sample between steps, at most.

    The method is called at every site.
    """
    import torch

    from skipdit_cli.generate.hooks import Session
    from skipdit_cli.profiling.live import Live

    sizes, cache = counts.sizes(run.card), run.cache
    dtype = getattr(torch, dtype_of(run.precision))
    inside: dict[int, list[Site]] = {layer: [] for layer in range(cache.layout.layers)}
    for site in cache.hooked:
        inside[site.layer].append(site)
    session, most = Session(cache, run.timesteps, guided=run.guided), 0

    def compute(halves: str) -> torch.Tensor:
        branches = 2 if halves in (BOTH, NULL_FIRST) else 1
        session.look(given[branches], channel_dim=sizes.channel_dim)

        def at(site: Site, within: Sequence[Site] = ()) -> None:
            def leaving(hidden_states: torch.Tensor) -> torch.Tensor:
                for each in within:
                    at(each)
                return torch.empty_like(hidden_states)

            first, *rest = sizes.sites[site.kind]
            entering = torch.empty(first * branches, *rest, dtype=dtype, device="meta")
            session.run(site, leaving, entering)

        for layer, sites in inside.items():
            parts = [site for site in sites if site.kind != "layer"]
            if len(parts) < len(sites):
                at(Site("layer", layer), parts)
            else:
                for each in parts:
                    at(each)
        return torch.empty(branches, *sizes.latents, dtype=dtype, device="meta")

    x, pair = (torch.empty(n, *sizes.latents, dtype=dtype, device="meta") for n in (1, 2))
    given = {1: x, 2: pair}
    with torch.no_grad(), Live() as live:
        live.held_before(x, pair)
        for step in telling(session):
            live.scalar = 0.0 if step % 2 else math.inf
            session.begin(step)
            if run.guided:
                session.guide(x, compute, channel_dim=sizes.channel_dim)
            else:
                compute(CONDITIONAL)
            most = max(most, live.now)
    return most


class _Scheduler:
    """One that computes nothing."""

    def step(self) -> tuple[None]:
        return (None,)


def by_pipeline(run: "Run") -> int:
    """The same of a pipeline, whose transformers are called as its call would.

    Raises:
        Exception: of any kind; a transformer asks for more than shapes.
    """
    import torch

    from skipdit_cli.checkpoints import hollow_parts
    from skipdit_cli.checkpoints.untouched import untouched
    from skipdit_cli.generate.driven import Driven
    from skipdit_cli.profiling.live import FusedAttention, Live

    dtype, folder = getattr(torch, dtype_of(run.precision)), Path(run.card.folder)
    seen, call, scheduler, most = traced.shown(run.counted), run.traced, _Scheduler(), 0
    modules = [hollow_parts.empty(folder, name) for name in pipeline.denoisers(folder)]
    for module in modules:
        torch.nn.Module.to(module, dtype)  # that of diffusers has something to say of it
    weights = [each for one in modules for each in (*one.parameters(), *one.buffers())]
    given = {count: _given(seen.inputs, count, dtype) for count in (1, 2)}
    driven = Driven(modules, run.cache, call)
    with driven.attached(scheduler), torch.no_grad(), FusedAttention(), Live() as live:
        live.held_before(*weights, *_tensors(given))
        for steps, session in zip(call.stretches, driven.sessions, strict=True):
            for step in telling(session):
                live.scalar = 0.0 if step % 2 else math.inf
                driven.step = at = steps.start + step
                inputs = given[call.batches[at]]
                for _ in range(call.calls[at]):
                    with untouched(seen.values):
                        modules[call.turns[at]](**inputs)
                scheduler.step()
                most = max(most, live.now)
    return most


def _given(inputs: dict[str, Any], count: int, dtype: Any) -> dict[str, Any]:
    """The arguments of a call of one sample, as those of several, in another precision."""
    from torch import Tensor
    from torch.utils._pytree import tree_map

    def several(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.to(dtype) if value.is_floating_point() else value
        return value.repeat(count, *[1] * (value.dim() - 1)) if value.shape[:1] == (1,) else value

    found: dict[str, Any] = tree_map(several, inputs)
    return found


def _tensors(value: Any) -> list[Any]:
    from torch import Tensor
    from torch.utils._pytree import tree_leaves

    return [each for each in tree_leaves(value) if isinstance(each, Tensor)]


def telling(session: "Session") -> Sequence[int]:
    """The steps after which a cache may keep more than before.

    What is kept follows from what a step reuses and what the one before it did, so that each such
    pair is looked at once; diffusers' hooks count steps themselves and see all of them.
    """
    reused, halves = session.announced, session.halves
    if reused is None:
        return range(min(DECIDING, len(session.timesteps)))
    if session.foreign:
        return range(len(session.timesteps))
    pairs: dict[tuple, int] = {}
    for step, now in enumerate(zip(reused, halves, strict=True)):
        before = (reused[step - 1], halves[step - 1]) if step else None
        pairs.setdefault((before, now), step)
    return list(pairs.values())
