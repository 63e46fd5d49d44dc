"""Tables: what was measured, beside what the paper says; numbers that were not computed are absent.

`build` turns a recipe into a Table. Scores and timings are read from the results on disk, MACs and
FLOPs from the plan, published values from results/published.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import failures, provenance, published, registry, results
from skipdit_cli.errors import MissingAssetError
from skipdit_cli.recipe import COSTS, PAPER_ONLY, TIMINGS
from skipdit_cli.spec import parse_cache

if TYPE_CHECKING:
    from skipdit_cli.plan import Run
    from skipdit_cli.recipe import Column, Recipe, RecipeRow
    from skipdit_cli.results import Result

STATUSES = {
    "match": "the difference is within the tolerance of the column",
    "off": "the difference is larger than that",
    "measured": "the paper gives no value to compare with",
    "tiny scale": "computed on an embedded model; not comparable with the paper",
    "reference": "the uncached run that the others are compared with",
    "not run": "no result on disk",
    "needs weights": "a checkpoint, or a network that the metric needs, is not here; see the note",
    "planned": "skipdit cannot measure this yet; see the note",
    "failed": "the run ended with an error; see the note",
}
COUNTS = {"macs": "macs_paper", "flops": "flops"}  # cost columns that are counted, not timed
DECIMALS = {"ssim": 3, "lpips": 3, "accuracy@digits": 3, "memory": 1}
FACTORS = {"T": 1e-12, "G": 1e-9, "M": 1e-6, "ms": 1e3, "MiB": 2**-20, "GiB": 2**-30, "%": 100}


@dataclass(frozen=True)
class Heading:
    """What a column of numbers is about.

    Attributes:
        key: its name in CSV ("digits_psnr", "flops_t").
        metric: what is measured ("psnr", "macs").
        label, unit: its heading ("PSNR", "dB").
        better: "higher", "lower" or "".
        decimals: of our numbers where people read them; CSV has them in full.
    """

    key: str
    metric: str
    label: str
    unit: str = ""
    better: str = ""
    decimals: int = 2


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of ours beside the paper's, in the unit of its heading.

    Attributes:
        paper: the published value; None where there is none.
        ours: None unless it was computed.
        spread: uncertainty of ours, as its metric defines it.
        n: number of samples behind ours; None for what is counted or timed.
        status: one of STATUSES.
        note: one line for people.
        protocol: whose definition of the metric ours follows; "" for what is counted or timed.
    """

    paper: float | None = None
    ours: float | None = None
    spread: float | None = None
    n: int | None = None
    status: str
    note: str = ""
    protocol: str = ""

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, to nine decimals; None where they cannot be compared."""
        if self.ours is None or self.paper is None or self.status == "tiny scale":
            return None
        return round(self.ours - self.paper, 9)


@dataclass(frozen=True)
class Line:
    """One row.

    Attributes:
        names: one text per entry of Table.names.
        cells: one per heading.
        runs: keys of the runs behind the numbers.
        series, point: which line of a plot the row belongs to, and what its marker is called.
        reference: whether this is the uncached run that others are compared with.
    """

    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    runs: tuple[str, ...] = ()
    series: str = ""
    point: str = ""
    reference: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of numbers.

    Attributes:
        names: headings of the texts that each line begins with.
        published: whether there are published values to stand beside ours.
        provenance: what made the numbers, for people: version and commit, device, torch, time.
        command: the command lines that made them, one per line.
    """

    title: str
    names: tuple[str, ...]
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    published: bool = True
    notes: tuple[str, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)
    command: str = ""

    def cell(self, line: Line, metric: str) -> Cell | None:
        """A line's cell in the first column of a metric, None if the table has no such column."""
        cells = zip(self.headings, line.cells, strict=True)
        return next((cell for heading, cell in cells if heading.metric == metric), None)


