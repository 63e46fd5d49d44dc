"""Results: one number per run and metric, on disk with everything needed to trust it.

They are strict JSON under ROOT/scores/RUN/METRIC.json. Every write is atomic: a file is either
the old result or the new one.
"""

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from skipdit_cli.errors import SkipditError
from skipdit_cli.storage import failures
from skipdit_cli.storage.disk import read_json, write_whole


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
        spread: standard deviation over samples (ddof 1); None for a set or a single sample.
        interval: 95 % bootstrap interval of the mean over samples; None where spread is, or where
            the average is another one.
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
        text = json.dumps(asdict(result), indent=1, allow_nan=False) + "\n"
    except ValueError:
        raise SkipditError(
            f"{result.metric} of run {result.run} is not finite", fix="look at its samples"
        ) from None
    write_whole(path, text.encode())
    failures.clear_failure(root, result.run, result.metric)
    return path


def read_result(root: Path, run: str, metric: str) -> Result | None:
    """The result of a run (its key) and metric, or None where there is none yet.

    Raises:
        StoreError: the file is there and cannot be read or is not a result of this run and metric.
    """

    def parse(record: dict[str, Any]) -> Result:
        result = _parse(record)
        if (result.run, result.metric) != (run, metric):
            raise ValueError(f"it is {result.metric} of run {result.run}")
        return result

    path = _path(root, run, metric)
    return read_json(path, parse, what="result", fix="delete it and score again")


def _path(root: Path, run: str, metric: str) -> Path:
    return root / "scores" / run / f"{metric}.json"


def _parse(record: dict[str, Any]) -> Result:
    if set(record) != {each.name for each in fields(Result)}:
        raise ValueError("its keys are not those of a result")
    numbers = [record["value"], record["spread"], *(record["interval"] or ())]
    if not all(number is None or math.isfinite(number) for number in numbers):
        raise ValueError("a number is not finite")
    interval = record["interval"] and tuple(record["interval"])
    return Result(**record | {"interval": interval})
