"""Tables: what was measured, beside what the paper says; numbers that were not computed are absent.

What a table is, and what the table of a recipe and that of a sweep have in common.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.checkpoints.card import DRY_RUN

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
MARGIN = (
    "half the width of the 95 % interval, of a mean over samples by bootstrap, of a timing's "
    "median over its repetitions (of fewer than six, half their range)"
)
INCOMPARABLE = (DRY, "tiny scale")  # with the paper
COUNTS = {"macs": "macs_paper", "flops": "flops"}  # cost columns that are counted, not timed
UNITS = (("T", 1e12), ("G", 1e9), ("M", 0))  # of counts, by the largest in the column
DECIMALS = {"ssim": 3, "lpips": 3, "accuracy@digits": 3, "memory": 1, "macs_share": 1}
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
    """

    key: str
    metric: str
    label: str
    unit: str = ""
    better: str = ""
    decimals: int = 2
    shown: str = ""
    paper: bool = False

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

    @property
    def margin(self) -> float | None:
        """Margin of error: half the width of the interval; None where it is not known."""
        return self.interval and (self.interval[1] - self.interval[0]) / 2

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

    def cell(self, line: Line, metric: str) -> Cell | None:
        """A line's cell in the first column of a metric, None if the table has no such column."""
        cells = zip(self.headings, line.cells, strict=True)
        return next((cell for heading, cell in cells if heading.metric == metric), None)

    @property
    def counted(self) -> bool:
        """Whether each cell says how many samples are behind it, rather than one note for all."""
        return self.margins or len(_sizes(self.lines)) > 1


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
    labels_by_protocol: dict[str, list[str]] = {}
    for i, heading in enumerate(headings):
        for protocol in _protocols(lines, i):
            labels_by_protocol.setdefault(protocol, []).append(heading.label)
    said = "; ".join(
        f"{', '.join(labels)}: {protocol}" for protocol, labels in labels_by_protocol.items()
    )
    return (f"Protocols: {said}.",) if said else ()


def by_batch(runs: Iterable["Run"]) -> tuple[str, ...]:
    """One note that names the methods whose samples depend on their batch; none if none does."""
    deciding = [run for run in runs if run.cache.method.BY_BATCH and run.batch_size > 1]
    names = ", ".join(dict.fromkeys(run.cache.name for run in deciding))
    note = (
        f"Decided for a whole batch, so that a sample depends on the others of its batch: {names}."
    )
    return (note,) if names else ()


def dry_run(runs: Iterable["Run"]) -> tuple[str, ...]:
    """One note that says that weights are random; none if none are."""
    drawn = [run for run in runs if run.card.random]
    if not drawn:
        return ()
    dynamic = ", ".join(dict.fromkeys(run.cache.name for run in drawn if run.cache.method.DYNAMIC))
    note = f"{DRY_RUN[0].upper()}{DRY_RUN[1:]}. What is counted or timed does not depend on weights"
    return (note + (f", but for what {dynamic} skips." if dynamic else "."),)


def windows(runs: Iterable["Run"]) -> tuple[str, ...]:
    """One note that tells the window of every method, where cached runs have different ones."""
    methods: dict[str, dict[str, None]] = {}
    for run in runs:
        if not run.is_reference:
            methods.setdefault(run.cache.span, {})[run.cache.name] = None
    if len(methods) < 2:
        return ()
    said = "; ".join(f"{window} of {', '.join(names)}" for window, names in methods.items())
    return (f"Windows differ, so that the same n does not save the same: {said}.",)


def of_methods(runs: Iterable["Run"]) -> tuple[str, ...]:
    """What methods say of themselves, each once."""
    return tuple(dict.fromkeys(note for run in runs if (note := run.cache.note)))


def sizes(headings: Sequence[Heading], lines: Sequence[Line]) -> tuple[str, ...]:
    """What is the same for many numbers: how many samples they are of, and what they are known to.

    Two notes: the number of samples, where all scores have the same; and the largest margin of
    every column that has margins.
    """
    counts, largest = _sizes(lines), []
    for i, heading in enumerate(headings):
        known = [m for line in lines if (m := line.cells[i].margin) is not None]
        if any(known):
            unit = f" {heading.unit}" if heading.unit else ""
            largest.append(f"{heading.label} {max(known):.2g}{unit}")
    samples = f"Every score is of {counts[0]} samples." if len(counts) == 1 else ""
    margins = f"Largest margin of error of a column: {', '.join(largest)}; that is {MARGIN}."
    return tuple(filter(None, (samples, margins if largest else "")))


def margins(lines: Iterable[Line]) -> tuple[str, ...]:
    """One note that says what stands behind ±; none if nothing does."""
    any_known = any(cell.margin is not None for line in lines for cell in line.cells)
    return (f"± is the margin of error: {MARGIN}.",) if any_known else ()


def _sizes(lines: Iterable[Line]) -> list[int]:
    """The different numbers of samples behind the scores."""
    counts = (cell.n for line in lines for cell in line.cells)
    return list(dict.fromkeys(n for n in counts if n is not None))


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


def known_to(result: "Result", unit: str) -> dict[str, Any]:
    """What a cell in a unit says of the uncertainty of a result."""
    many = (
        None if each is None else tuple(scaled(x, unit, result.unit) for x in each)
        for each in (result.interval, result.scores)
    )
    spread = None if result.spread is None else scaled(result.spread, unit, result.unit)
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
