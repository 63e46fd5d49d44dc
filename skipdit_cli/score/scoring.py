"""The number that one metric gives samples: what is computed, and what is kept on the way.

Scores of single samples and features of a metric's network are kept in chunks beside the samples
(`features.py`), so that scoring resumes where it stopped.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from skipdit_cli.errors import UsageError, placed
from skipdit_cli.generate.options import Progress
from skipdit_cli.metrics import Features, Metric
from skipdit_cli.score import features, reference

Item = TypeVar("Item")

RESAMPLES = 1000
COVERAGE = 0.95
CHUNK = {3: 64, 4: 16}  # samples whose features are kept together, by the axes of a sample


@dataclass(frozen=True)
class How:
    """Where and with what samples are scored.

    Attributes:
        device: of the networks.
        workers: threads that read and decode.
        reference: an npz in place of a metric's own reference.
    """

    device: str = "cpu"
    workers: int = 1
    reference: Path | None = None


ON_CPU = How()  # with one thread, beside the metric's own reference


class Samples(Protocol):
    """A run's samples, or images of an npz."""

    @property
    def path(self) -> Path: ...
    def hashes(self, n: int) -> list[str]: ...
    def read(self, index: int) -> np.ndarray: ...
    def meta(self, index: int) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class ScoringJob:
    """Samples and what they are scored by.

    Attributes:
        metric: what scores.
        part: which of its parts, or "": `vbench.quality` asks for "quality".
        samples: what is scored.
        n: how many of them.
        folder: where features are kept.
        dataset: what the metric's reference is of.
        originals: the uncached samples, for a metric of pairs.
        files: those of the samples, for a metric of prompts.
        how: device, threads, and what the samples are compared with.
        progress: called with samples done and samples in all.
    """

    metric: Metric
    part: str
    samples: Samples
    n: int
    folder: Path
    dataset: str
    originals: Samples | None = None
    files: tuple[Path, ...] = ()
    how: How = ON_CPU
    progress: Progress = lambda done, total: None

    @property
    def prompts(self) -> list[str]:
        """What was asked for, by sample; "" where that was no prompt."""
        return [self.samples.meta(i).get("prompt", "") for i in range(self.n)]


@dataclass(frozen=True)
class Score:
    """A value, and what is known of its uncertainty where it is a mean over samples."""

    value: float
    spread: float | None = None
    interval: tuple[float, float] | None = None


def score(job: ScoringJob) -> Score:
    """Score samples, or go on where that was stopped.

    Raises:
        UsageError: the metric cannot score samples of this kind.
        MissingAssetError: a network or a reference is not here.
        StoreError: the disk.
    """
    if job.metric.NEEDS == "prompted":
        return Score(_prompted(job))
    if job.metric.NEEDS == "set":
        return Score(_set_score(job))
    scores = _scores(job)
    spread, interval = _uncertainty(scores)
    if average := job.metric.average:
        return Score(float(average(scores)), spread)  # it may depend on the order: no interval
    return Score(float(np.mean(scores)), spread, interval)


def _scores(job: ScoringJob) -> np.ndarray:
    """One score per sample [n]; where there is no network, by the threads that read as well."""
    metric, samples, originals = job.metric, job.samples, job.originals
    network = _network(job)

    def pair(i: int) -> tuple[Any, Any]:
        sample = samples.read(i)
        return (originals.read(i), sample) if originals else (sample, samples.meta(i))

    def one(i: int, *given: Any) -> float:
        with placed(f"{samples.path} sample {i}, {metric.NAME}"):
            return metric.score(*given)

    def seen(i: int, given: tuple[Any, Any]) -> float:
        return one(i, *given, network())

    def plain(i: int) -> float:
        return one(i, *pair(i))

    inputs = samples.hashes(job.n)
    if originals:
        inputs = ["/".join(both) for both in zip(inputs, originals.hashes(job.n), strict=True)]
    if metric.ASSETS:
        chunks = _chunks(job, inputs, read=pair, compute=_each(job, seen))
    else:
        chunks = _chunks(job, inputs, read=plain, compute=_each(job, lambda i, score: score))
    return np.concatenate([chunk["score"] for chunk in chunks])


def _each(
    job: ScoringJob, score: Callable[[int, Item], float]
) -> Callable[[range, list[Item]], features.Arrays]:
    """The scores of a chunk, one by one, as progress is told of them."""

    def compute(part: range, items: list[Item]) -> features.Arrays:
        scores = np.zeros(len(part))
        for place, (i, item) in enumerate(zip(part, items, strict=True)):
            scores[place] = score(i, item)
            job.progress(i + 1, job.n)
        return {"score": scores}

    return compute


def _chunks(
    job: ScoringJob,
    inputs: Sequence[str],
    *,
    read: Callable[[int], Item],
    compute: Callable[[range, list[Item]], features.Arrays],
) -> Iterator[features.Arrays]:
    return features.chunks(
        job.folder / reference.kept_as(job.metric),
        inputs=inputs,
        size=CHUNK[job.samples.read(0).ndim],
        read=read,
        compute=compute,
        workers=job.how.workers,
        progress=job.progress,
    )


def _network(job: ScoringJob) -> Callable[[], Any]:
    """What gives the metric's network, loaded when it is first asked for."""
    return functools.cache(lambda: reference.network(job.metric, job.how.device))


def _set_score(job: ScoringJob) -> float:
    metric, samples, n = job.metric, job.samples, job.n
    with placed(str(samples.path)):
        if metric.EXTRACTOR:
            return _through_extractor(job)

        def read() -> Iterator[np.ndarray]:
            for i, sample in enumerate(
                features.ahead(samples.read, range(n), workers=job.how.workers)
            ):
                yield sample
                job.progress(i + 1, n)

        return metric.score_set(read(), (samples.meta(i) for i in range(n)))


def _through_extractor(job: ScoringJob) -> float:
    """The score of features, beside those of real samples."""
    network, samples = _network(job), job.samples

    def compute(part: range, items: list[np.ndarray]) -> features.Arrays:
        extracted = network()(items)
        job.progress(part.stop, job.n)
        return extracted

    chunks: Iterator[Features] = _chunks(
        job, samples.hashes(job.n), read=samples.read, compute=compute
    )
    real = reference.of(
        job.metric,
        job.dataset,
        given=job.how.reference,
        extract=lambda items: network()(items),
        workers=job.how.workers,
        progress=job.progress,
    )
    return job.metric.score_set(_finite(chunks), real)


def _finite(chunks: Iterator[Features]) -> Iterator[Features]:
    """The chunks, as long as every number in them is one."""
    for chunk in chunks:
        for name, values in chunk.items():
            if not np.isfinite(values).all():
                raise UsageError(
                    f"the features ({name}) of the samples are not finite everywhere",
                    fix="look at the samples, and make the features again",
                )
        yield chunk


def _prompted(job: ScoringJob) -> float:
    return job.metric.score_prompts(
        list(zip(job.prompts, job.files, strict=True)),
        part=job.part,
        folder=job.folder / reference.kept_as(job.metric),
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
