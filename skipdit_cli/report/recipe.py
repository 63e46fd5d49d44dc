"""The table of a recipe: what is on disk and what is counted, beside the published values.

Scores and timings are read from the results on disk, MACs and FLOPs from the plan, published values
from results/published. At the tiny scale a published value is given only where it compares.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.cache import NONE
from skipdit_cli.errors import MissingAssetError
from skipdit_cli.recipe import published
from skipdit_cli.recipe.recipe import COSTS, COUNTED, TIMINGS
from skipdit_cli.report import notes
from skipdit_cli.report.table import (
    COUNTS,
    DRY,
    FEWER,
    Cell,
    Heading,
    Line,
    Table,
    commands,
    count_unit,
    decimals,
    is_dry,
    is_reference,
    known_to,
    one_protocol,
    scaled,
    score_status,
    summary,
)
from skipdit_cli.score.certainty import paired
from skipdit_cli.storage import failures, provenance, results

if TYPE_CHECKING:
    from skipdit_cli.plan.plan import RunPlan
    from skipdit_cli.recipe.shape import Column, Recipe, RecipeRow
    from skipdit_cli.run import Run
    from skipdit_cli.storage.results import Result

RELATIVE = ("macs_share", "speedup")  # what a small model and a large one can be compared by
TINY = (
    "These are numbers of small embedded models: compare the rows with one another. The paper's "
    "stand beside them where the two compare: speedup and share of FLOPs, each against the "
    "uncached model of the row's kind."
)
ALONE = "These are numbers of small embedded models: compare the rows with one another."


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A cell and what is behind it.

    Attributes:
        column: what the cell is about.
        cell: the numbers.
        run: the run that was scored or timed; None where the row or column is planned.
        result: the score or timing on disk; None where there is none, and for what is counted.
    """

    column: "Column"
    cell: Cell
    run: "Run | None" = None
    result: "Result | None" = None


def build_recipe_table(recipe: "Recipe", *, root: Path) -> Table:
    """The table of a recipe, from what is on disk under the results folder `root`.

    Raises:
        StoreError: a result on disk cannot be read.
        UsageError: the recipe names what is not known.
    """
    rows = entries(recipe, root=root)
    lines = one_protocol(map(_line, recipe.rows, rows))
    headings = tuple(_heading(column, recipe) for column in recipe.columns)
    if recipe.scale == "tiny":
        headings = tuple(_shown(heading, lines, i) for i, heading in enumerate(headings))
    cards = {each.run.card for row in rows for each in row if each.run}
    drawn = any(card.random for card in cards)
    own = bool(cards) and all(card.by_path for card in cards)  # of which no scale says anything
    said = [*([] if own else [f"{recipe.scale} scale"]), *([DRY] if drawn else [])]
    used = [
        each.result for row in rows for each in row if each.result and each.cell.ours is not None
    ]
    facts = [result.provenance for result in used] or [provenance.collect()]
    return Table(
        title=f"{recipe.title} ({', '.join(said)})" if said else recipe.title,
        names=("method",),
        headings=headings,
        lines=lines,
        published=recipe.table is not None and recipe.scale != "tiny",
        margins=recipe.table is None,
        notes=(
            *notes.dry_run(each.run for row in rows for each in row if each.run),
            *([] if own else _scale(recipe, headings)),
            *recipe.notes,
            *notes.by_batch(each.run for row in rows for each in row if each.run),
            *notes.windows(each.run for row in rows for each in row if each.run),
            *notes.of_methods(each.run for row in rows for each in row if each.run),
            *_beaten(recipe, rows, headings),
            *notes.series(
                (row.label, each.result)
                for row, cells in zip(recipe.rows, rows, strict=True)
                for each in cells
                if each.result and each.column.metric in TIMINGS
            ),
            *_paper(recipe.paper),
            *notes.protocols(headings, lines),
            *notes.sizes(headings, lines, each=recipe.table is None),
        ),
        provenance=summary(facts),
        command=commands(facts),
    )


