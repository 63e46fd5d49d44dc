"""Results as a pandas DataFrame: one row per run and metric.

frame("table3")     the rows and columns of a recipe, beside the paper's values
frame("results")    everything that was scored or timed into a results folder

With `per_sample` a row is one sample, and has its score.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.errors import UsageError
from skipdit_cli.recipe import recipe as recipes
from skipdit_cli.report.recipe import Entry, entries
from skipdit_cli.storage import results as scores
from skipdit_cli.storage.kept import damaged_is_absent
from skipdit_cli.storage.store import read_run

if TYPE_CHECKING:
    import pandas as pd

    from skipdit_cli.storage.results import Result

MADE = (
    *("model", "cache", "sampler", "steps", "guidance", "seed"),
    *("num_samples", "batch_size", "precision", "decode_precision", "compile", "quantize"),
    "weights",
)
NUMBERS = ("value", "spread", "interval_low", "interval_high", "paper", "guidance")
OF_MEANS = ("n", "spread", "interval_low", "interval_high", "paper")
COUNTS = ("n", "seed", "num_samples", "batch_size")
COLUMNS = (
    *("row", "group", "metric", "label", "unit", "value", "n", "spread"),
    *("interval_low", "interval_high", "paper", "status", "note", "protocol"),
    *("run", "reference", *MADE),
)


def frame(
    what: str | Path,
    *,
    results: str | Path | None = None,
    scale: str | None = None,
    overrides: Iterable[str] = (),
    per_sample: bool = False,
) -> "pd.DataFrame":
    """The numbers of a recipe, or of a results folder, a row per run and metric.

    What is not known is missing: a number is NaN, a count or text is NA. Columns:

        row, group            of the recipe: its label, its data set
        metric, label, unit   "psnr", "PSNR", "dB"
        value, n, spread      as `skipdit_cli.storage.results.Result` defines them
        interval_low, _high   95 % interval of the mean over samples
        paper                 the published value; at the tiny scale only where the two compare
        status, note          why there is no value, or how it compares with the paper's
        protocol              whose definition of the metric it is
        run, reference        keys of the run and of the one it was compared with
        model, cache, ...     settings of the run, as they are in its key; no seed where there are
                              several, unless per sample

    Args:
        what: a recipe (`skipdit ls recipes`), a YAML file, or a results folder.
        results: the folder that a recipe's results are in; "results" unless given.
        scale: of a recipe: "tiny", unless given, or "paper".
        overrides: of a recipe: `key=value`, as `--set` takes them.
        per_sample: a row per run, metric and sample instead, of metrics that score samples one by
            one: `value` is the score of the sample whose index is in a last column, `sample`; what
            is known of a mean, or published, is missing.
    Raises:
        UsageError: no such recipe or scale, or a folder without results.
        StoreError: a result on disk cannot be read.
    """
    import pandas as pd

    if str(what) not in recipes.names() and Path(what).is_dir():
        if results is not None or scale is not None or overrides:
            fix = "leave results, scale and overrides out"
            raise UsageError("is a results folder, not a recipe", place=str(what), fix=fix)
        records = _of_folder(Path(what))
    else:
        chosen = recipes.load_recipe(str(what), scale=scale or "tiny", overrides=overrides)
        cells_by_row = entries(chosen, root=Path(results or "results"))
        rows = zip(chosen.rows, cells_by_row, strict=True)
        records = [_of_entry(row.label, each) for row, cells in rows for each in cells]
    if per_sample:
        records = [each for record in records for each in _of_samples(record)]
    made = pd.DataFrame(records, columns=[*COLUMNS, *(["sample"] if per_sample else [])])
    types = dict.fromkeys(NUMBERS, "float64") | dict.fromkeys(COUNTS, "Int64")
    types |= {"sample": "Int64"} if per_sample else {}
    return made.astype(dict.fromkeys(COLUMNS, "string") | types)


def _of_samples(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A record of a mean as one of each of its samples."""
    if registry.known("metrics", record["metric"]):
        seeds = record.get("seeds") or (record.get("seed"),)
        for index, score in enumerate(record["scores"] or ()):
            own = {"sample": index, "value": score, "seed": seeds[index % len(seeds)]}
            yield record | dict.fromkeys(OF_MEANS) | own


def _of_entry(row: str, entry: Entry) -> dict[str, Any]:
    column, cell, result = entry.column, entry.cell, entry.result
    low, high = cell.interval or (None, None)
    return {
        **(_settings(entry.run.to_dict()) if entry.run else {}),
        "row": row,
        "group": column.group or None,
        "metric": column.metric,
        "label": column.label,
        "unit": column.unit,
        "value": cell.ours,
        "n": result.n if result and cell.ours is not None else None,
        "spread": cell.spread,
        "interval_low": low,
        "interval_high": high,
        "paper": cell.paper,
        "scores": cell.scores,
        "status": cell.status,
        "note": cell.note,
        "protocol": cell.protocol,
        "run": entry.run.key if entry.run else None,
        "reference": result.reference if result else None,
    }


def _of_folder(root: Path) -> list[dict[str, Any]]:
    """A record per result on disk, in the order of run keys and metrics."""
    paths = [*root.glob("scores/*/*.json"), *root.glob("scores/*/series/*-n*/*.json")]
    metrics: dict[str, set[str]] = {}
    for path in paths:
        metrics.setdefault(path.relative_to(root).parts[1], set()).add(path.stem)
    if not paths:
        fix = "make some with `skipdit cache-sweep`, or name another folder"
        raise UsageError("there are no results here", place=str(root), fix=fix)
    records = []
    for run in sorted(metrics):
        described: dict[str, Any] = {}
        with damaged_is_absent():
            described = read_run(root, run)
        settings = _settings(described.get("run", {}))
        for name in sorted(metrics[run]):
            scored = [scores.read_result(root, run, name)]
            scored += scores.besides(root, run, name).values()
            records += [settings | _of_result(result) for result in scored if result]
    return records


def _of_result(result: "Result") -> dict[str, Any]:
    low, high = result.interval or (None, None)
    known = registry.known("metrics", result.metric)
    label = registry.label(result.metric) if known else result.metric
    return {
        "metric": result.metric,
        "label": label,
        "unit": result.unit,
        "value": result.value,
        "n": result.n,
        "spread": result.spread,
        "interval_low": low,
        "interval_high": high,
        "scores": result.scores,
        "status": result.status,
        "note": result.note,
        "protocol": result.protocol,
        "run": result.run,
        "reference": result.reference,
    }


def _settings(run: Mapping[str, Any]) -> dict[str, Any]:
    seeds = run.get("seeds")
    return {key: run.get(key) for key in MADE} | ({"seed": None, "seeds": seeds} if seeds else {})
