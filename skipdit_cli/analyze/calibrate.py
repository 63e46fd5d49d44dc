"""Calibration of caching methods: what they have to know of a model, measured as it samples.

The samples of an uncached run are generated; at every step but the first a method looks at what
entered and left the sites it watches, and at the step before (`observe` in its file). It may have
the same samples generated under settings of its own (`probes`), to see how far they stray. In the
end it makes its settings of that (`fit`), or several (`candidates`), of which a last round of
samples finds the best.

Every batch is a task of an engine, and what it found is kept under the results folder until all is
done: a calibration that was stopped goes on.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from skipdit_cli import registry
from skipdit_cli.analyze.features import Where, batches, encode, network_of
from skipdit_cli.analyze.looking import Spot, Subject
from skipdit_cli.analyze.parts import Measure, Parts, read
from skipdit_cli.cache import Cache, CacheSpec
from skipdit_cli.checkpoints import local
from skipdit_cli.checkpoints.denoiser import as_batch
from skipdit_cli.errors import SkipditError, UsageError, unknown
from skipdit_cli.generate.batch import latents_of
from skipdit_cli.generate.decode import visible
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.options import Options
from skipdit_cli.precision import products
from skipdit_cli.recipe import calibration, called
from skipdit_cli.recipe.calibration import Calibration
from skipdit_cli.run import Run
from skipdit_cli.sites import Seen, Site, gated
from skipdit_cli.storage import provenance

if TYPE_CHECKING:
    from skipdit_cli.caches import Method

LEAST = 1e-20  # of a mean square, whose logarithm is taken


def calibrate(
    run: Run, method: str, options: Options, *, configs: Sequence[Any] | None = None
) -> list[Calibration]:
    """Generate the samples of an uncached run and measure what a method needs.

    Args:
        run: what is generated; nothing of it is decoded or kept.
        method: one of `calibration.methods`.
        configs: of the method, what is calibrated; what the method says by default.
    Raises:
        UsageError: the method needs no calibration, or there are too few steps for one.
        MissingAssetError: the weights are not here.
        SkipditError: what the model computes is not finite.
    """
    if method not in calibration.methods():
        raise unknown("method", method, calibration.methods(), place="--method")
    chosen, steps = registry.load("caches", method), len(run.timesteps)
    if steps < 2:
        raise UsageError(
            "a calibration needs two steps or more", place="--steps", fix="take more steps"
        )
    local.require(run.card, path=options.weights_path)
    if run.card.pipeline:
        called.check_method(run.card, method)
    configs = configs or chosen.variants(run.cache.layout, steps)
    with products(run.precision):  # which it is measured in
        made = provenance.collect(import_torch=True)
    alone = run.reference
    said = f"{alone.key} {chosen.name} {chosen.VERSION} {configs[0]}"
    with Parts(said, options, title=f"calibrating {method} on {run.model}").held() as parts:
        encode(alone, options)
        rounds = _Rounds(alone, chosen, configs[0], options, parts)
        answers = [rounds.answer(config) for config in configs]
    return [
        Calibration(
            model=run.model,
            method=method,
            weights=local.fingerprint(run.card, path=options.weights_path),
            sampler=run.sampler.name,
            steps=run.steps,
            guidance=run.guidance,
            num_samples=run.num_samples,
            seed=run.seed,
            pairs=run.num_samples * (steps - len(run.stretches)),
            settings=settings,
            variant=dict(chosen.variant(config, run.cache.layout)),
            tried=tried,
            provenance=made,
            call=dict(run.card.arguments) if run.card.pipeline else {},
        )
        for config, (settings, tried) in zip(configs, answers, strict=True)
    ]


class _Rounds:
    """The samples of one run, generated again and again."""

    def __init__(
        self, run: Run, method: "Method", config: Any, options: Options, parts: Parts
    ) -> None:
        """
        Args:
            run: without a cache.
            config: of the method, what it is asked to watch and to probe.
        """
        self._run, self._method, self._config, self._parts = run, method, config, parts
        self._where = Where(options.root, options.device, options.weights_path)

    def answer(self, config: Any) -> tuple[dict[str, Any], dict[str, float]]:
        """The best settings for a config, and how near samples come under each that was tried."""
        found = self._method.candidates(
            self._observed, layout=self._run.cache.layout, config=config, strayed=self._probed
        )
        if len(found) == 1:
            return dict(*found.values()), {}
        configs = [replace(config, **settings) for settings in found.values()]
        variant = self._method.variant(config, self._run.cache.layout)
        of = ", ".join(f"{name}={value}" for name, value in variant.items())
        strayed = self._strayed(configs, f"{len(found)} answers, {of}")
        near = -10 * np.log10(np.maximum(strayed, LEAST)).mean(axis=1)
        tried = dict(zip(found, map(float, near.round(3)), strict=True))
        best = max(tried, key=lambda name: tried[name])
        return dict(found[best]), tried

    @functools.cached_property
    def _observed(self) -> np.ndarray:
        """What the method observes: float64 [samples, steps - 1, ...]."""
        measures: dict[str, Measure] = {
            _name(None, batch): functools.partial(
                _watch, self._run, self._method, self._config, batch, self._where
            )
            for batch in batches(self._run)
        }
        self._parts.compute(measures, "the uncached samples")
        found = [self._parts.read(name)["observed"] for name in measures]
        everything = np.concatenate(found).astype(np.float64)
        if not np.isfinite(everything).all():
            fix = "take --precision float32"
            raise SkipditError("what it computes is not finite", place=self._run.model, fix=fix)
        return everything

    @functools.cached_property
    def _probed(self) -> np.ndarray:
        """How far samples stray under each of the method's probes: [probes, samples]."""
        layout, steps = self._run.cache.layout, len(self._run.timesteps)
        given = self._method.probes(layout, steps, config=self._config)
        configs = [replace(self._config, **settings) for settings in given]
        return self._strayed(configs, "what one reused step does")

    def _strayed(self, configs: Sequence[Any], what: str) -> np.ndarray:
        specs = (CacheSpec(self._method, config) for config in configs)
        caches = [spec.resolve(self._run.cache.layout) for spec in specs]
        measures: dict[str, Measure] = {
            _name(cache, batch): functools.partial(
                _stray,
                replace(self._run, cache=cache),
                batch,
                self._where,
                (self._parts.folder, _name(None, batch)),
            )
            for cache in caches
            for batch in batches(self._run)
        }
        self._parts.compute(measures, what)
        found = [
            np.concatenate(
                [self._parts.read(_name(cache, batch))["strayed"] for batch in batches(self._run)]
            )
            for cache in caches
        ]
        return np.array(found).reshape(len(configs), self._run.num_samples)


