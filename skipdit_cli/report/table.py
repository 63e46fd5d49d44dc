"""Tables: what was measured, beside what the paper says; numbers that were not computed are absent.

What a table is, and what the table of a recipe and that of a sweep have in common.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.checkpoints.card import data_of
from skipdit_cli.storage.results import margin_of

if TYPE_CHECKING:
    from skipdit_cli.run import Run
    from skipdit_cli.storage.results import Result

STATUSES = {
    "match": "the difference is within the tolerance of the column",
    "off": "the difference is larger than that",
    "measured": "the paper gives no value to compare with",
    "random weights": "a dry run: the score is of weights drawn at random, and means nothing",
    "tiny scale": "computed on an embedded model; not comparable with the paper",
    "reference": "the uncached run that the others are compared with",
    "not run": "no result on disk",
    "needs weights": "a checkpoint, or a network that the metric needs, is not here; see the note",
    "planned": "skipdit cannot measure this yet; see the note",
    "failed": "the run ended with an error; see the note",
}
DRY = "random weights"
FEWER = "no cache, fewer steps"  # the series of these runs in plots
FIRST = ("psnr", "ssim")  # metrics that come before the others
INCOMPARABLE = (DRY, "tiny scale")  # with the paper
COUNTS = {"macs": "macs_paper", "flops": "flops"}  # cost columns with a unit of operations
UNITS = (("T", 1e12), ("G", 1e9), ("M", 0))  # of counts, by the largest in the column
DECIMALS = {
    "ssim": 3,
    "lpips": 3,
    "dino-similarity": 4,
    "dinov2-similarity": 4,
    "clip-iqa": 3,
    "cmmd": 3,
    "kid": 5,
    "accuracy": 3,
    "memory": 1,
    "macs_share": 1,
}
FACTORS = {"T": 1e-12, "G": 1e-9, "M": 1e-6, "ms": 1e3, "MiB": 2**-20, "GiB": 2**-30, "%": 100}


@dataclass(frozen=True)
class Heading:
    """What a column of numbers is about.

    Attributes:
        key: its name in CSV ("digits_psnr", "flops_t").
        metric: what is measured ("psnr", "macs").
        label: its heading ("PSNR").
        unit: of its numbers ("dB").
        better: "higher", "lower" or "".
        decimals: of our numbers where people read them; CSV has them in full.
        shown: the unit that people read, where it is another one than `unit`.
        paper: whether the paper's values stand in a column of their own, to the right of ours.
        group: the data set of a recipe's column; "" where the column has none.
    """

    key: str
    metric: str
    label: str
    unit: str = ""
    better: str = ""
    decimals: int = 2
    shown: str = ""
    paper: bool = False
    group: str = ""

    @property
    def size(self) -> float:
        """How many of what is counted one `unit` is: 1e12 for "T"."""
        return 1 / FACTORS.get(self.unit, 1)

    @property
    def factor(self) -> float:
        """What a value is multiplied with to be in the unit that people read."""
        return FACTORS[self.shown] * self.size if self.shown else 1


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of ours beside the paper's, in the unit of its heading.

    Attributes:
        paper: the published value; None where there is none.
        ours: None unless it was computed.
        spread: standard deviation of ours over samples.
        interval: 95 % interval of ours, over samples or over the repetitions of a timing.
        scores: what ours is the average of, sample by sample or repetition by repetition.
        n: number of samples behind ours; None for what is counted or timed.
        status: one of STATUSES.
        note: one line for people.
        protocol: whose definition of the metric ours follows; "" for what is counted or timed.
        relative: whether ours is a difference of two lines, which is no number of its column.
        point: what its marker in a plot is called, where it is not called as its line's others.
    """

    paper: float | None = None
    ours: float | None = None
    spread: float | None = None
    interval: tuple[float, float] | None = None
    scores: tuple[float, ...] | None = None
    n: int | None = None
    status: str
    note: str = ""
    protocol: str = ""
    relative: bool = False
    point: str = ""

    @property
    def margin(self) -> float | None:
        """Margin of error; None where it is not known."""
        return margin_of(self.interval)

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, to nine decimals; None where they cannot be compared."""
        if self.ours is None or self.paper is None or self.status in INCOMPARABLE:
            return None
        return round(self.ours - self.paper, 9)


@dataclass(frozen=True)
class Line:
    """One row.

    Attributes:
        names: one text per entry of Table.names.
        cells: one per heading.
        runs: keys of the runs behind the numbers.
        series: which line of a plot the row belongs to.
        point: what its marker in the plot is called.
        reference: whether this is the uncached run that others are compared with.
        fewer: whether it is an uncached run of fewer steps, which caches have to beat.
        spec: of the cache, as --cache takes it, but for what a calibration finds; "" of no run.
    """

    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    runs: tuple[str, ...] = ()
    series: str = ""
    point: str = ""
    reference: bool = False
    fewer: bool = False
    spec: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of numbers.

    Attributes:
        names: headings of the texts that each line begins with; people read those of `shown`.
        published: whether a cell has the paper's number beside ours, their difference and a status.
        margins: whether a cell has its margin; else `sizes` tells the largest of each column.
        provenance: what made the numbers, for people: version and commit, device, torch, time.
        command: the command lines that made them, one per line.
    """

    title: str
    names: tuple[str, ...]
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    published: bool = True
    margins: bool = True
    notes: tuple[str, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)
    command: str = ""

    def cell(self, line: Line, metric: str, group: str = "") -> Cell | None:
        """A line's cell in the first column of a metric, None if the table has no such column.

        Args:
            group: of a data set, whose own column comes before one of none; "" is any.
        """
        pairs = zip(self.headings, line.cells, strict=True)
        cells = [(heading.group, cell) for heading, cell in pairs if heading.metric == metric]
        for wanted in (group, "") if group else ():
            if found := [cell for of, cell in cells if of == wanted]:
                return found[0]
        return cells[0][1] if cells and not group else None

    @property
    def shown(self) -> tuple[int, ...]:
        """Places of the names that people read: those that are not the same in all lines.

        Uncached runs have no window, which does not make windows differ.
        """
        places = range(len(self.names))
        told = tuple(i for i in places if len(self._values(i)) > 1)
        return told if told and len(self.lines) > 1 else tuple(places)

    @property
    def same(self) -> str:
        """What the other names are, unless the title begins with it: `window 900-50`."""
        left = [i for i in range(len(self.names)) if i not in self.shown]
        values = [(self.names[i], next(iter(self._values(i)), "")) for i in left]
        return ", ".join(
            f"{name} {text}" for name, text in values if not self.title.startswith(text)
        )

    def _values(self, place: int) -> set[str]:
        """The different texts of a name, without that of an uncached run that has none."""
        return {
            text
            for line in self.lines
            if (text := line.names[place]) or not (line.reference or line.fewer)
        }

    @property
    def counted(self) -> bool:
        """Whether each cell says how many samples are behind it, rather than one note for all."""
        return self.margins or len(counts_of(self.lines)) > 1


