"""Calibration of caching methods: what they have to know of a model, measured as it samples.

The samples of an uncached run are generated; at every step but the first a method looks at what
entered and left the sites it watches, and at the step before (`observe` in its file). It may have
the same samples generated under settings of its own (`probes`), to see how far they stray. In the
end it makes its settings of that (`fit`), or several (`candidates`), of which a last round of
samples finds the best.

Every batch is a task of an engine, and what it found is kept under <results>/calibrations until all
is done: a calibration that was stopped goes on.
"""

import functools
import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from skipdit_cli import registry
from skipdit_cli.analyze.features import batches, encode
from skipdit_cli.analyze.looking import Spot, Subject
from skipdit_cli.cache import Cache, CacheSpec
from skipdit_cli.checkpoints import local
from skipdit_cli.errors import SkipditError, UsageError, unknown
from skipdit_cli.generate.batch import latents_of, network
from skipdit_cli.generate.decode import visible
from skipdit_cli.generate.engine import run_tasks
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.options import Options
from skipdit_cli.generate.worker import Task
from skipdit_cli.precision import products
from skipdit_cli.recipe import calibration, called
from skipdit_cli.recipe.calibration import Calibration
from skipdit_cli.run import Run
from skipdit_cli.sites import Seen, Site, gated
from skipdit_cli.storage import kept, provenance
from skipdit_cli.storage.disk import write_whole
from skipdit_cli.storage.lock import held

if TYPE_CHECKING:
    from skipdit_cli.caches import Method

FOLDER = "calibrations"  # under the results folder
FOUND = kept.Kind("part of a calibration", 1)
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
    with _Rounds(run.reference, chosen, configs[0], options).held() as rounds:
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
            pairs=run.num_samples * (steps - 1),
            settings=settings,
            variant=dict(chosen.variant(config, run.cache.layout)),
            tried=tried,
            provenance=made,
        )
        for config, (settings, tried) in zip(configs, answers, strict=True)
    ]


@dataclass(frozen=True)
class _Given:
    """What a batch is generated with, in any process.

    Attributes:
        run: without a cache.
        config: of the method, what it is asked to watch and to probe.
        root: the results folder.
        folder: for what is found.
    """

    run: Run
    method: "Method"
    config: Any
    root: Path
    folder: Path
    device: str
    weights_path: Path | None