def build(recipe: "Recipe", *, root: Path) -> Table:
    """The table of a recipe, from what is on disk under the results folder `root`.

    Raises:
        StoreError: a result on disk cannot be read.
        UsageError: the recipe names what is not known.
    """
    from skipdit_cli import plan

    used: list[Result] = []
    runs: dict[str, dict[str, Run]] = {row.id: {} for row in recipe.rows}
    for row, group, run in plan.runs(recipe):
        runs[row.id][group] = run
    headings = tuple(_heading(column) for column in recipe.columns)
    lines = one_protocol(
        [_line(recipe, row, runs[row.id], root=root, used=used) for row in recipe.rows]
    )
    facts = [result.provenance for result in used] or [provenance.collect()]
    return Table(
        title=f"{recipe.title} ({recipe.scale} scale)" if recipe.scale else recipe.title,
        names=("method",),
        headings=headings,
        lines=lines,
        published=recipe.table is not None,
        notes=(*recipe.notes, *_paper(recipe.paper), *protocols(headings, lines)),
        provenance=summary(facts),
        command=commands(facts),
    )


def one_protocol(lines: Iterable[Line]) -> tuple[Line, ...]:
    """The lines, without the numbers that follow another protocol than others of their column."""
    lines = tuple(lines)
    columns = [_protocols(lines, i) for i in range(len(lines[0].cells) if lines else 0)]

    def kept(cell: Cell, known: list[str]) -> Cell:
        if cell.ours is None or not cell.protocol or cell.protocol == known[0]:
            return cell
        note = f"scored by {cell.protocol}, the column by {known[0]}"
        return Cell(paper=cell.paper, status="not run", note=note)

    return tuple(
        replace(line, cells=tuple(kept(*pair) for pair in zip(line.cells, columns, strict=True)))
        for line in lines
    )


def protocols(headings: Sequence[Heading], lines: Sequence[Line]) -> tuple[str, ...]:
    """One note that tells the protocol of every column that has one; none if none has."""
    found: dict[str, list[str]] = {}
    for i, heading in enumerate(headings):
        for protocol in _protocols(lines, i):
            found.setdefault(protocol, []).append(heading.label)
    said = "; ".join(f"{', '.join(labels)}: {protocol}" for protocol, labels in found.items())
    return (f"Protocols: {said}.",) if said else ()


def _protocols(lines: Sequence[Line], column: int) -> list[str]:
    """The protocols of a column's numbers, in the order of the lines."""
    cells = (line.cells[column] for line in lines)
    return list(dict.fromkeys(cell.protocol for cell in cells if cell.protocol))


def scaled(value: float, unit: str, given: str = "") -> float:
    """A value in the unit of a column.

    Operations, seconds, bytes and shares are given as such and shown as "T", "ms", "MiB" or "%".

    Args:
        given: the unit that the value is in, if it has one of its own.
    """
    return value if unit == given else value * FACTORS.get(unit, 1)


def summary(facts: Iterable[dict[str, Any]]) -> dict[str, str]:
    """What several provenance records say, each different answer once, times as first to last."""
    facts = [fact for fact in facts if fact]
    said: dict[str, list[Any]] = {
        "skipdit": [_version(fact) for fact in facts],
        "device": [fact.get("device") for fact in facts],
        "torch": [fact.get("torch") for fact in facts],
    }
    found = {
        key: ", ".join(dict.fromkeys(str(value) for value in values if value))
        for key, values in said.items()
    }
    times = sorted({str(fact["time"]) for fact in facts if fact.get("time")})
    found["time"] = " to ".join(dict.fromkeys([*times[:1], *times[-1:]]))
    return {key: text for key, text in found.items() if text}


def commands(facts: Iterable[dict[str, Any]]) -> str:
    """The commands of several provenance records, each once."""
    return "\n".join(dict.fromkeys(fact["command"] for fact in facts if fact.get("command")))


def decimals(metric: str) -> int:
    """Decimals that a metric is printed with."""
    return DECIMALS.get(metric, 2)


def score_status(result: "Result | None") -> str:
    """ "ok" if there is a number, else the status of the cell that lacks it."""
    if result is None:
        return "not run"
    if result.value is not None:
        return "ok"
    return result.status if result.status in STATUSES else "not run"