def entries(recipe: "Recipe", *, root: Path) -> list[list[Entry]]:
    """The cells of a recipe's table, a list per row, from what is on disk under `root`.

    Raises:
        StoreError: a result on disk cannot be read.
        UsageError: the recipe names what is not known.
    """
    from skipdit_cli.recipe import runs as known

    runs: dict[str, dict[str, Run]] = {row.id: {} for row in recipe.rows}
    for row, group, run in known.of_recipe(recipe):
        runs[row.id][group] = run
    made = {
        row.id: _row(recipe, row, runs[row.id], root=root)
        for row in recipe.rows
        if row.difference is None
    }
    for row in recipe.rows:
        if row.difference:
            first, second = (made[each] for each in row.difference)
            made[row.id] = [_difference(*pair) for pair in zip(first, second, strict=True)]
    return [made[row.id] for row in recipe.rows]


def _difference(first: Entry, second: Entry) -> Entry:
    """The first minus the second; scores of samples in pairs, with the interval of their mean."""
    one, other = first.cell, second.cell
    if one.ours is None or other.ours is None:
        lacking = one if one.ours is None else other
        return Entry(column=first.column, cell=replace(lacking, ours=None, paper=None))
    scores, theirs = one.scores or (), other.scores or ()
    cell = Cell(ours=one.ours - other.ours, status=one.status, relative=True)
    timed = first.column.metric in TIMINGS  # repetitions do not pair
    if scores and len(scores) == len(theirs) and not timed:
        pairs = paired(scores, theirs)
        apart = tuple(a - b for a, b in zip(scores, theirs, strict=True))
        cell = replace(cell, interval=pairs.interval, n=pairs.n, scores=apart)
    return Entry(column=first.column, cell=cell)


def _beaten(
    recipe: "Recipe", rows: Sequence[Sequence[Entry]], headings: Sequence[Heading]
) -> tuple[str, ...]:
    """The note that names the caches that lose to the row of fewer steps of equal cost, or none."""
    from skipdit_cli.plan import fewer, plan

    if not any(row.fewer_steps for row in recipe.rows):
        return ()
    beside = []
    for i, column in enumerate(recipe.columns):
        fewer_rows = zip(recipe.rows, rows, strict=True)
        found = {row.fewer_steps.get(column.group): cells[i].cell for row, cells in fewer_rows}
        for row, cells in zip(recipe.rows, rows, strict=True):
            run = cells[i].run
            if column.metric in COSTS or run is None or run.cache.name == NONE:
                continue
            if (steps := fewer.of_equal_cost(plan.plan(run), found)) and (other := found[steps]):
                beside.append((row.label, headings[i], cells[i].cell, other))
    return notes.beaten(beside)


def _scale(recipe: "Recipe", headings: Sequence[Heading]) -> list[str]:
    """The notes that say what the tiny scale is not, and what it leaves out."""
    if recipe.scale != "tiny":
        return []
    notes = [TINY if any(heading.paper for heading in headings) else ALONE]
    if recipe.paper_only:
        paper = f"skipdit cache-sweep --recipe {recipe.name} --scale paper"
        left = ", ".join(recipe.paper_only)
        notes.append(f"Left out: {left}. They are measured at paper scale only: `{paper}`.")
    return notes


def _said(setting: tuple[str, Any]) -> str:
    """A setting of a row, as the name of its series tells it: `guidance none`."""
    key, value = setting
    return f"{key} none" if value is None else f"{key} {value}"


def _paper(paper: dict[str, Any]) -> list[str]:
    """The note that says what the published numbers took, or none."""
    forms = {"headline": "{}", "hardware": "{}", "command": "`{}`"}
    said = [form.format(paper[key]) for key, form in forms.items() if key in paper]
    return [f"At paper scale: {'; '.join(said)}."] if said else []


