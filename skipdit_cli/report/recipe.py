"""The table of a recipe: what is on disk and what is counted, beside the published values.

Scores and timings are read from the results on disk, MACs and FLOPs from the plan, published values
from results/published.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import failures, provenance, published, results
from skipdit_cli.errors import MissingAssetError
from skipdit_cli.recipe import COSTS, PAPER_ONLY, TIMINGS
from skipdit_cli.report.table import (
    COUNTS,
    Cell,
    Heading,
    Line,
    Table,
    commands,
    decimals,
    is_reference,
    one_protocol,
    protocols,
    scaled,
    score_status,
    summary,
)
from skipdit_cli.spec import NONE

if TYPE_CHECKING:
    from skipdit_cli.plan import Row
    from skipdit_cli.recipe import Column, Recipe, RecipeRow
    from skipdit_cli.results import Result
    from skipdit_cli.run import Run


def build(recipe: "Recipe", *, root: Path) -> Table:
    """The table of a recipe, from what is on disk under the results folder `root`.

    Raises:
        StoreError: a result on disk cannot be read.
        UsageError: the recipe names what is not known.
    """
    from skipdit_cli import runs as known

    used: list[Result] = []
    runs: dict[str, dict[str, Run]] = {row.id: {} for row in recipe.rows}
    for row, group, run in known.of_recipe(recipe):
        runs[row.id][group] = run
    headings = tuple(_heading(column) for column in recipe.columns)
    lines = one_protocol(
        [_line(recipe, row, runs[row.id], root=root, used=used) for row in recipe.rows]
    )
    facts = [result.provenance for result in used] or [provenance.collect()]
    return Table(
        title=f"{recipe.title} ({recipe.scale} scale)",
        names=("method",),
        headings=headings,
        lines=lines,
        published=recipe.table is not None,
        notes=(*recipe.notes, *_paper(recipe.paper), *protocols(headings, lines)),
        provenance=summary(facts),
        command=commands(facts),
    )


def _said(setting: tuple[str, Any]) -> str:
    """A setting of a row, as the name of its series tells it: `guidance none`."""
    key, value = setting
    return f"{key} none" if value is None else f"{key} {value}"


def _paper(paper: dict[str, Any]) -> list[str]:
    """The note that says what the published numbers took, or none."""
    forms = {"headline": "{}", "hardware": "{}", "hours": "{} hours", "command": "`{}`"}
    said = [form.format(paper[key]) for key, form in forms.items() if key in paper]
    return [f"At paper scale: {'; '.join(said)}."] if said else []


def _heading(column: "Column") -> Heading:
    unit = "" if column.unit == "x" else column.unit
    return Heading(
        column.key, column.metric, column.label, unit, column.better, decimals(column.metric)
    )


def _line(
    recipe: "Recipe",
    row: "RecipeRow",
    runs: dict[str, "Run"],
    *,
    root: Path,
    used: list["Result"],
) -> Line:
    """One row.

    Args:
        runs: its runs by group; none where it is planned.
        used: takes the results behind the cells.
    """
    from skipdit_cli import plan

    paper = published.numbers(recipe.table, row.published) if recipe.table and row.published else {}
    counted = plan.profile(recipe, row, root=root) if runs else None
    cells, keys = [], []
    for column in recipe.columns:
        value, reason = paper.get(column.key), row.planned or column.planned
        if reason is not None or counted is None:
            later = "not run" if reason == PAPER_ONLY else "planned"
            cells.append(Cell(paper=value, status=later, note=reason or ""))
            continue
        scored = runs.get(column.group) or next(iter(runs.values()))
        run = counted.run if column.metric in COSTS else scored
        keys.append(run.key)
        if column.metric in COUNTS:
            cells.append(_counted(column, counted, value))
        else:
            cells.append(_measured(column, run, value, root=root, used=used))
    series, point = _series(row)
    return Line(
        names=(row.label,),
        cells=tuple(cells),
        runs=tuple(dict.fromkeys(keys)),
        series=", ".join([series, *map(_said, row.settings.items())]),
        point=point,
        reference=row.cache.name == NONE,
    )


def _series(row: "RecipeRow") -> tuple[str, str]:
    """Which line of a plot a row belongs to, and what its marker is called.

    Rows whose label has an interval are a line for each window, and PAB235 and PAB347 one line.
    """
    cache, name = row.cache, row.label.split(",")[0]
    n, window = (vars(cache.config).get(key) for key in ("n", "window"))
    if n is None or f"n={n}" not in row.label:
        return name.rstrip("0123456789"), name
    within = [f"window {'-'.join(map(str, window))}"] if window else []
    return ", ".join([cache.name, *within]), f"n={n}"


def _counted(column: "Column", counted: "Row", paper: float | None) -> Cell:
    """A cell of what `plan` counts; what a dynamic method saves is known once it has run."""
    count = getattr(counted, COUNTS[column.metric])
    if count is None:
        return Cell(paper=paper, status="not run")
    ours = scaled(count, column.unit)
    return Cell(paper=paper, ours=ours, status=_verdict(column, counted.run, paper, ours))


def _measured(
    column: "Column", run: "Run", paper: float | None, *, root: Path, used: list["Result"]
) -> Cell:
    """A cell of a score or timing; the result behind it is put into `used`."""
    if is_reference(run, column.metric):
        return Cell(paper=paper, status="reference")
    result = results.read_result(root, run.key, column.metric)
    if result is None and (lacking := _lacking(run, column.metric)):
        return Cell(paper=paper, status="needs weights", note=lacking)
    timed = column.metric in TIMINGS
    if result is None or result.value is None:
        if reason := failures.why(root, run, failures.TIMING if timed else column.metric):
            return Cell(paper=paper, status="failed", note=reason)
        return Cell(paper=paper, status=score_status(result), note=result.note if result else "")
    used.append(result)
    ours = scaled(result.value, column.unit, result.unit)
    short = not timed and result.n != run.num_samples
    return Cell(
        paper=paper,
        ours=ours,
        spread=None if result.spread is None else scaled(result.spread, column.unit, result.unit),
        n=None if timed else result.n,
        status=_verdict(column, run, paper, ours),
        note=f"scored with another number of samples than {run.num_samples}" if short else "",
        protocol=result.protocol,
    )


def _lacking(run: "Run", metric: str) -> str:
    """Which checkpoint or network has to be fetched before there can be a number, or ""."""
    from skipdit_cli import weights
    from skipdit_cli.weights import assets

    try:
        if run.weights == "absent":
            weights.require(run.card)
        for asset in assets.for_metric(metric):
            assets.require(asset)
    except MissingAssetError as error:
        return str(error)
    return ""


def _verdict(column: "Column", run: "Run", paper: float | None, ours: float) -> str:
    """The status of a cell that has a number of ours."""
    if run.card.embedded:
        return "tiny scale"
    if paper is None:
        return "measured"
    return "match" if abs(ours - paper) <= column.tolerance * abs(paper) else "off"
