"""Scores: one metric of one run's samples, kept on disk until either of them changes."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from skipdit_cli import (
    applicable,
    features,
    npz,
    provenance,
    reference,
    registry,
    results,
)
from skipdit_cli.errors import IncompleteError, MissingAssetError, SkipditError, UsageError
from skipdit_cli.results import Result
from skipdit_cli.store import Store, open_store

if TYPE_CHECKING:
    from skipdit_cli.run import Run

Progress = Callable[[int, int], None]  # samples done, samples in all

RESAMPLES = 1000
COVERAGE = 0.95
CHUNK = {3: 64, 4: 16}  # samples whose features are kept together, by the axes of a sample


@dataclass(frozen=True)
class How:
    """Where and with what samples are scored.

    Attributes:
        device: of the networks. workers: threads that read and decode.
        reference: an npz in place of a metric's own reference.
    """

    device: str = "cpu"
    workers: int = 1
    reference: Path | None = None


class Samples(Protocol):
    """A run's samples, or images of an npz."""

    @property
    def path(self) -> Path: ...
    def hashes(self, n: int) -> list[str]: ...
    def read(self, index: int) -> np.ndarray: ...
    def meta(self, index: int) -> dict: ...


def measure(
    run: "Run", metric: str, *, root: Path, how: How = How(), progress: Progress | None = None
) -> Result:
    """Score the first `run.num_samples` samples of a run, or find that this was done already.

    A result on disk counts if metric version, number of samples, the samples themselves and what
    they are seen through and compared with are the same. Without the networks and references that
    a metric needs, the result has no value and is not kept.

    Args:
        run: the run; a metric of pairs compares it with `run.reference`.
        metric: name of a metric.
        root: the results folder.
        how: device, threads, and what it is compared with if not the metric's own reference.
        progress: called with samples done and samples in all.

    Raises:
        UsageError: the metric is unknown, or cannot score samples of this kind.
        IncompleteError: samples of the run or its reference are missing; they are named.
        StoreError: the disk, or a result file on it that is none.
    """
    module, n = registry.load("metrics", metric), run.num_samples
    original = run.reference if module.NEEDS == "pairs" else None
    if original and original.key == run.key:
        result = _blank(module, metric, run.key, n)
        note = "what the other runs are compared with"
        return replace(result, reference=run.key, status="reference", note=note)
    samples = open_store(root, run)
    samples.require(n)
    job = _Job(
        module=module,
        metric=metric,
        key=run.key,
        samples=samples,
        n=n,
        folder=samples.path / "features",
        dataset=run.card.dataset,
        originals=_originals(root, original, n=n) if original else None,
        original_key=original.key if original else None,
        how=how,
        progress=progress or (lambda done, total: None),
    )
    return _scored(job, root)


def measure_npz(
    path: Path, metric: str, *, root: Path, how: How = How(), progress: Progress | None = None
) -> Result:
    """Score the images of an npz, from whatever tool, as `measure` scores those of a run.

    Raises:
        UsageError: the file holds no images, or the metric needs more than images of ImageNet.
    """
    applicable.check_npz(metric, place="--metrics")
    module, samples = registry.load("metrics", metric), npz.NpzSamples(path)
    key = f"npz-{samples.sha256[:12]}"
    job = _Job(
        module=module,
        metric=metric,
        key=key,
        samples=samples,
        n=len(samples),
        folder=root / "npz" / key,
        dataset="imagenet256",
        originals=None,
        original_key=None,
        how=how,
        progress=progress or (lambda done, total: None),
    )
    return _scored(job, root)


def unscored(run: "Run", metric: str, error: SkipditError) -> Result:
    """What stands for a result where samples cannot be scored."""
    blank = _blank(registry.load("metrics", metric), metric, run.key, run.num_samples)
    said = SkipditError(error.problem, fix=error.fix)  # without the place, which the row tells
    return replace(blank, status="failed", note=str(said))


@dataclass(frozen=True, kw_only=True)
class _Job:
    """Samples and what they are scored by.

    Attributes:
        key: under which the result is kept. folder: where features are kept.
        originals: the uncached samples, for a metric of pairs.
    """

    module: ModuleType
    metric: str
    key: str
    samples: Samples
    n: int
    folder: Path
    dataset: str
    originals: Store | None
    original_key: str | None
    how: How
    progress: Progress

    @property
    def part(self) -> str:
        """What is asked of a metric of several parts: `vbench.quality` asks for "quality"."""
        return self.metric.partition(".")[2]


def _blank(module: ModuleType, metric: str, key: str, n: int) -> Result:
    return Result(
        metric=metric,
        value=None,
        unit=module.UNIT,
        n=n,
        run=key,
        version=module.VERSION,
        protocol=module.PROTOCOL,
    )


def _scored(job: _Job, root: Path) -> Result:
    """The result on disk if it is still that of these samples, or a new one."""
    module, n = job.module, job.n
    _check_size(job)
    prompts = [job.samples.meta(i).get("prompt", "") for i in range(n)]
    result = replace(
        _blank(module, job.metric, job.key, n),
        reference=job.original_key,
        inputs=_digest(job.samples, job.originals, n=n),
        protocol=module.protocol(prompts) if hasattr(module, "protocol") else module.PROTOCOL,
    )
    known = results.read_result(root, job.key, job.metric)
    if known and any(
        getattr(known, key) != getattr(result, key)
        for key in ("version", "n", "inputs", "protocol")
    ):
        known = None
    try:
        seen_through = reference.identities(module, job.dataset, given=job.how.reference)
        if known and known.assets == seen_through:
            return known
        result = replace(result, assets=seen_through)
        if module.NEEDS in ("pairs", "each"):
            average = getattr(module, "average", np.mean)
            scores = _scores(job)
            spread, interval = _uncertainty(scores)
            if average is not np.mean:
                interval = None  # it depends on the order, of which there is but one
            value = float(average(scores))
            result = replace(result, value=value, spread=spread, interval=interval)
        elif module.NEEDS == "prompted":
            result = replace(result, value=_prompted(job, prompts))
        else:
            result = replace(result, value=_set_score(job))
    except MissingAssetError as error:
        return known or replace(result, status="needs weights", note=str(error))
    result = replace(result, provenance=provenance.collect(import_torch=True))
    results.write_result(root, result)
    return result


