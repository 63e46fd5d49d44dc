"""Footprint: the memory that a run takes, before it runs and from shapes alone.

The network's part is what one call of it holds on the meta device (`profiling/live.py`). What a
cache keeps between steps is found by its own code: the session that runs in a generation calls the
method at every site of the steps that tell, on tensors of the right shapes without content. A
method that decides while it runs is taken to compute every second step.

Compared with what was measured on the embedded models (tests/contract/test_footprint.py) the
estimate of a step is between LOW and HIGH times the truth.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.cache import NONE
from skipdit_cli.checkpoints import pipeline
from skipdit_cli.generate.accelerated import AUTOENCODER
from skipdit_cli.generate.decode import FRAMES
from skipdit_cli.generate.decode import at_once as images_at_once
from skipdit_cli.plan.plan import sample_bytes
from skipdit_cli.precision import PRECISIONS, bytes_of, dtype_of
from skipdit_cli.profiling import counts, traced
from skipdit_cli.sites import BOTH, CONDITIONAL, NULL_FIRST, Site

if TYPE_CHECKING:
    from skipdit_cli.checkpoints.card import Card, Component
    from skipdit_cli.generate.hooks import Session
    from skipdit_cli.run import Run

LOW, HIGH = 0.8, 1.25
FLOAT32 = bytes_of("float32")
DECIDING = 8  # steps in which a method that decides while it runs has kept all that it keeps
_SOURCES = ("caches/*.py", "cache.py", "generate/hooks.py", "generate/footprint.py")


@dataclass(frozen=True)
class There:
    """Bytes of weights that are in memory while text is encoded, samples are denoised, decoded."""

    encoding: int
    denoising: int
    decoding: int


@dataclass(frozen=True)
class Footprint:
    """Bytes of memory of a run; `step`, `kept` and `pixels` are those of one sample of a batch.

    Attributes:
        weights: of the denoiser, or of both.
        autoencoder: its weights.
        encoder: weights of the largest text encoder; of a pipeline, of all.
        step: the most that one step holds, both halves of guidance.
        kept: what the cache keeps between steps.
        decoding: the most that is held while frames of a clip, or some images, are decoded.
        pixels: the decoded sample.
        there: by what is offloaded, the weights that are in memory, whose sums these are.
        counted: whether what the cache keeps is known; a method of somebody else may need tensors
            with content, or fail.
    """

    weights: int
    autoencoder: int
    encoder: int
    step: int
    kept: int
    decoding: int
    pixels: int
    there: Mapping[str, There]
    counted: bool = True

    def peak(self, batch_size: int, *, offload: str = "") -> int:
        """The most that is in memory at a time, in bytes.

        Args:
            offload: as `Options` has it.
        """
        there = self.there[offload]
        denoising = there.denoising + batch_size * (self.step + self.kept)
        decoding = there.decoding + self.decoding + batch_size * self.pixels
        return max(there.encoding, denoising, decoding)

    def least(self, batch_size: int, *, offload: str = "") -> int:
        """What is needed even if a step is as far below the estimate as it ever was measured."""
        there = self.there[offload]
        step = int(LOW * batch_size * (self.step + self.kept))
        return max(there.encoding, there.denoising + step)

    def fitting(self, room: float, *, offload: str = "") -> int:
        """The largest batch whose peak fits in so many bytes; 0 where none does."""
        there = self.there[offload]
        denoising = (room - there.denoising) // (self.step + self.kept)
        decoding = (room - there.decoding - self.decoding) // max(self.pixels, 1)
        return int(max(0, min(denoising, decoding))) if there.encoding <= room else 0


@functools.cache
def footprint(run: "Run") -> Footprint:
    """The memory of a run; counted once, and kept on disk as counts are."""
    if run.card.pipeline:
        return _of_pipeline(run)
    card, value, decoded = run.card, bytes_of(run.precision), bytes_of(run.decode_precision)
    sizes, decoding = counts.sizes(card), counts.decoding(card)
    clip = len(sizes.grid) == 3
    at_once = (
        min(sizes.grid[0], FRAMES) if clip else min(run.batch_size, images_at_once(*sizes.grid))
    )
    halves, latents = 2 if run.guided else 1, math.prod(sizes.latents) * FLOAT32
    kept, weights = _kept(run), sizes.weights * value
    autoencoder = decoding.weights * decoded if decoding else 0
    both = There(0, weights + autoencoder, weights + autoencoder)
    return Footprint(
        weights=weights,
        autoencoder=autoencoder,
        encoder=_encoder(card, run.precision),
        step=sizes.step * value * halves + latents * (1 + halves),
        kept=kept or 0,
        decoding=decoding.values * decoded * at_once if decoding else 0,
        pixels=sample_bytes(card) * decoded,
        there={"": both, AUTOENCODER: replace(both, denoising=weights)},
        counted=kept is not None,
    )


def _of_pipeline(run: "Run") -> Footprint:
    """Of a pipeline, whose parts all stay where they are; what a cache keeps is not counted."""
    card, value = run.card, bytes_of(run.precision)
    sizes, parts = counts.sizes(card), traced.part_sizes(card)
    own = pipeline.denoisers(Path(card.folder))
    bits8 = 1 if run.quantize else value  # all of a transformer is taken to be in 8 bits
    held = {name: size * (bits8 if name in own else value) for name, size in parts.items()}
    encoders = [size for name, size in held.items() if name not in own and name != "vae"]
    denoisers, autoencoder = [held[name] for name in own], held.get("vae", 0)
    block = max(denoisers) // len(run.traced.order)  # and no part of others is larger
    alone = There(max(encoders, default=0), max(denoisers), autoencoder)
    return Footprint(
        weights=sum(denoisers),
        autoencoder=autoencoder,
        encoder=sum(encoders),
        step=sizes.step * value * max(run.traced.samples),
        kept=0,
        decoding=0,
        pixels=sample_bytes(card) * FLOAT32,
        there={
            "": There(*[sum(held.values())] * 3),
            "model": alone,
            "group": There(block, block, block),
        },
        counted=run.cache.name == NONE,
    )


def _encoder(card: "Card", precision: str) -> int:
    """Weights of the largest text encoder."""
    parts = (part for key, part in card.components.items() if key.startswith("text_encoder"))
    return max((_encoder_bytes(card, part, precision) for part in parts), default=0)


def _encoder_bytes(card: "Card", part: "Component", precision: str) -> int:
    folder = counts.described(part)
    if folder is None:  # a download of float32
        return part.size // FLOAT32 * bytes_of(precision)

    def count() -> dict[str, int]:
        from skipdit_cli.generate import encoders

        return encoders.sizes(encoders.blank(folder), PRECISIONS)

    known = (folder / "config.json").read_text(encoding="utf-8")
    sources = ("generate/encoders.py", "checkpoints/drawn.py")
    return counts.remembered(card, f"encoder {known}", count, sources=sources)[precision]


def _kept(run: "Run") -> int | None:
    """What the cache keeps of one sample between steps, in bytes; None if that cannot be counted.

    Without content a tensor answers few questions, and a method of another distribution may ask
    others. Where it has a fault of its own, its run will say so.
    """
    what = [run.cache, run.guided, dtype_of(run.precision), *run.timesteps]
    foreign = registry.source_hash("caches", run.cache.name)
    try:
        return counts.remembered(
            run.card,
            f"kept by {' '.join(map(str, what))} {foreign}",
            lambda: _simulated(run),
            sources=_SOURCES,
        )
    except Exception:
        if not foreign:
            raise
        return None


def _simulated(run: "Run") -> int:
    """The steps of the run's schedule that tell, on tensors without content."""
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
        for step in _telling(session):
            live.scalar = 0.0 if step % 2 else math.inf
            session.begin(step)
            if run.guided:
                session.guide(x, compute, channel_dim=sizes.channel_dim)
            else:
                compute(CONDITIONAL)
            most = max(most, live.now)
    return most


def _telling(session: "Session") -> Sequence[int]:
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
