"""Estimate: the hours and the disk that runs take, less what is there already.

Hours are counted operations over the rate of a machine (`rates.py`): of the denoising loop in the
run's precision, of the autoencoder in its own. What a dynamic method saves is known once it has
run; until then its hours are those of the uncached model, at most. Not in them: encoding prompts,
writing, and scoring, of which the metrics that take long are told apart (SCORING).

Disk is before lossless compression, so that real use is less.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.plan import plan
from skipdit_cli.precision import bytes_of, dtype_of
from skipdit_cli.profiling import counts
from skipdit_cli.storage import results, trajectory
from skipdit_cli.storage.store import Store, open_store

if TYPE_CHECKING:
    from skipdit_cli.plan.rates import Machine
    from skipdit_cli.run import Run

HOUR = 3600.0
PREVIEW_BITS = 1  # a pixel, about, of H.264 at the quality of previews
FILE = 600  # bytes of a kept file beside its arrays, about
MASK = 8  # bytes of an entry of a mask
# Seconds of a core per pixel, of images and clips: 0.83 s for 1024x1024, 1.33 s for 16x512x512.
SSIM = {1: 0.83 / 1024**2, 16: 1.33 / (16 * 512**2)}
VBENCH = 12.0  # hours of an H100 for 4720 clips


@dataclass(frozen=True)
class Estimate:
    """What is left to do of runs, and what it takes.

    Attributes:
        machine: what the hours are for.
        runs: how many there are, references included.
        samples: that are not there yet.
        sampling, decoding, timing: hours; None where the rate of the machine is not known.
        at_most: whether a dynamic method may take fewer.
        scoring: hours beside those, by what takes them ("SSIM on a core").
        disk: bytes by what takes them ("samples").
        sources: where the rates are from.
        lacks: the precision of which no rate is known, and a model that it is about.
    """

    machine: "Machine"
    runs: int = 0
    samples: int = 0
    sampling: float | None = 0.0
    decoding: float | None = 0.0
    timing: float | None = 0.0
    at_most: bool = False
    scoring: dict[str, float] = field(default_factory=dict)
    disk: dict[str, int] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    lacks: tuple[str, str] | None = None

    @property
    def hours(self) -> float | None:
        """Of the machine, without scoring; None where they are not known."""
        parts = (self.sampling, self.decoding, self.timing)
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def shared(self, gpus: int) -> float | None:
        """Hours where several GPUs sample side by side; loops are timed on one."""
        if self.hours is None or self.timing is None:
            return None
        return (self.hours - self.timing) / gpus + self.timing

    @property
    def bytes(self) -> int:
        """Of disk."""
        return sum(self.disk.values())

    def __add__(self, other: "Estimate") -> "Estimate":
        return replace(
            self,
            runs=self.runs + other.runs,
            samples=self.samples + other.samples,
            sampling=_sum(self.sampling, other.sampling),
            decoding=_sum(self.decoding, other.decoding),
            timing=_sum(self.timing, other.timing),
            at_most=self.at_most or other.at_most,
            scoring=_merged(self.scoring, other.scoring),
            disk=_merged(self.disk, other.disk),
            sources=tuple(dict.fromkeys((*self.sources, *other.sources))),
            lacks=self.lacks or other.lacks,
        )


def estimate(
    jobs: Iterable[tuple["Run", Sequence[str]]],
    machine: "Machine",
    *,
    root: Path | None = None,
    timed: Iterable["Run"] = (),
    repeats: int = 0,
    previews: bool = True,
) -> Estimate:
    """What runs take together.

    Args:
        jobs: runs, each with its metrics; one that is there twice counts once.
        root: the results folder: what is there already is left out.
        timed: the runs that are timed.
        repeats: timed repetitions of each loop.
        previews: whether an mp4 of every clip is made.
    """
    asked: dict[str, tuple[Run, dict[str, None]]] = {}
    for run, metrics in jobs:
        known, wanted = asked.get(run.key, (run, {}))
        longer = run if run.num_samples > known.num_samples else known
        asked[run.key] = longer, wanted | dict.fromkeys(metrics)
    whole = Estimate(machine)
    for run, metrics_of in asked.values():
        whole += _of_run(run, [*metrics_of], machine, root=root)
    for run in {run.key: run for run in timed}.values() if repeats else ():
        whole += _timing(run, machine, repeats=repeats, root=root)
    whole += Estimate(machine, disk=_embeddings((run for run, _ in asked.values()), root))
    kept = {what: size for what, size in whole.disk.items() if previews or what != "previews"}
    return replace(whole, disk=kept)


def _of_run(
    run: "Run", metrics: Sequence[str], machine: "Machine", *, root: Path | None = None
) -> Estimate:
    """What one run takes, without the embeddings of its prompts, which runs share."""
    store = open_store(root, run) if root else None
    left = _left(run, store)
    flops, at_most = _flops(run, root)
    batch = run.batch_size
    reference = run.reference
    whole = plan.plan(reference).flops
    assert whole is not None  # it is uncached
    call = whole / len(reference.timesteps) * batch
    computed = len({index // batch for index in left}) * batch  # whole batches, always
    per_frame, frames = counts.decoding(run.card), _frames(run)
    sampling, first, lacks = _hours(
        flops * computed, machine, run.precision, model=run.model, work=call
    )
    decoding: float | None = None
    second: tuple[str, ...] = ()
    if per_frame is not None:
        one = per_frame.flops * frames
        decoding, second, lacking = _hours(
            one * computed, machine, run.decode_precision, work=max(one, 1)
        )
        lacks = lacks or lacking
    return Estimate(
        machine,
        runs=1,
        samples=len(left),
        sampling=sampling,
        decoding=decoding,
        at_most=at_most and computed > 0,
        scoring=_scoring(run, metrics, root),
        disk=_disk(run, metrics, store, samples=len(left)),
        sources=(*first, *second),
        lacks=(lacks, run.model) if lacks else None,
    )


def _hours(
    flops: float, machine: "Machine", precision: str, *, model: str = "", work: float
) -> tuple[float | None, tuple[str, ...], str]:
    """Hours, where the rate is from, and the precision of which none is known."""
    if not flops:
        return 0.0, (), ""
    rate = machine.rate(precision, model=model, work=work)
    if rate is None:
        return None, (), precision
    return (
        flops / (rate.tflops * 1e12) / HOUR,
        (f"{precision} {rate.tflops:g} TFLOP/s, {rate.source}",),
        "",
    )


def _flops(run: "Run", root: Path | None) -> tuple[int, bool]:
    """Operations of one sample, and whether a dynamic method may do with fewer."""
    flops = plan.plan(run, seen=plan.observed(run, root) if root else None).flops
    if flops is not None:
        return flops, False
    uncached = plan.plan(run.reference).flops
    assert uncached is not None
    return uncached, True


def _timing(run: "Run", machine: "Machine", *, repeats: int, root: Path | None) -> Estimate:
    """Timing a run's loop, after one repetition to warm up."""
    if root and results.is_timed(root, run):
        return Estimate(machine)
    flops, at_most = _flops(run, root)
    once, per_step = flops * run.batch_size, flops * run.batch_size / len(run.timesteps)
    hours, source, lacks = _hours(
        once * (repeats + 1), machine, run.precision, model=run.model, work=per_step
    )
    lacking = (lacks, run.model) if lacks else None
    return Estimate(machine, timing=hours, at_most=at_most, sources=source, lacks=lacking)