def is_reference(run: "Run", metric: str) -> bool:
    """Whether a metric would compare the run with itself."""
    return (
        run.cache == "none"
        and registry.known("metrics", metric)
        and registry.load("metrics", metric).NEEDS == "pairs"
    )


def _said(setting: tuple[str, Any]) -> str:
    key, value = setting
    return f"{key} none" if value is None else f"{key} {value}"


def _paper(paper: dict[str, Any]) -> list[str]:
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
    from skipdit_cli import plan

    paper = published.find(recipe.table, row.published) if recipe.table and row.published else {}
    counted = plan.profile(recipe, row, root=root) if runs else None
    cells, keys = [], []
    for column in recipe.columns:
        value, reason = paper.get(column.key), row.planned or column.planned
        run = runs.get(column.group) or next(iter(runs.values()), None)
        if reason is not None or run is None or counted is None:
            later = "not run" if reason == PAPER_ONLY else "planned"
            cells.append(Cell(paper=value, status=later, note=reason or ""))
            continue
        if column.metric in COSTS:
            run = counted.run
        keys.append(run.key)
        if column.metric in COUNTS:
            count = getattr(counted, COUNTS[column.metric])
            cells.append(_counted(column, run, value, count))
        else:
            cells.append(_cell(column, run, value, root=root, used=used))
    series, point = _series(row)
    return Line(
        names=(row.label,),
        cells=tuple(cells),
        runs=tuple(dict.fromkeys(keys)),
        series=", ".join([series, *map(_said, row.settings.items())]),
        point=point,
        reference=row.cache == "none",
    )


def _series(row: "RecipeRow") -> tuple[str, str]:
    """Which line of a plot a row belongs to, and what its marker is called.

    Rows whose label has an interval are a line for each window, and PAB235 and PAB347 one line.
    """
    cache, name = parse_cache(row.cache), row.label.split(",")[0]
    n, window = (getattr(cache.config, key, None) for key in ("n", "window"))
    if n is None or f"n={n}" not in row.label:
        return name.rstrip("0123456789"), name
    within = [f"window {'-'.join(map(str, window))}"] if window else []
    return ", ".join([cache.name, *within]), f"n={n}"


def _counted(column: "Column", run: "Run", paper: float | None, count: int | None) -> Cell:
    """A cell of what `plan` counts; None is what only running a dynamic method can tell."""
    if count is None:
        return Cell(paper=paper, status="not run")
    ours = scaled(count, column.unit)
    return Cell(paper=paper, ours=ours, status=_verdict(column, run, paper, ours))


def _cell(
    column: "Column", run: "Run", paper: float | None, *, root: Path, used: list["Result"]
) -> Cell:
    from skipdit_cli import weights
    from skipdit_cli.weights import assets

    if is_reference(run, column.metric):
        return Cell(paper=paper, status="reference")
    result = results.load(root, run.key, column.metric)
    status = score_status(result)
    if result is None and run.weights == "absent":
        try:
            weights.require(run.model)
        except MissingAssetError as error:
            return Cell(paper=paper, status="needs weights", note=str(error))
    if result is None:
        try:
            for name in assets.for_metric(column.metric):
                assets.require(name)
        except MissingAssetError as error:
            return Cell(paper=paper, status="needs weights", note=str(error))
    timed = column.metric in TIMINGS
    if result is None or result.value is None:
        reason = failures.find(root, run, failures.TIMING if timed else column.metric)
        status, note = ("failed", reason) if reason else (status, result.note if result else "")
        return Cell(paper=paper, status=status, note=note)
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


def _verdict(column: "Column", run: "Run", paper: float | None, ours: float) -> str:
    from skipdit_cli import weights

    if weights.card(run.model).embedded:
        return "tiny scale"
    if paper is None:
        return "measured"
    return "match" if abs(ours - paper) <= column.tolerance * abs(paper) else "off"


def _version(fact: dict[str, Any]) -> str:
    if not fact.get("commit"):
        return fact.get("skipdit", "")
    changes = " with changes" if fact.get("dirty") else ""
    return f"{fact['skipdit']} (commit {fact['commit'][:10]}{changes})"