def _check_size(job: _Job) -> None:
    """Raise a UsageError where a metric has a least size that the samples have not."""
    smallest, least = getattr(job.module, "SMALLEST", 0), getattr(job.module, "FRAMES", 0)
    if not smallest and not least:
        return
    shape = job.samples.read(0).shape
    place, fix = str(job.samples.path), "score a model of larger samples"
    if min(shape[-3:-1]) < smallest:
        problem = f"{job.metric} cannot score {shape[-3]}x{shape[-2]}, only {smallest} px and more"
        raise UsageError(problem, place=place, fix=fix)
    if least and (len(shape) < 4 or shape[0] < least):
        count = shape[0] if len(shape) == 4 else 1
        problem = f"{job.metric} cannot score {count} frames, only {least} and more"
        raise UsageError(problem, place=place, fix=fix)


def _originals(root: Path, run: "Run", *, n: int) -> Store:
    store = open_store(root, run)
    try:
        store.require(n)
    except IncompleteError as error:
        raise IncompleteError(
            f"the uncached reference is not complete: {error.problem}",
            place=error.place,
            fix="make the same samples with --cache none first",
        ) from None
    return store


def _digest(*stores: Samples | None, n: int) -> str:
    hashes = [store.hashes(n) for store in stores if store]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _scores(job: _Job) -> np.ndarray:
    """One score per sample [n]; where there is no network, by the threads that read as well."""
    module, samples, originals = job.module, job.samples, job.originals
    network = cache(partial(reference.network, module, job.how.device))
    alone = not hasattr(module, "load")

    def pair(i: int) -> tuple:
        sample = samples.read(i)
        return (originals.read(i), sample) if originals else (sample, samples.meta(i))

    def score(i: int, *given: Any) -> float:
        try:
            return module.score(*given)
        except UsageError as error:
            where = error.place or f"{samples.path} sample {i}, {module.NAME}"
            raise UsageError(error.problem, place=where, fix=error.fix) from None

    def compute(part: range, items: list) -> dict[str, np.ndarray]:
        scores = np.zeros(len(part))
        for place, (i, item) in enumerate(zip(part, items, strict=True)):
            scores[place] = item if alone else score(i, *item, network())
            job.progress(i + 1, job.n)
        return {"score": scores}

    inputs = samples.hashes(job.n)
    if originals:
        inputs = ["/".join(both) for both in zip(inputs, originals.hashes(job.n), strict=True)]
    read = (lambda i: score(i, *pair(i))) if alone else pair
    found = _chunks(job, inputs, read=read, compute=compute)
    return np.concatenate([chunk["score"] for chunk in found])


def _chunks(
    job: _Job, inputs: Sequence[str], *, read: Callable[[int], Any], compute: Callable
) -> Iterator[dict[str, np.ndarray]]:
    return features.chunks(
        job.folder / reference.kept_as(job.module),
        inputs=inputs,
        size=CHUNK[job.samples.read(0).ndim],
        read=read,
        compute=compute,
        workers=job.how.workers,
        progress=job.progress,
    )


def _set_score(job: _Job) -> float:
    module, samples, n = job.module, job.samples, job.n
    try:
        if hasattr(module, "EXTRACTOR"):
            network = cache(partial(reference.network, module, job.how.device))

            def compute(part: range, items: list[np.ndarray]) -> dict[str, np.ndarray]:
                found = network()(items)
                job.progress(part.stop, n)
                return found

            chunks = _chunks(job, samples.hashes(n), read=samples.read, compute=compute)
            real = reference.of(
                module,
                job.dataset,
                given=job.how.reference,
                extract=lambda items: network()(items),
                workers=job.how.workers,
                progress=job.progress,
            )
            return module.score_set(chunks, real)

        def read() -> Iterator[np.ndarray]:
            for i, sample in enumerate(
                features.ahead(samples.read, range(n), workers=job.how.workers)
            ):
                yield sample
                job.progress(i + 1, n)

        return module.score_set(read(), (samples.meta(i) for i in range(n)))
    except UsageError as error:
        raise UsageError(
            error.problem, place=error.place or str(samples.path), fix=error.fix
        ) from None


def _prompted(job: _Job, prompts: Sequence[str]) -> float:
    assert isinstance(job.samples, Store)
    files = [job.samples.file(i) for i in range(job.n)]
    return job.module.score_prompts(
        list(zip(prompts, files, strict=True)),
        part=job.part,
        folder=job.folder / reference.kept_as(job.module),
        device=job.how.device,
        progress=job.progress,
        hashes=job.samples.hashes(job.n),
    )


def _uncertainty(scores: np.ndarray) -> tuple[float | None, tuple[float, float] | None]:
    """Standard deviation (ddof 1) and percentile bootstrap interval of the mean; None for one."""
    n = len(scores)
    if n < 2:
        return None, None
    random = np.random.default_rng(0)  # the same scores give the same interval
    means = [scores[random.integers(n, size=n)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(scores.std(ddof=1)), (float(low), float(high))