def _heading(column: "Column", recipe: "Recipe") -> Heading:
    compared = recipe.scale == "tiny" and recipe.table is not None and column.metric in RELATIVE
    return Heading(
        column.key,
        column.metric,
        column.label,
        "" if column.unit == "x" else column.unit,
        column.better,
        decimals(column.metric),
        paper=compared,
        group=column.group,
    )


def _shown(heading: Heading, lines: Sequence[Line], index: int) -> Heading:
    """The heading, with the unit in which people read counts of a small model."""
    if heading.metric not in COUNTS:
        return heading
    counts = [ours * heading.size for line in lines if (ours := line.cells[index].ours)]
    unit = count_unit(counts)
    return replace(heading, shown=unit) if counts and unit != heading.unit else heading


def _row(recipe: "Recipe", row: "RecipeRow", runs: dict[str, "Run"], *, root: Path) -> list[Entry]:
    """The cells of one row.

    Args:
        runs: its runs by group; none where it is planned.
    """
    from skipdit_cli.plan import plan
    from skipdit_cli.recipe.runs import timed_run

    paper = _published(recipe, row)
    counted_groups = {column.group for column in recipe.columns if column.metric in COUNTED}
    counts = {
        group: plan.profile(recipe, row, group, root=root)
        for group in (counted_groups if runs else ())
    }
    timed = timed_run(recipe, row) if runs else None
    row_entries = []
    for column in recipe.columns:
        value, reason = paper.get(column.key), row.planned or column.planned
        if reason is not None or timed is None:
            cell = Cell(paper=value, status="planned", note=reason or "")
            row_entries.append(Entry(column=column, cell=cell))
            continue
        if column.metric in COUNTED:
            counted = counts[column.group]
            cell = _counted(column, row, counted, value)
            row_entries.append(Entry(column=column, cell=cell, run=counted.run))
            continue
        scored = runs.get(column.group) or next(iter(runs.values()))
        run = timed if column.metric in TIMINGS else scored
        result = results.read_score(root, run, column.metric)
        cell = _measured(column, run, value, result=result, root=root)
        if row.fewer_steps:
            cell = replace(cell, point=f"{len(run.timesteps)} steps")
        row_entries.append(Entry(column=column, cell=cell, run=run, result=result))
    return row_entries


def _line(row: "RecipeRow", row_entries: Sequence[Entry]) -> Line:
    line, point = _series(row)
    runs = [each.run for each in row_entries if each.run]
    fewer = [run for run in runs if row.cache.name == NONE and not run.is_reference]
    steps = dict.fromkeys(len(run.timesteps) for run in fewer)
    drawn = any(each.run.card.random for each in row_entries if each.run)
    return Line(
        names=(f"{row.label} ({DRY})" if drawn else row.label,),
        cells=tuple(each.cell for each in row_entries),
        runs=tuple(dict.fromkeys(each.run.key for each in row_entries if each.run)),
        series=FEWER if fewer else ", ".join([line, *map(_said, row.settings.items())]),
        point=" or ".join(f"{n}" for n in steps) + " steps" if fewer else point,
        reference=row.cache.name == NONE and not fewer and row.difference is None,
        fewer=bool(fewer),
        spec=row.cache.brief,
    )


def _published(recipe: "Recipe", row: "RecipeRow") -> dict[str, float]:
    """The published values of a row, by the key of their column.

    A share of MACs is that of two published values. At the tiny scale there are only those that
    compare.
    """
    if not recipe.table or not row.published:
        return {}
    values = published.numbers(recipe.table, row.published)
    share = next((each for each in recipe.columns if each.metric == "macs_share"), None)
    macs = next((each.key for each in recipe.columns if each.metric == "macs"), "")
    if share and macs in values:
        same = (each for each in recipe.rows if each.models == row.models and each.published)
        uncached = next((each for each in same if each.cache.name == NONE), None)
        whole = published.numbers(recipe.table, uncached.published).get(macs) if uncached else None
        if whole:
            values[share.key] = round(scaled(values[macs] / whole, share.unit), 9)
    if recipe.scale != "tiny":
        return values
    compared = {each.key for each in recipe.columns if each.metric in RELATIVE}
    return {key: value for key, value in values.items() if key in compared}