def _left(run: "Run", store: Store | None) -> list[int]:
    """The samples of a run that its journal does not have."""
    there = store.entered() if store else frozenset()
    return [index for index in range(run.num_samples) if index not in there]


def _frames(run: "Run") -> int:
    grid = counts.sizes(run.card).grid
    return grid[0] if len(grid) == 3 else 1


def _pixels(run: "Run") -> int:
    """Of one sample, all frames together."""
    return plan.sample_bytes(run.card) // 3


def _scoring(run: "Run", metrics: Sequence[str], root: Path | None) -> dict[str, float]:
    """Hours of the metrics that take long, of a run that has not been scored by them."""
    hours: dict[str, float] = {}
    for metric in metrics:
        name = metric.partition("@")[0].partition(".")[0]
        if root and results.read_score(root, run, metric):
            continue
        if name == "ssim" and not run.is_reference:
            per_pixel = SSIM[1 if _frames(run) == 1 else 16]
            key = "SSIM on a core"
            hours[key] = hours.get(key, 0) + per_pixel * _pixels(run) * run.num_samples / HOUR
        elif name == "vbench":
            hours["VBench on an H100"] = VBENCH * run.num_samples / 4720
    return hours


def _disk(
    run: "Run", metrics: Sequence[str], store: Store | None, *, samples: int
) -> dict[str, int]:
    """Bytes of what is not there yet, by what it is."""
    disk = {"samples": plan.sample_bytes(run.card) * samples}
    if _frames(run) > 1:
        disk["previews"] = _pixels(run) * PREVIEW_BITS // 8 * samples
    if store is None or not (store.path / trajectory.FILE).is_file():
        values = min(trajectory.VALUES, math.prod(counts.sizes(run.card).latents))
        first = min(trajectory.SAMPLES, run.batch_size)
        disk["trajectories"] = first * len(run.timesteps) * values * bytes_of("float32")
    if store is None or not (store.path / "features").is_dir():
        loaded = [registry.load("metrics", metric).EXTRACTOR for metric in metrics]
        extractors = {each.name: each for each in loaded if each}
        values = sum(
            each.values * (_frames(run) if each.by_frame else 1) for each in extractors.values()
        )
        disk["features"] = values * bytes_of("float32") * run.num_samples
    return {what: size for what, size in disk.items() if size}


def _embeddings(runs: Iterable["Run"], root: Path | None) -> dict[str, int]:
    """Those of all prompts; runs of one model and precision share them, and so do models.

    They are there before the first sample of a run is.
    """
    prompts: dict[tuple, set] = {}
    done = set()
    sizes: dict[tuple, int] = {}
    for run in runs:
        if not run.card.text or run.card.pipeline:
            continue
        parts = tuple(part for key, part in run.card.components.items() if key != "vae")
        group = (parts, dtype_of(run.precision))
        whole = math.ceil(run.num_samples / run.batch_size) * run.batch_size
        unknown = range(whole)  # the list has not been fetched: a prompt for every sample
        prompts.setdefault(group, set()).update((run.prompts or unknown)[:whole])
        sizes[group] = sum(_embedding(run))
        if root and open_store(root, run).entered():
            done.add(group)
    total = sum(
        sizes[group] * (len(texts) + 1) for group, texts in prompts.items() if group not in done
    )
    return {"prompt embeddings": total} if total else {}


def _embedding(run: "Run") -> Iterator[int]:
    """Bytes of what each text encoder gives for one prompt."""
    for tokens, width in counts.sizes(run.card).texts:
        yield tokens * (width * bytes_of(run.precision) + MASK) + FILE


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _merged(one: dict, other: dict) -> dict:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
