"""Plots of a table: how much quality a cache costs for the speed it gives."""

import io
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from skipdit_cli.errors import IncompleteError
from skipdit_cli.report.ranks import told_apart
from skipdit_cli.report.table import Cell, Heading, Line, Table
from skipdit_cli.score.certainty import Interval
from skipdit_cli.storage.disk import write_whole

# Okabe and Ito's colours, told apart with every common colour vision. There is one marker more than
# there are colours, so that colour and marker together tell 56 series apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
TITLE = 95  # characters of a line
CROWDED = 6  # series; the legend of more would lie over their markers, and stands beside them
WIDTH, HEIGHT, DPI = 1000, 640, 100  # pixels, pixels, per inch
SPEEDUPS = {"speedup": "measured speedup (×)", "ideal": "ideal speedup, from MACs (×)"}

LEAST = {"speedup": 0.2, "ideal": 0.2, "psnr": 1.0}  # that an axis spans: less is noise


@dataclass(frozen=True)
class Point:
    """A line of a table in a plot: its speedup, its PSNR, and what its marker is called."""

    speedup: Cell
    psnr: Cell
    label: str

    @property
    def at(self) -> tuple[float, float]:
        """Where its marker is."""
        return _number(self.speedup), _number(self.psnr)

    @property
    def bars(self) -> tuple[Interval, Interval]:
        """The intervals of both numbers; where none is known, from the number to itself."""
        x, y = self.at
        return self.speedup.interval or (x, x), self.psnr.interval or (y, y)


def plot(table: Table, path: Path) -> Path:
    """Draw PSNR against speedup as PNG; returns the path.

    One marker per line of the table that has both numbers, joined in order of speedup for the
    lines of one series; beside several series, one of a single marker has its label in the legend.
    The speedup is the measured one where every line with a PSNR has it, and the ideal one
    otherwise. The reference, whose PSNR has no number, is a vertical line.

    Raises:
        IncompleteError: no line has both numbers.
        StoreError: the disk is full or the folder cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    key, series = points(table)
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvline(1, color="#777777", linestyle="--", linewidth=1.5, zorder=1)
    references = [line.names[0] for line in table.lines if line.reference]
    shown = f"reference: {references[0]}, uncached" if len(references) == 1 else "uncached"
    axes.annotate(
        f"{shown} (1×)",
        (1, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(6, 0),
        textcoords="offset points",
        rotation=90,
        color="#555555",
        fontsize=11,
    )
    for i, (label, series_points) in enumerate(series.items()):
        ordered = sorted(series_points, key=lambda point: point.at)
        x, y = zip(*(point.at for point in ordered), strict=True)
        across, up = zip(*(point.bars for point in ordered), strict=True)
        names = [point.label for point in ordered]
        colour = COLOURS[i % len(COLOURS)]
        axes.errorbar(
            x,
            y,
            xerr=_lengths(x, across),
            yerr=_lengths(y, up),
            label=called(label, names[0]) if len(names) == 1 != len(series) else label,
            color=colour,
            marker=MARKERS[i % len(MARKERS)],
            markersize=8,
            linewidth=2,
            elinewidth=1.2,
            capsize=3,
        )
        labelled = zip(names, zip(x, y, strict=True), strict=True)
        for name, place in labelled if len(names) > 1 or len(series) == 1 else ():
            axes.annotate(
                name,
                place,
                xytext=(7, 7),
                textcoords="offset points",
                fontsize=12,
                color=colour,
                zorder=4,
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )
    axes.set_xlabel(SPEEDUPS[key], fontsize=13)
    axes.set_ylabel("PSNR against the uncached samples (dB)", fontsize=13)
    axes.set_title(textwrap.fill(table.title, TITLE), fontsize=13, loc="left")
    axes.tick_params(labelsize=12)
    every = [point for series_points in series.values() for point in series_points]
    axes.set_xlim(extent(key, [1.0, *(x for point in every for x in point.bars[0])]))
    axes.set_ylim(extent("psnr", [y for point in every for y in point.bars[1]]))
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > CROWDED:
        axes.legend(fontsize=11, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    else:
        axes.legend(fontsize=12, frameon=False)
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    write_whole(path, data.getvalue())
    return path


def points(table: Table) -> tuple[str, dict[str, list[Point]]]:
    """What is drawn: which speedup ("speedup" or "ideal"), and the points of every series.

    Raises:
        IncompleteError: no line has both numbers.
    """
    scored = [ln for ln in table.lines if _ours(table, ln, "psnr") is not None and not ln.reference]
    measured = all(_ours(table, line, "speedup") is not None for line in scored)
    key = "speedup" if measured else "ideal"
    series: dict[str, list[Point]] = {}
    for line in scored:
        speedup, psnr = table.cell(line, key), table.cell(line, "psnr")
        if speedup and psnr and None not in (speedup.ours, psnr.ours):
            series.setdefault(line.series, []).append(Point(speedup, psnr, line.point))
    if not series:
        raise IncompleteError("no line has a PSNR and a speedup to plot", place=table.title)
    return key, series


def _ours(table: Table, line: Line, metric: str) -> float | None:
    cell = table.cell(line, metric)
    return cell.ours if cell else None


def called(series: str, label: str) -> str:
    """What a point is called among others: its series too, once.

    >>> called("skip-cache", "n=2"), called("FORA, guidance 1.5", "FORA")
    ('skip-cache, n=2', 'FORA, guidance 1.5')
    """
    return series if label in series.split(", ") else f"{series}, {label}"


def extent(metric: str, values: Iterable[float]) -> tuple[float, float]:
    """From where to where an axis goes: around its values, and no less than tells them from noise.

    >>> extent("psnr", [30.0, 40.0]), extent("psnr", [30.0, 30.1])
    ((28.8, 41.2), (29.55, 30.55))
    """
    values = [*values]
    low, high = min(values), max(values)
    margin = max((high - low) * 0.12, (LEAST[metric] - (high - low)) / 2)
    return round(low - margin, 9), round(high + margin, 9)


def front(points: Iterable[Point], key: str) -> list[Point]:
    """The Pareto front: the points that no other one beats for sure.

    One beats another if it is as fast and as good, and surely faster or surely better.

    Args:
        key: "speedup" or "ideal", of which the speedups are.
    """
    points = [*points]
    return [point for point in points if not any(_beats(each, point, key) for each in points)]


def _beats(one: Point, other: Point, key: str) -> bool:
    if one.at[0] < other.at[0] or one.at[1] < other.at[1] or one.at == other.at:
        return False
    sides = ((key, one.speedup, other.speedup), ("psnr", one.psnr, other.psnr))
    return any(told_apart(Heading(k, k, k), mine, {0: theirs}) for k, mine, theirs in sides)


def _lengths(values: Sequence[float], bars: Sequence[Interval]) -> list[list[float]]:
    """How far bars reach below and above, as matplotlib takes them [2, n]."""
    pairs = [*zip(values, bars, strict=True)]
    below = [max(0.0, value - low) for value, (low, _) in pairs]
    return [below, [max(0.0, high - value) for value, (_, high) in pairs]]


def _number(cell: Cell) -> float:
    assert cell.ours is not None  # only lines that have both numbers are points
    return cell.ours