class _Rounds:
    """The samples of one run, generated again and again."""

    def __init__(self, run: Run, method: "Method", config: Any, options: Options) -> None:
        said = f"{run.key} {method.name} {method.VERSION} {config}"
        self.folder = options.root / FOLDER / hashlib.sha256(said.encode()).hexdigest()[:16]
        self.run, self.method, self.config, self.options = run, method, config, options
        self.given = _Given(
            run,
            method,
            config,
            options.root,
            self.folder,
            options.device,
            options.weights_path,
        )

    @contextmanager
    def held(self) -> "Iterator[_Rounds]":
        """One process at a time; what was kept is removed in the end, if nothing went wrong."""
        with held(self.folder):
            encode(self.run, self.options)
            yield self
        shutil.rmtree(self.folder, ignore_errors=True)

    def answer(self, config: Any) -> tuple[dict[str, Any], dict[str, float]]:
        """The best settings for a config, and how near samples come under each that was tried."""
        found = self.method.candidates(
            self.observed, layout=self.run.cache.layout, config=config, strayed=self.probed
        )
        if len(found) == 1:
            return dict(*found.values()), {}
        configs = [replace(config, **settings) for settings in found.values()]
        variant = self.method.variant(config, self.run.cache.layout)
        of = ", ".join(f"{name}={value}" for name, value in variant.items())
        strayed = self._strayed(configs, f"{len(found)} answers, {of}")
        near = -10 * np.log10(np.maximum(strayed, LEAST)).mean(axis=1)
        tried = dict(zip(found, map(float, near.round(3)), strict=True))
        best = max(tried, key=lambda name: tried[name])
        return dict(found[best]), tried

    @functools.cached_property
    def observed(self) -> np.ndarray:
        """What the method observes: float64 [samples, steps - 1, ...]."""
        self._all([None], "the uncached samples")
        found = [self._read(None, batch)["observed"] for batch in self._batches]
        everything = np.concatenate(found).astype(np.float64)
        if not np.isfinite(everything).all():
            fix = "take --precision float32"
            raise SkipditError("what it computes is not finite", place=self.run.model, fix=fix)
        return everything

    @functools.cached_property
    def probed(self) -> np.ndarray:
        """How far samples stray under each of the method's probes: [probes, samples]."""
        layout, steps = self.run.cache.layout, len(self.run.timesteps)
        given = self.method.probes(layout, steps, config=self.config)
        configs = [replace(self.config, **settings) for settings in given]
        return self._strayed(configs, "what one reused step does")

    @property
    def _batches(self) -> list[list[int]]:
        return [list(indices) for indices in batches(self.run)]

    def _strayed(self, configs: Sequence[Any], what: str) -> np.ndarray:
        specs = (CacheSpec(self.method, config) for config in configs)
        caches = [spec.resolve(self.run.cache.layout) for spec in specs]
        self._all(caches, what)
        found = [
            np.concatenate([self._read(cache, batch)["strayed"] for batch in self._batches])
            for cache in caches
        ]
        return np.array(found).reshape(len(configs), self.run.num_samples)

    def _all(self, caches: Iterable[Cache | None], what: str) -> None:
        """Have every batch generated under every cache, or watched without one."""
        tasks = [
            Task(functools.partial(_generate, self.given, cache), batch, self.folder.name)
            for cache in dict.fromkeys(caches)
            for batch in self._batches
            if not _file(self.folder, cache, batch).exists()
        ]
        if not tasks:
            return
        of = f"calibrating {self.method.name} on {self.run.model}"
        with self.options.stage(f"{of}: {what}") as update:
            done = 0

            def on_done(task: Task, given: list[object]) -> None:
                nonlocal done
                done += 1
                update(done, len(tasks))

            run_tasks(tasks, engine=self.options.engine, on_done=on_done)

    def _read(self, cache: Cache | None, batch: Sequence[int]) -> dict[str, np.ndarray]:
        path = _file(self.folder, cache, batch)
        found = kept.read_arrays(path, dict, FOUND, of=_of(path))
        if found is None:
            raise SkipditError("is not there any more", place=str(path), fix="begin again")
        return found


def _generate(given: _Given, cache: Cache | None, indices: list[int]) -> None:
    """Generate a batch and keep what was observed, or how far its samples stray under a cache."""
    run, folder = given.run, given.folder
    uncached = folder / f"sample-{indices[0]:06d}.safetensors"
    model = network(run, device=given.device, weights_path=given.weights_path)
    with memory_checked(run.batch_size):
        if cache is None:
            subject = Subject.of(run, model, image=True)  # texts are of different lengths
            watching = Watching(subject, given.method, given.config, samples=len(indices))
            with watching.on():
                sample = latents_of(
                    run, indices, model=model, root=given.root, on_step=watching.step
                )
            _keep(uncached, sample=sample)
            _keep(_file(folder, None, indices), observed=torch.stack(watching.observed, dim=1))
            return
        sample = latents_of(replace(run, cache=cache), indices, model=model, root=given.root)
    before = kept.read_tensors(uncached, FOUND, of=_of(uncached))
    assert before is not None
    shown, wanted = (visible(each, run.card) for each in (sample.cpu(), before["sample"]))
    off = (shown - wanted).double().square()
    _keep(_file(folder, cache, indices), strayed=off.flatten(1).mean(dim=1))


def _keep(path: Path, **found: Tensor) -> None:
    from safetensors.torch import save

    data = save({name: value.cpu().contiguous() for name, value in found.items()})
    write_whole(path, kept.sealed_arrays(data, FOUND, of=_of(path)))


def _file(folder: Path, cache: Cache | None, indices: Sequence[int]) -> Path:
    name = hashlib.sha256(str(cache).encode()).hexdigest()[:12] if cache else "uncached"
    return folder / f"{name}-{indices[0]:06d}.safetensors"


def _of(path: Path) -> str:
    return f"{path.parent.name} {path.stem}"


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
        guided = len(output[0]) > self._samples
        self._calls.append(
            Seen({**self._entered}, {**self._left}, output[0], self._samples, guided)
        )

    def step(self, *told: Any) -> None:
        """A step is done."""
        now, self._calls = _together(self._calls), []
        if self._before is not None:
            self.observed.append(
                self._method.observe(self._layout, now, self._before, config=self._config)
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