def _name(cache: Cache | None, batch: Sequence[int]) -> str:
    """Of a part: the batch without a cache, or under one."""
    name = hashlib.sha256(str(cache).encode()).hexdigest()[:12] if cache else "uncached"
    return f"{name}-{batch[0]:06d}"


def _watch(
    run: Run, method: "Method", config: Any, indices: Sequence[int], where: Where
) -> dict[str, Tensor]:
    """Generate a batch: what was observed, [B, steps - 1, ...], and the latents that it ends in."""
    model = network_of(run, where)
    subject = Subject.of(run, model, image=True)  # texts are of different lengths
    watching = Watching(subject, method, config, samples=len(indices))
    with memory_checked(run.batch_size), watching.on():
        sample = latents_of(run, indices, model=model, root=where.root, on_step=watching.step)
    return {"observed": torch.stack(watching.observed, dim=1), "sample": sample}


def _stray(
    run: Run, indices: Sequence[int], where: Where, uncached: tuple[Path, str]
) -> dict[str, Tensor]:
    """How far the samples of a batch stray under a run's cache: mean square differences, [B].

    Args:
        uncached: where the part is that `_watch` gave: folder and name.
    """
    with memory_checked(run.batch_size):
        model = network_of(run, where)
        sample = latents_of(run, indices, model=model, root=where.root).cpu()
    shown, wanted = (visible(each, run.card) for each in (sample, read(*uncached)["sample"]))
    return {"strayed": (shown - wanted).double().square().flatten(1).mean(dim=1)}


class Watching:
    """What a method observes of the steps of a generation but the first.

    Attributes:
        observed: tensors [samples, ...], as the method's `observe` gives them.
    """

    def __init__(self, subject: Subject, method: "Method", config: Any, *, samples: int) -> None:
        """
        Args:
            subject: that generates without a cache.
            config: of the method.
            samples: in a batch.
        """
        self._subject, self._method, self._config = subject, method, config
        self._samples = samples
        self._layout = subject.run.cache.layout
        self.observed: list[Tensor] = []
        self._entered: dict[Site, Tensor] = {}
        self._left: dict[Site, Tensor] = {}
        self._closing: dict[Site, dict[str, Any]] = {}  # gate and residual, which a method does
        # not see
        self._calls: list[Seen] = []  # of the step at hand
        self._turns = {steps.start for steps in subject.run.stretches}  # the first of a network
        self._before: Seen | None = None

    @contextmanager
    def on(self) -> "Iterator[Watching]":
        """Watch in the block."""
        with ExitStack() as stack:
            for spot in self._subject.of_sites(
                self._method.watched(self._layout, config=self._config)
            ):
                for handle in (
                    spot.module.register_forward_pre_hook(
                        functools.partial(self._enters, spot), with_kwargs=True
                    ),
                    spot.module.register_forward_hook(functools.partial(self._leaves, spot)),
                ):
                    stack.callback(handle.remove)
            for network in self._subject.networks:
                stack.callback(network.register_forward_hook(self._called).remove)
            yield self

    def _enters(self, spot: Spot, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        self._entered[spot.site] = spot.place.entering(module, args, kwargs)
        if not spot.gates:
            return None
        self._closing[spot.site] = {name: kwargs.pop(name, None) for name in ("gate", "residual")}
        return args, kwargs

    def _leaves(self, spot: Spot, module: nn.Module, args: Any, output: Any) -> Any:
        self._left[spot.site] = spot.place.leaving(output)
        if not spot.gates:
            return None
        closed = gated(self._left[spot.site], **self._closing[spot.site])
        return spot.place.replaced(output, closed)

    def _called(self, module: nn.Module, args: Any, output: tuple[Tensor]) -> None:
        given = as_batch(output[0])
        guided = len(given) > self._samples
        self._calls.append(Seen({**self._entered}, {**self._left}, given, self._samples, guided))

    def step(self, *told: Any) -> None:
        """A step is done."""
        now, self._calls = _together(self._calls), []
        if self._before is not None:
            before = now if len(self.observed) + 1 in self._turns else self._before
            self.observed.append(
                self._method.observe(self._layout, now, before, config=self._config)
            )
        self._before = now


def _together(calls: Sequence[Seen]) -> Seen:
    """The calls of a step as one, as if they were one batch."""
    first, *rest = calls
    if not rest:
        return first
    entered, left = (
        {
            site: torch.cat([getattr(call, name)[site] for call in calls])
            for site in getattr(first, name)
        }
        for name in ("entered", "left")
    )
    output = torch.cat([call.output for call in calls])
    return Seen(entered, left, output, first.samples, guided=True)