def one_protocol(lines: Iterable[Line]) -> tuple[Line, ...]:
    """The lines, without the numbers that follow another protocol than others of their column."""
    lines = tuple(lines)
    columns = [protocols_of(lines, i) for i in range(len(lines[0].cells) if lines else 0)]

    def kept(cell: Cell, known: list[str]) -> Cell:
        if cell.ours is None or not cell.protocol or cell.protocol == known[0]:
            return cell
        note = f"scored by {cell.protocol}, the column by {known[0]}"
        return Cell(paper=cell.paper, status="not run", note=note)

    return tuple(
        replace(line, cells=tuple(kept(*pair) for pair in zip(line.cells, columns, strict=True)))
        for line in lines
    )


def counts_of(lines: Iterable[Line]) -> list[int]:
    """The different numbers of samples behind the scores."""
    counts = (cell.n for line in lines for cell in line.cells)
    return list(dict.fromkeys(n for n in counts if n is not None))


def protocols_of(lines: Sequence[Line], column: int) -> list[str]:
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


def known_to(result: "Result", unit: str, *, per: int = 1) -> dict[str, Any]:
    """What a cell in a unit says of the uncertainty of a result, or of its share per sample."""
    many = (
        None if each is None else tuple(scaled(x, unit, result.unit) / per for x in each)
        for each in (result.interval, result.scores)
    )
    spread = None if result.spread is None else scaled(result.spread, unit, result.unit) / per
    return dict(zip(("interval", "scores"), many, strict=True)) | {"spread": spread}


def count_unit(counts: Iterable[float]) -> str:
    """The unit in which the largest of the counts is 1 or more: "T", "G" or "M"."""
    largest = max(counts, default=0)
    return next(unit for unit, least in UNITS if largest >= least)


def summary(facts: Iterable[dict[str, Any]]) -> dict[str, str]:
    """What several provenance records say, each different answer once, times as first to last."""
    facts = [fact for fact in facts if fact]
    said: dict[str, list[Any]] = {
        "skipdit": [_version(fact) for fact in facts],
        "device": [fact.get("device") for fact in facts],
        "torch": [fact.get("torch") for fact in facts],
    }
    texts = {
        key: ", ".join(dict.fromkeys(str(value) for value in values if value))
        for key, values in said.items()
    }
    times = sorted({str(fact["time"]) for fact in facts if fact.get("time")})
    texts["time"] = " to ".join(dict.fromkeys([*times[:1], *times[-1:]]))
    return {key: text for key, text in texts.items() if text}


def commands(facts: Iterable[dict[str, Any]]) -> str:
    """The commands of several provenance records, each once."""
    return "\n".join(dict.fromkeys(fact["command"] for fact in facts if fact.get("command")))


def decimals(metric: str) -> int:
    """Decimals that a metric is printed with."""
    return DECIMALS.get(metric.removesuffix(f"@{data_of(metric)}"), 2)


def metric_heading(metric: str) -> Heading:
    """The heading of a metric's scores, in its own unit."""
    module = registry.load("metrics", metric)
    return Heading(
        metric, metric, registry.label(metric), module.UNIT, module.BETTER, decimals(metric)
    )


def in_order(metrics: Iterable[str]) -> list[str]:
    """Metrics, each once, in the order of the columns: FIRST, then by name."""
    return sorted(set(metrics), key=lambda metric: (metric not in FIRST, metric))


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
        run.is_reference
        and registry.known("metrics", metric)
        and registry.load("metrics", metric).NEEDS == "pairs"
    )


def is_dry(run: "Run", metric: str) -> bool:
    """Whether a metric is a score of samples that mean nothing."""
    return run.card.random and registry.known("metrics", metric)


def _version(fact: dict[str, Any]) -> str:
    if not fact.get("commit"):
        return fact.get("skipdit", "")
    changes = " with changes" if fact.get("dirty") else ""
    return f"{fact['skipdit']} (commit {fact['commit'][:10]}{changes})"
