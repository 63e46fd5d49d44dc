"""Results: one number per run and metric, on disk with everything needed to trust it.

They are strict JSON under ROOT/scores/RUN/METRIC.json. Every write is atomic: a file is either
the old result or the new one. One that is not what was written counts as none, and that is told.

Beside it, under ROOT/scores/RUN/series/NAME/METRIC.json, stands what other tables are of. A timing
holds within its series, that of what was timed by turns with it: when a run is timed again its
earlier timings move there, by the name of their series. A score of fewer samples than the one that
is there does not take its place and is written there, as nCOUNT. What is known of a run beside the
uncached run of more steps does not take the place of what is known of it beside its own: its
timings stand there by the name of their series, its scores by the key of that reference.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.errors import SkipditError
from skipdit_cli.storage import failures, kept
from skipdit_cli.storage.disk import write_whole

if TYPE_CHECKING:
    from skipdit_cli.run import Run

RESULT = kept.Kind("score", 3)
TIMED = {"latency": "s", "speedup": "x", "memory": "B"}  # what is timed, and its unit
COMPILING = {"compile": "s"}  # of runs that are compiled, besides
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

    @property
    def of_samples(self) -> tuple[float, ...]:
        """The scores of single samples; none of a set, nor of a timing, which has repetitions."""
        return () if self.metric in TIMED | COMPILING else self.scores or ()

    @property
    def series(self) -> str:
        """The name of the series of a timing; "" of what is no timing, or an early one."""
        return str(self.provenance.get("series", ""))


def margin_of(interval: tuple[float, float] | None) -> float | None:
    """Margin of error: half the width of an interval; None where it is not known."""
    return interval and (interval[1] - interval[0]) / 2


def apart(run: "Run", metric: str) -> str:
    """Where a score against another reference than the run's own stands; "" of all others."""
    if run.reference_steps is None or not registry.known("metrics", metric):
        return ""
    pairs = registry.load("metrics", metric).NEEDS == "pairs"
    return f"{run.reference.key}-n{run.num_samples}" if pairs else ""


def write_result(root: Path, result: Result, *, series: str = "") -> Path:
    """Write a result in place of an earlier one of the same run and metric; returns the file.

    A timing of another series, and a score of more samples by the same metric, are not lost by it.

    Args:
        series: where it stands besides, and not in the place of an earlier one.
    Raises:
        StoreError: the disk is full or the folder cannot be written; what was there stays.
        SkipditError: a number is not finite.
    """
    path, earlier = _path(root, result.run, result.metric, series), None
    if not series:
        with kept.damaged_is_absent():
            earlier = _read(root, result.run, result.metric)
    if earlier and result.metric in TIMED | COMPILING:
        if earlier.series not in ("", result.series):
            beside = _path(root, result.run, result.metric, earlier.series)
            write_whole(beside, path.read_bytes())
    elif earlier and earlier.n > result.n and _alike(earlier, result):
        path = _path(root, result.run, result.metric, f"n{result.n}")
    try:
        data = kept.sealed_json(asdict(result), RESULT, of=_identity(result.run, result.metric))
    except ValueError:
        raise SkipditError(
            f"{result.metric} of run {result.run} is not finite", fix="look at its samples"
        ) from None
    write_whole(path, data)
    failures.clear_failure(root, result.run, result.metric)
    return path


def read_result(
    root: Path, run: str, metric: str, *, n: int | None = None, series: str = ""
) -> Result | None:
    """The result of a run (its key) and metric; None where there is none, or a damaged one.

    Args:
        n: samples, of which a score is preferred to that of the most.
        series: as of `write_result`.
    Raises:
        StoreError: the disk cannot be read.
    """
    found = None
    with kept.damaged_is_absent():
        found = _read(root, run, metric, series)
    if n is not None and found and found.n != n and not series:
        with kept.damaged_is_absent():
            return _read(root, run, metric, f"n{n}") or found
    return found


def read_score(root: Path, run: "Run", metric: str) -> Result | None:
    """The score of a run against its reference, or a timing; as `read_result`."""
    if run.reference_steps and metric in TIMED | COMPILING:
        return next(iter(timings_of(root, run, metric).values()), None)
    series = apart(run, metric)
    return read_result(root, run.key, metric, n=run.num_samples, series=series)


def metrics_of(root: Path, run: str) -> set[str]:
    """What there may be a score or timing of, of a run (its key) against whichever reference."""
    folder = root / "scores" / run
    places = (folder, *(folder / "series").glob("*-n*"))  # as `apart` calls them
    return {path.stem for place in places for path in place.glob("*.json")}


def besides(root: Path, run: str, metric: str) -> dict[str, Result]:
    """The scores of a run (its key) against uncached runs of more steps, by the key of these.

    Of several against one, that of the most samples.

    Raises:
        StoreError: the disk cannot be read.
    """
    found: dict[str, Result] = {}
    for path in sorted((root / "scores" / run / "series").glob(f"*-n*/{metric}.json")):
        result = None
        with kept.damaged_is_absent():
            result = _read(root, run, metric, path.parent.name)
        if result and result.reference and metric not in TIMED | COMPILING:
            known = found.setdefault(result.reference, result)
            found[result.reference] = max(known, result, key=lambda each: each.n)
    return found


def all_besides(root: Path, run: str) -> list[Result]:
    """Those of all metrics."""
    metrics = sorted(metrics_of(root, run))
    return [each for metric in metrics for each in besides(root, run, metric).values()]


def is_timed(root: Path, run: "Run") -> bool:
    """Whether a run was timed together with its reference."""
    return bool(timings_of(root, run, "latency"))


def timings_of(root: Path, run: "Run", metric: str) -> dict[str, Result]:
    """The timings of a run that were made together with its reference; as `timings`."""
    found, own = timings(root, run.key, metric), run.reference.key
    return {series: result for series, result in found.items() if result.reference == own}


def timings(root: Path, run: str, metric: str) -> dict[str, Result]:
    """What there is of a timing of a run (its key), by series, the newest first.

    Raises:
        StoreError: the disk cannot be read.
    """
    folder = root / "scores" / run / "series"
    found = []
    for series in ("", *(path.name for path in folder.glob("*"))):
        with kept.damaged_is_absent():
            found.append(_read(root, run, metric, series))
    each = sorted(filter(None, found), key=lambda result: result.series, reverse=True)
    return {result.series: result for result in each}


def _alike(one: Result, other: Result) -> bool:
    """Whether two scores of a run are by the same metric, seen through the same networks."""
    return all(
        getattr(one, name) == getattr(other, name) for name in ("version", "protocol", "assets")
    )


def _read(root: Path, run: str, metric: str, series: str = "") -> Result | None:
    path = _path(root, run, metric, series)
    return kept.read_json(path, _parse, RESULT, of=_identity(run, metric))


def _path(root: Path, run: str, metric: str, series: str = "") -> Path:
    folder = root / "scores" / run
    return (folder / "series" / series if series else folder) / f"{metric}.json"


def _identity(run: str, metric: str) -> str:
    return f"run {run}, {metric}"


def _parse(record: dict[str, Any]) -> Result:
    lists = {key: tuple(record[key]) for key in ("interval", "scores") if record[key] is not None}
    result = kept.shaped(Result, record | lists)
    if result.n < 0 or (result.spread or 0) < 0 or result.status not in STATUSES:
        raise ValueError("its n, spread or status is none")
    return result
