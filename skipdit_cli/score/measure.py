"""Scores: one metric of one run's samples, kept on disk until either of them changes."""

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.assets import assets
from skipdit_cli.checkpoints.card import DRY_RUN
from skipdit_cli.errors import IncompleteError, MissingAssetError, SkipditError
from skipdit_cli.generate.options import Progress
from skipdit_cli.generate.worker import device_here
from skipdit_cli.metrics import Metric
from skipdit_cli.precision import products
from skipdit_cli.score import applicable, reference
from skipdit_cli.score.outside import DATASET, FOLDER, Outside, Prompted, asks
from skipdit_cli.score.scoring import ON_CPU, How, ScoringJob, score
from skipdit_cli.score.sources import Samples
from skipdit_cli.storage import provenance, results
from skipdit_cli.storage.results import Result
from skipdit_cli.storage.store import Store, open_store

if TYPE_CHECKING:
    from skipdit_cli.run import Run

__all__ = ["READERS", "How", "measure", "measure_outside", "unscored"]

READERS = 8  # threads: each reads some 500 images of 256x256 a second, fewer than a GPU looks at


def measure(
    run: "Run", metric: str, *, root: Path, how: How = ON_CPU, progress: Progress | None = None
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
    chosen = registry.load("metrics", metric)
    n = run.num_samples
    result = _blank(chosen, metric, run.key, n)
    if run.card.random:
        result = replace(result, note=DRY_RUN)
    original = run.reference if chosen.NEEDS == "pairs" else None
    if original and original.key == run.key:
        note = "what the other runs are compared with"
        return replace(result, reference=run.key, status="reference", note=note)
    open_store(root, run).require(n)
    if original:
        _require_original(open_store(root, original), n=n)
    here = replace(how, device=device_here(how.device))
    job = replace(
        _job(run, metric, root=root, how=here),
        progress=progress or (lambda done, total: None),
        again=partial(_job, run, metric, root=root, how=how),
    )
    result = replace(result, reference=original.key if original else None)
    return _scored(job, result, root, series=results.apart(run, metric))


def _job(run: "Run", metric: str, *, root: Path, how: How) -> ScoringJob:
    """A run's samples and what they are scored by, in whichever process."""
    chosen, samples, n = registry.load("metrics", metric), open_store(root, run), run.num_samples
    return ScoringJob(
        metric=chosen,
        part=metric.partition(".")[2],
        samples=samples,
        n=n,
        folder=samples.path / "features",
        dataset=run.card.dataset,
        originals=open_store(root, run.reference) if chosen.NEEDS == "pairs" else None,
        files=tuple(samples.file(i) for i in range(n)) if chosen.NEEDS == "prompted" else (),
        how=how,
    )


def measure_outside(
    given: Outside, metric: str, *, root: Path, how: How = ON_CPU, progress: Progress | None = None
) -> Result:
    """Score what another tool made, as `measure` scores a run.

    Raises:
        UsageError: the metric needs something that is not given, or a sample cannot be read.
    """
    applicable.check_outside(metric, given, place="--metrics")
    here = replace(how, device=device_here(how.device))
    job = replace(
        _outside_job(given, metric, root=root, how=here),
        progress=progress or (lambda done, total: None),
        again=partial(_outside_job, given, metric, root=root, how=how),
    )
    blank = _blank(job.metric, metric, given.key(job.metric), job.n)
    original = given.originals.sha256[:12] if job.originals and given.originals else None
    return _scored(job, replace(blank, reference=original), root / FOLDER)


def _outside_job(given: Outside, metric: str, *, root: Path, how: How) -> ScoringJob:
    """What another tool made and what it is scored by, in whichever process."""
    chosen, samples = registry.load("metrics", metric), given.samples
    shown = asks(chosen) and given.prompts
    files = map(samples.video, range(len(samples))) if chosen.NEEDS == "prompted" else ()
    return ScoringJob(
        metric=chosen,
        part=metric.partition(".")[2],
        samples=Prompted(samples, given.prompts) if shown else samples,
        n=len(samples),
        folder=root / FOLDER / "features" / given.folder(chosen),
        dataset=DATASET,
        originals=given.originals if chosen.NEEDS == "pairs" else None,
        files=tuple(filter(None, files)),
        how=replace(how, reference=given.reference),
    )


def unscored(run: "Run", metric: str, error: SkipditError) -> Result:
    """What stands for a result where samples cannot be scored."""
    blank = _blank(registry.load("metrics", metric), metric, run.key, run.num_samples)
    said = SkipditError(error.problem, fix=error.fix)  # without the place, which the row tells
    return replace(blank, status="failed", note=str(said))


def _blank(chosen: Metric, metric: str, key: str, n: int) -> Result:
    return Result(
        metric=metric,
        value=None,
        unit=chosen.UNIT,
        n=n,
        run=key,
        version=chosen.VERSION,
        protocol=chosen.PROTOCOL,
    )


def _scored(job: ScoringJob, blank: Result, root: Path, *, series: str = "") -> Result:
    """The result on disk if it is still that of these samples, or a new one.

    Args:
        series: as of `results.write_result`.
    """
    applicable.check_size(job.metric, job.samples)
    result = replace(
        blank,
        inputs=_digest(job.samples, job.originals, n=job.n),
        protocol=job.metric.protocol(job.prompts),
    )
    known = results.read_result(root, blank.run, blank.metric, n=blank.n, series=series)
    if known and any(
        getattr(known, key) != getattr(result, key)
        for key in ("version", "n", "inputs", "protocol")
    ):
        known = None
    try:
        seen_through = reference.identities(job.metric, job.dataset, given=job.how.reference)
        if known and known.assets == seen_through:
            return known
        result = replace(result, assets=seen_through)
        with products("float32"):
            computed = score(job)
            looks = job.metric.NEEDS == "prompted" or assets.networks(job.metric)
            made = provenance.collect(import_torch=True, device=job.how.device if looks else "cpu")
    except MissingAssetError as error:
        return known or replace(result, status="needs weights", note=str(error))
    result = replace(
        result,
        value=computed.value,
        spread=computed.spread,
        interval=computed.interval,
        scores=computed.scores,
        provenance=made,
    )
    results.write_result(root, result, series=series)
    return result


def _require_original(store: Store, *, n: int) -> None:
    try:
        store.require(n)
    except IncompleteError as error:
        raise IncompleteError(
            f"the uncached reference is not complete: {error.problem}",
            place=error.place,
            fix="make the same samples with --cache none first",
        ) from None


def _digest(*stores: Samples | None, n: int) -> str:
    hashes = [store.hashes(n) for store in stores if store]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
