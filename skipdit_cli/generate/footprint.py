"""Footprint: the memory that a run takes, before it runs and from shapes alone.

The network's part is what one call of it holds on the meta device (`profiling/live.py`); what a
cache keeps between steps is found by its own code (`generate/keeping.py`).

Compared with what was measured on the embedded models (tests/contract/test_footprint.py) the
estimate of a step is between LOW and HIGH times the truth.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.checkpoints import pipeline
from skipdit_cli.generate import keeping
from skipdit_cli.generate.accelerated import AUTOENCODER
from skipdit_cli.generate.decode import FRAMES
from skipdit_cli.generate.decode import at_once as images_at_once
from skipdit_cli.plan.plan import sample_bytes
from skipdit_cli.precision import PRECISIONS, bytes_of, dtype_of
from skipdit_cli.profiling import counts, traced

if TYPE_CHECKING:
    from skipdit_cli.checkpoints.card import Card, Component
    from skipdit_cli.run import Run

LOW, HIGH = 0.8, 1.25
FLOAT32 = bytes_of("float32")
_SOURCES = ("caches/*.py", "cache.py", "generate/hooks.py", "generate/keeping.py")


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
        decoding: the most that is held while frames of a clip, or some images, are decoded, where
            that is no batch.
        pixels: the decoded sample; of a pipeline, which decodes a batch at once, all that decoding
            holds.
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
    kept, weights = _kept(run, keeping.by_network), sizes.weights * value
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
    """Of a pipeline, whose parts all stay where they are unless they are offloaded."""
    card, value = run.card, bytes_of(run.precision)
    sizes, parts = counts.sizes(run.counted), traced.part_sizes(card)
    own = pipeline.denoisers(Path(card.folder))
    bits8 = 1 if run.quantize else value  # all of a transformer is taken to be in 8 bits
    held = {name: size * (bits8 if name in own else value) for name, size in parts.items()}
    encoders = [size for name, size in held.items() if name not in own and name != "vae"]
    denoisers, autoencoder = [held[name] for name in own], held.get("vae", 0)
    block = max(denoisers) // len(run.traced.order)  # and no part of others is larger
    at_once = max(run.traced.batches)
    by_cache = _kept(run, keeping.by_pipeline, "generate/driven.py")
    return Footprint(
        weights=sum(denoisers),
        autoencoder=autoencoder,
        encoder=sum(encoders),
        step=sizes.step * value * at_once,
        kept=by_cache or 0,
        decoding=0,
        pixels=max(sample_bytes(card) * FLOAT32, traced.decoded(card) * value),
        there={
            "": There(*[sum(held.values())] * 3),
            "model": There(max(encoders, default=0), max(denoisers), autoencoder),
            "group": There(block, block, block),
        },
        counted=by_cache is not None,
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


def _kept(run: "Run", count: Callable[["Run"], int], *sources: str) -> int | None:
    """What the cache keeps of one sample between steps, in bytes; None if that cannot be counted.

    Without content a tensor answers few questions, and a method of another distribution may ask
    others, or a transformer may. Where it has a fault of its own, its run will say so.

    Args:
        count: the same, not remembered.
        sources: patterns of files that it depends on beside _SOURCES.
    """
    what = [run.cache, run.guided, dtype_of(run.precision), *run.timesteps]
    foreign = registry.source_hash("caches", run.cache.name)
    try:
        return counts.remembered(
            run.counted,
            f"kept by {' '.join(map(str, what))} {foreign}",
            lambda: count(run),
            sources=(*_SOURCES, *sources),
        )
    except Exception:
        if not (foreign or run.card.pipeline):
            raise
        return None