def _series(row: "RecipeRow") -> tuple[str, str]:
    """Which line of a plot a row belongs to, and what its marker is called.

    Rows whose label has an interval are a line for each window and each setting that the label has
    besides, PAB235 and PAB347 are one line, and so are `dp-cache K=25` and `K=17`.
    """
    cache, name = row.cache, row.label.split(",")[0]
    n, window = (vars(cache.config).get(key) for key in ("n", "window"))
    if n is None or f"n={n}" not in row.label:
        line, _, point = name.rpartition(" ")
        if "=" in point and point.endswith(tuple("0123456789")):
            return line, point
        return name.rstrip("0123456789"), name
    within = [f"window {'-'.join(map(str, window))}"] if window else []
    others = {k: v for k, v in vars(cache.config).items() if k not in ("n", "window")}
    within += [f"{k}={v}" for k, v in others.items() if f"{k}={v}" in row.label]
    return ", ".join([cache.name, *within]), f"n={n}"


def _counted(column: "Column", row: "RecipeRow", counted: "RunPlan", paper: float | None) -> Cell:
    """A cell of what `plan` counts; what a dynamic method saves is known once it has run."""
    from skipdit_cli.plan import plan

    if column.metric == "macs_share":
        whole = plan.plan(
            counted.run.reference, batch=counted.batch, text_tokens=row.text_tokens
        ).macs_paper
        count = counted.macs_paper and whole and counted.macs_paper / whole
    elif column.metric == "ideal":
        count = counted.ideal_speedup
    else:
        count = getattr(counted, COUNTS[column.metric])
    if count is None:
        return Cell(paper=paper, status="not run")
    ours = scaled(count, column.unit)
    return Cell(paper=paper, ours=ours, status=_verdict(column, counted.run, paper, ours))


def _measured(
    column: "Column", run: "Run", paper: float | None, *, result: "Result | None", root: Path
) -> Cell:
    """A cell of a score or timing."""
    if is_reference(run, column.metric):
        return Cell(paper=paper, status="reference")
    if result is None and (lacking := _lacking(run, column.metric)):
        return Cell(paper=paper, status="needs weights", note=lacking)
    timed = column.metric in TIMINGS
    if result is None or result.value is None:
        if reason := failures.why(root, run, failures.TIMING if timed else column.metric):
            return Cell(paper=paper, status="failed", note=reason)
        return Cell(paper=paper, status=score_status(result), note=result.note if result else "")
    ours = scaled(result.value, column.unit, result.unit)
    short = not timed and result.n != run.num_samples
    return Cell(
        paper=paper,
        ours=ours,
        **known_to(result, column.unit),
        n=None if timed else result.n,
        status=_verdict(column, run, paper, ours),
        note=f"scored with another number of samples than {run.num_samples}" if short else "",
        protocol=result.protocol,
    )


def _lacking(run: "Run", metric: str) -> str:
    """Which checkpoint or network has to be fetched before there can be a number, or ""."""
    from skipdit_cli.assets import assets
    from skipdit_cli.checkpoints import local

    try:
        if run.weights == "absent":
            local.require(run.card)
        for asset in assets.for_metric(metric):
            assets.require(asset)
    except MissingAssetError as error:
        return str(error)
    return ""


def _verdict(column: "Column", run: "Run", paper: float | None, ours: float) -> str:
    """The status of a cell that has a number of ours."""
    if is_dry(run, column.metric):
        return DRY
    if run.card.embedded:
        return "tiny scale"
    if paper is None or run.card.by_path:  # a model of one's own is none of the paper's
        return "measured"
    return "match" if abs(ours - paper) <= column.tolerance * abs(paper) else "off"
