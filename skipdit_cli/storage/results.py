"""Results: one number per run and metric, on disk with everything needed to trust it.

They are strict JSON under ROOT/scores/RUN/METRIC.json. Every write is atomic: a file is either
the old result or the new one. One that is not what was written counts as none, and that is told.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skipdit_cli.errors import SkipditError
from skipdit_cli.storage import failures, kept
from skipdit_cli.storage.disk import write_whole

RESULT = kept.Kind("score", 3)
STATUSES = ("ok", "reference", "needs weights", "failed")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One metric of one run.

    Attributes:
        metric: name of the metric.
        value: the number, None where there is none (see status).
        unit: of value, spread and interval.
        n: number of samples scored.
        run: key of the run.
        reference: key of the run it was compared with; None for a metric of a set.
        spread: standard deviation over samples (ddof 1); None for a set, a single sample, a timing.
        interval: 95 % bootstrap interval of the mean over samples, or 95 % interval of the median
            over the repetitions of a timing; None for a set, one sample or one repetition, and
            where the average is neither.
        scores: of every sample, by index, or of every repetition of a timing; None for a set.
        status: "ok", "reference" (compared with itself), "needs weights" or "failed".
        note: one line for people.
        version: VERSION of the metric.
        protocol: whose definition of the metric it is.
        inputs: sha256 over the sha256 of all samples that were read.
        assets: networks and references it depends on: the first 16 digits of the sha256 of each.
        provenance: what `provenance.collect` says.
    """

    metric: str
    value: float | None
    unit: str
    n: int
    run: str
    reference: str | None = None
    spread: float | None = None
    interval: tuple[float, float] | None = None
    scores: tuple[float, ...] | None = None
    status: str = "ok"
    note: str = ""
    version: int = 0
    protocol: str = ""
    inputs: str = ""
    assets: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


def write_result(root: Path, result: Result) -> Path:
    """Write a result in place of an earlier one of the same run and metric; returns the file.

    Raises:
        StoreError: the disk is full or the folder cannot be written; what was there stays.
        SkipditError: a number is not finite.
    """
    path = _path(root, result.run, result.metric)
    try:
        data = kept.sealed_json(asdict(result), RESULT, of=_identity(result.run, result.metric))
    except ValueError:
        raise SkipditError(
            f"{result.metric} of run {result.run} is not finite", fix="look at its samples"
        ) from None
    write_whole(path, data)
    failures.clear_failure(root, result.run, result.metric)
    return path


def read_result(root: Path, run: str, metric: str) -> Result | None:
    """The result of a run (its key) and metric; None where there is none, or a damaged one.

    Raises:
        StoreError: the disk cannot be read.
    """
    with kept.damaged_is_absent():
        return kept.read_json(_path(root, run, metric), _parse, RESULT, of=_identity(run, metric))
    return None


def _path(root: Path, run: str, metric: str) -> Path:
    return root / "scores" / run / f"{metric}.json"


def _identity(run: str, metric: str) -> str:
    return f"run {run}, {metric}"


def _parse(record: dict[str, Any]) -> Result:
    lists = {key: tuple(record[key]) for key in ("interval", "scores") if record[key] is not None}
    result = kept.shaped(Result, record | lists)
    if result.n < 0 or (result.spread or 0) < 0 or result.status not in STATUSES:
        raise ValueError("its n, spread or status is none")
    return result
