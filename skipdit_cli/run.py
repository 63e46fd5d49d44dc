"""Run: one generation in full, with everything that changes a pixel.

It holds objects, not names: text is read into it where it comes in (`recipe/runs.py`), and nothing
that is handed a Run looks anything up again.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.cache import NONE, Cache
from skipdit_cli.checkpoints.card import Card

if TYPE_CHECKING:
    from skipdit_cli.checkpoints.traced import Traced
    from skipdit_cli.samplers import Sampler
    from skipdit_cli.sites import Site

# Versions of what every run goes through; raised when a change there changes a pixel, as VERSION
# in the file of a cache, sampler or family is (CONTRIBUTING.md).
LOOP = 2  # generate/loop.py, hooks.py, rng.py, conditioning.py
DECODING = 2  # generate/decode.py, storage/codec.py
TEXT = 3  # generate/text.py; what is kept of prompts depends on it too
PIPELINES = 3  # generate/driven.py, generate/pipelines.py
DRAWING = 1  # checkpoints/drawn.py, of random weights alone; embeddings depend on it too

FREE = ("num_samples", "names", "reference_steps")  # what changes no pixel
TOLD = 5  # seeds that are told one by one


@dataclass(frozen=True)
class Run:
    """One generation: everything that changes a pixel, and how many samples.

    Attributes:
        card: of the checkpoint.
        cache: the caching method on it, with all its settings; the method `none` without cache.
        sampler: what `registry.load` gives.
        steps: respacing string, as the sampler's `timesteps` reads it ("50", "ddim50").
        guidance: scale of classifier-free guidance, None for none.
        seed: of noise, and of classes where none are given; 0 where there are `seeds`.
        seeds: taken in turn by the samples, in place of the one.
        classes: taken in turn by the samples; None draws one for each.
        num_samples: how many; runs that differ in nothing else share their samples.
        batch_size: samples computed together; guidance doubles what the model sees.
        precision: of the denoiser and the text encoders, one of PRECISIONS.
        decode_precision: of the autoencoder.
        weights: fingerprint of the weights, text encoders and autoencoder included; RANDOM where
            all of them are drawn, which the card says as well.
        prompts: taken in turn by the samples; None for a model that takes no text, and where the
            list has not been fetched.
        names: what the samples are called, taken in turn; they change no pixel.
        reference_steps: of the uncached run that it is compared with, where these are others than
            its own; it changes no pixel and is not kept with the samples.
        negative_prompt: of the null half of guidance; it counts for a model that takes text alone.
        compile: whether the denoiser's layers are compiled, which rounds otherwise.
        quantize: the weights of a pipeline's transformers, one of QUANTIZATIONS; "" for not.
    """

    card: Card
    cache: Cache
    sampler: "Sampler"
    steps: str
    guidance: float | None
    seed: int
    classes: tuple[int, ...] | None
    num_samples: int
    batch_size: int
    precision: str = "float32"
    decode_precision: str = "float32"
    weights: str = ""
    prompts: tuple[str, ...] | None = None
    negative_prompt: str = ""
    compile: bool = False
    quantize: str = ""
    seeds: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    reference_steps: str | None = None

    @property
    def model(self) -> str:
        """Name of the checkpoint."""
        return self.card.name

    @property
    def label(self) -> str:
        """Name of the checkpoint for people, who are told where its weights are random."""
        return f"{self.model} (random weights)" if self.card.random else self.model

    @property
    def seeded(self) -> str:
        """Its seeds for people: `seed 0`, `seeds 0..4`, `seeds 7, 3`."""
        seeds = list(dict.fromkeys(self.seeds or (self.seed,)))
        if len(seeds) == 1:
            return f"seed {seeds[0]}"
        if seeds == list(range(seeds[0], seeds[-1] + 1)):
            return f"seeds {seeds[0]}..{seeds[-1]}"
        more = f" and {len(seeds) - TOLD} more" if len(seeds) > TOLD else ""
        return f"seeds {', '.join(map(str, seeds[:TOLD]))}{more}"

    @property
    def sampled(self) -> str:
        """Sampler and steps for people: `ddim 50`, where steps are "50" or "ddim50"."""
        return f"{self.sampler.name} {self.steps.removeprefix(self.sampler.name)}"

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on: two evaluations of the network for a sample."""
        if self.card.pipeline:
            return max(self.traced.samples) > 1
        return self.guidance is not None

    @property
    def traced(self) -> "Traced":
        """What the call of its pipeline does; of one alone."""
        return self.traced_in(self.steps)

    def traced_in(self, steps: str) -> "Traced":
        """The same in another number of steps."""
        scheduler: Any = self.sampler
        found: Traced = scheduler.traced(steps)
        return found

    @cached_property
    def counted(self) -> Card:
        """The card to count with: of some pipelines with a prompt, whose length counts."""
        if not self.card.pipeline:
            return self.card
        scheduler: Any = self.sampler
        found: Card = scheduler.counted((self.prompts or ())[: self.num_samples])
        return found

    @property
    def stretches(self) -> tuple[range, ...]:
        """The steps of each network: all of them, but of a pipeline whose networks take turns."""
        return self.traced.stretches if self.card.pipeline else (range(len(self.timesteps)),)

    def reused(self, cache: Cache | None = None) -> "list[frozenset[Site]]":
        """Per step, the sites that are reused; of a method that is not dynamic.

        Args:
            cache: in place of the run's own.
        """
        chosen = (cache or self.cache).at(self.timesteps)
        found = []
        for steps in self.stretches:
            own, at = chosen.in_turn(steps, len(self.timesteps)), slice(steps.start, steps.stop)
            found += own.reused(self.timesteps[at], guided=self.guided)
        return found

    @property
    def is_reference(self) -> bool:
        """Whether it is uncached, so that others are compared with it."""
        return self.cache.name == NONE and self.reference_steps is None

    @property
    def caution(self) -> str:
        """What the cache's method has to say against itself with this sampler, or ""."""
        method, stochastic = self.cache.method, self.sampler.STOCHASTIC
        return method.caution(self.cache.settings, stochastic=stochastic)

    @cached_property
    def timesteps(self) -> tuple[int, ...]:
        """The training timesteps (999 to 0) of all steps, highest first."""
        return tuple(self.sampler.timesteps(self.steps))

    def stream(self, index: int) -> tuple[int, int]:
        """Seed and index of the noise of a sample.

        Where there are seeds, it is that of the first sample of a run of its seed alone; a later
        turn of the same seeds has the next ones.
        """
        if not self.seeds:
            return self.seed, index
        turn, place = divmod(index, len(self.seeds))
        return self.seeds[place], turn

    @cached_property
    def key(self) -> str:
        """16 hex digits; runs that differ in nothing but FREE share their samples."""
        content = {name: value for name, value in self.to_dict().items() if name not in FREE}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def reference(self) -> "Run":
        """The same run without cache, of all steps, which pair metrics compare with."""
        steps = self.reference_steps or self.steps
        return replace(self, cache=self.cache.uncached, steps=steps, reference_steps=None)

    def __hash__(self) -> int:
        return hash(self.key)

    def to_dict(self) -> dict[str, Any]:
        """Content that JSON can hold; `runs.from_dict` reads it back."""
        content: dict[str, Any] = {
            "model": self.card.name,
            "cache": str(self.cache),
            "sampler": self.sampler.name,
            "steps": self.steps,
            "guidance": self.guidance,
            "seed": self.seed,
            "classes": list(self.classes) if self.classes else None,
            "num_samples": self.num_samples,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "decode_precision": self.decode_precision,
            "compile": self.compile,
            "weights": self.weights,
        }
        for name in ("prompts", "seeds", "names"):
            if (values := getattr(self, name)) is not None:
                content[name] = list(values)
        if self.card.text:
            content["negative_prompt"] = self.negative_prompt
        if self.card.pipeline:
            content["call"] = dict(self.card.arguments)
        if self.quantize:
            content["quantize"] = self.quantize
        content["versions"] = self._versions()
        return content

    def _versions(self) -> dict[str, int | str]:
        """What tells the code that makes the samples from code that makes others."""
        if self.card.pipeline:
            named = ("diffusers", "transformers", *(("torchao",) if self.quantize else ()))
            packages = {name: _installed(name) for name in named}
            cache = registry.version("caches", self.cache.name)
            versions = {"cache": cache, "pipelines": PIPELINES, **packages}
            if self.card.random:
                versions |= {"drawing": DRAWING, "card": self.card.digest}
            return versions
        versions = {
            "cache": registry.version("caches", self.cache.name),
            "sampler": registry.version("samplers", self.sampler.name),
            "family": registry.version("models", self.card.family),
            "loop": LOOP,
            "decoding": DECODING,
        }
        if self.card.text:
            versions["text"] = TEXT
        if self.card.random:
            versions["drawing"] = DRAWING
            if self.card.by_path:  # what weights are said to be says it elsewhere
                versions["card"] = self.card.identity
        if self.cache.method.has("hooks"):
            versions["diffusers"] = metadata.version("diffusers")
        return versions


def _installed(package: str) -> str:
    """The version of a package; "" of one that is not here, where a run was made that needs it."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return ""
