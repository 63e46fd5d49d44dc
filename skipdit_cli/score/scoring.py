"""The number that one metric gives samples: what is computed, and what is kept on the way.

Scores of single samples and features of a metric's network are kept in chunks beside the samples
(`features.py`), so that scoring resumes where it stopped.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skipdit_cli.assets import assets
from skipdit_cli.errors import UsageError, placed
from skipdit_cli.generate import loaded
from skipdit_cli.generate.options import Progress
from skipdit_cli.generate.worker import own_device, pin_threads
from skipdit_cli.metrics import Features, Metric
from skipdit_cli.score import features, reference
from skipdit_cli.score.certainty import interval_of_mean
from skipdit_cli.score.sources import Samples
from skipdit_cli.score.spread import spread

if TYPE_CHECKING:
    from skipdit_cli.generate.engine import Engine

CHUNK = {3: 64, 4: 16}  # samples whose features are kept together, by the axes of a sample


@dataclass(frozen=True)
class How:
    """Where and with what samples are scored.

    Attributes:
        device: of the networks.
        workers: threads that read and decode, in each process.
        engine: where networks look at samples, several side by side; None for this process.
        reference: an npz, or files (`sources.py`), in place of a metric's own reference.
    """

    device: str = "cpu"
    workers: int = 1
    engine: "Engine | None" = None
    reference: Path | None = None


ON_CPU = How()  # with one thread, beside the metric's own reference


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
        again: gives the same job in another process; None where none can.
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
    again: "Callable[[], ScoringJob] | None" = None

    @cached_property
    def network(self) -> Any:
        """What the metric looks through, loaded when it is first asked for."""
        return reference.network(self.metric, own_device(self.how.device))

    @property
    def prompts(self) -> list[str]:
        """What was asked for, by sample; "" where that was no prompt."""
        return [self.samples.meta(i).get("prompt", "") for i in range(self.n)]


@dataclass(frozen=True)
class Score:
    """A value; where it is an average over samples, their scores and what it is known to."""

    value: float
    spread: float | None = None
    interval: tuple[float, float] | None = None
    scores: tuple[float, ...] | None = None


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
    scores = np.concatenate([chunk["score"] for chunk in _chunks(job)])
    deviation = float(scores.std(ddof=1)) if len(scores) > 1 else None
    value, interval = float(np.mean(scores)), interval_of_mean(scores)
    if average := job.metric.average:
        value, interval = float(average(scores)), None  # it may depend on the order
    return Score(value, deviation, interval, tuple(map(float, scores)))


@dataclass(frozen=True)
class _Look:
    """What a metric makes of single samples: scores, or features of its network.

    Attributes:
        inputs: a hash of all that each is made of.
        read: a sample, or all that can be done of it without the network.
        compute: the arrays of a chunk, from its indices and what was read.
    """

    inputs: Sequence[str]
    read: Callable[[int], Any]
    compute: Callable[[range, list[Any]], features.Arrays]


def _look(job: ScoringJob) -> _Look:
    metric, samples, originals = job.metric, job.samples, job.originals
    inputs = samples.hashes(job.n)

    def extract(part: range, items: list[np.ndarray]) -> features.Arrays:
        if metric.EXTRACTOR and not metric.EXTRACTOR.any_size:
            features.require_one_size(part, items, samples)
        extracted = job.network(items)
        job.progress(part.stop, job.n)
        return extracted

    if metric.EXTRACTOR:
        return _Look(inputs, samples.read, extract)

    def pair(i: int) -> tuple[Any, Any]:
        sample = samples.read(i)
        return (originals.read(i), sample) if originals else (sample, samples.meta(i))

    def one(i: int, *given: Any) -> float:
        beside = f"{originals.place(i)} and " if originals else ""
        with placed(f"{beside}{samples.place(i)}, {metric.NAME}"):
            return metric.score(*given)

    def each(score: Callable[[int, Any], float]) -> Callable[[range, list[Any]], features.Arrays]:
        def compute(part: range, items: list[Any]) -> features.Arrays:
            scores = np.zeros(len(part))
            for place, (i, item) in enumerate(zip(part, items, strict=True)):
                scores[place] = score(i, item)
                job.progress(i + 1, job.n)
            return {"score": scores}

        return compute

    if originals:
        inputs = ["/".join(both) for both in zip(inputs, originals.hashes(job.n), strict=True)]
    if metric.ASSETS:
        return _Look(inputs, pair, each(lambda i, given: one(i, *given, job.network)))
    # without a network the threads that read score as well
    return _Look(inputs, lambda i: one(i, *pair(i)), each(lambda i, score: score))


def _chunks(job: ScoringJob) -> Iterator[features.Arrays]:
    """What the metric makes of all samples, to which several processes help where told so."""
    look, size = _look(job), CHUNK[job.samples.read(0).ndim]
    folder = job.folder / reference.kept_as(job.metric)
    if _helped(job):
        numbers = features.lacking(folder, inputs=look.inputs, size=size)
        counts = {i: len(part) for i, part in enumerate(features.parts_of(job.n, size))}
        _spread(job, _make, numbers, counts, heavy=bool(assets.networks(job.metric)))
    if assets.networks(job.metric):
        pin_threads()  # as several processes do, so that sums are the same to the last bit
    return _of_chunks(job, look, folder, size)


def _helped(job: ScoringJob) -> bool:
    """Whether other processes can help to score."""
    engine = job.how.engine
    return bool(job.again and engine and (engine.workers > 1 or not engine.processes_here))


def _spread(
    job: ScoringJob,
    make: Callable[[ScoringJob, list[int]], None],
    numbers: Sequence[int],
    counts: Mapping[int, int],
    *,
    heavy: bool,
) -> None:
    """Have other processes make what is numbered, unless it is one and can as well be made here.

    Args:
        counts: what the progress counts in each number, in those that are there already as well.
        heavy: whether a network looks, for which an engine elsewhere may have better devices.
    """
    engine = job.how.engine
    assert engine is not None
    assert job.again is not None
    if not numbers or (len(numbers) == 1 and (engine.processes_here or not heavy)):
        return
    total = sum(counts.values())
    done = total - sum(counts[i] for i in numbers)

    def told(made: list[int]) -> None:
        nonlocal done
        done += sum(counts[i] for i in made)
        job.progress(done, total)

    name = f"{job.samples.path} {reference.kept_as(job.metric)}"
    spread(make, job.again, numbers, name=name, engine=engine, on_done=told)


def _make(job: ScoringJob, numbers: list[int]) -> None:
    """Make some chunks, in a process of several."""
    look, size = _look(job), CHUNK[job.samples.read(0).ndim]
    folder = job.folder / reference.kept_as(job.metric)
    for _ in _of_chunks(job, look, folder, size, only=numbers):
        pass


def _of_chunks(
    job: ScoringJob, look: _Look, folder: Path, size: int, *, only: Sequence[int] | None = None
) -> Iterator[features.Arrays]:
    return features.chunks(
        folder,
        inputs=look.inputs,
        size=size,
        read=look.read,
        compute=look.compute,
        workers=job.how.workers,
        progress=job.progress,
        only=only,
    )


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
    chunks: Iterator[Features] = _chunks(job)
    real = reference.of(
        job.metric,
        job.dataset,
        given=job.how.reference,
        extract=lambda items: job.network(items),
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
    loaded.release()  # it is scored by a process that wants the GPU for itself
    samples, folder, hashes = _clips(job)
    if _helped(job):
        left = job.metric.lacking(samples, part=job.part, folder=folder, hashes=hashes)
        numbers = [job.metric.PARTS.index(part) for part in left]
        _spread(job, _score_parts, numbers, dict.fromkeys(numbers, 1), heavy=True)
    return _of_prompts(job, job.part)


def _score_parts(job: ScoringJob, numbers: list[int]) -> None:
    """Score some of a metric's parts, in a process of several."""
    for number in numbers:
        _of_prompts(job, job.metric.PARTS[number])


def _of_prompts(job: ScoringJob, part: str) -> float:
    samples, folder, hashes = _clips(job)
    return job.metric.score_prompts(
        samples,
        part=part,
        folder=folder,
        device=own_device(job.how.device),
        progress=job.progress,
        hashes=hashes,
    )


def _clips(job: ScoringJob) -> tuple[list[tuple[str, Path]], Path, Sequence[str]]:
    """Prompt and file of every sample, where their scores are kept, and the sha256 of the files."""
    samples = list(zip(job.prompts, job.files, strict=True))
    return samples, job.folder / reference.kept_as(job.metric), job.samples.hashes(job.n)
