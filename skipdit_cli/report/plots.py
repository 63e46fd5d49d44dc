"""Quality against speedup: what each cache costs in a metric for the speed that it gives."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.report.cells import ARROWS, heading
from skipdit_cli.report.look import COLOURS, FAINT, GRID, INK, MARKERS, Look, dashes, figure
from skipdit_cli.report.ranks import told_apart
from skipdit_cli.report.room import Box, room
from skipdit_cli.report.table import Cell, Heading, Line, Table
from skipdit_cli.score.certainty import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation, Text

HEIGHT = 0.64  # of a plot's width, without its legend
TO_BEAT: dict[str, Any] = {  # the line of uncached runs of fewer steps
    "color": INK,
    "marker": "o",
    "markerfacecolor": "white",
    "linestyle": (0, (1, 1)),
}
UNCACHED = "uncached (1×)"  # beside the line at the reference's speedup
SPEEDUPS = {"speedup": "measured speedup (×)", "ideal": "ideal speedup, from MACs (×)"}

LEAST = {"speedup": 0.2, "ideal": 0.2, "psnr": 1.0}  # that an axis spans: less is noise
SHARE = 0.02  # of the largest value, the same of other metrics
TINY = 1e-7  # but no less than this, which float32 cannot tell from nothing

Extent = tuple[float, float]  # lowest and highest value of an axis


@dataclass(frozen=True)
class Point:
    """A line of a table in a plot: its speedup, its quality, and what its marker is called."""

    speedup: Cell
    quality: Cell
    label: str

    @property
    def at(self) -> tuple[float, float]:
        """Where its marker is."""
        return _number(self.speedup), _number(self.quality)

    @property
    def bars(self) -> tuple[Interval, Interval]:
        """The intervals of both numbers; where none is known, from the number to itself."""
        x, y = self.at
        return self.speedup.interval or (x, x), self.quality.interval or (y, y)


@dataclass(frozen=True)
class Scatter:
    """A metric against speedup.

    Attributes:
        heading: the column of the metric.
        speedup: which speedup it is: the measured one ("speedup") where every line with a score
            has it, else that of counted operations ("ideal").
        series: the points of every line of the plot; the uncached references are none.
        baselines: scores of the uncached references, by a metric that compares with nothing.
        to_beat: the series of uncached runs of fewer steps, the last one; "" where there is none.
    """

    heading: Heading
    speedup: str
    series: dict[str, list[Point]]
    baselines: tuple[float, ...] = ()
    to_beat: str = ""

    @property
    def points(self) -> list[Point]:
        """Of all series."""
        return [point for series_points in self.series.values() for point in series_points]

    @property
    def axes(self) -> tuple[str, str]:
        """What stands at the axes."""
        against = " against the uncached samples" if _of_pairs(self.heading) else ""
        shown, arrow = heading(self.heading), ARROWS[self.heading.better]
        label = shown.replace(self.heading.label, self.heading.label + against, 1)
        return SPEEDUPS[self.speedup], label.removesuffix(arrow) + arrow

    @property
    def extents(self) -> tuple[Extent, Extent]:
        """From where to where both axes go."""
        bars = [point.bars for point in self.points]
        across = [1.0, *(end for ends, _ in bars for end in ends)]
        up = [*self.baselines, *(end for _, ends in bars for end in ends)]
        return extent(self.speedup, across), extent(self.heading.metric, up)

    @property
    def front(self) -> list[Point]:
        """The Pareto front: the points that no other one beats for sure.

        One beats another if it is as fast and as good, and surely faster or surely better.
        """
        points = self.points
        return [point for point in points if not any(self._beats(each, point) for each in points)]

    def _beats(self, one: Point, other: Point) -> bool:
        sign = 1 if self.heading.better == "higher" else -1
        better = sign * (one.at[1] - other.at[1])
        if one.at[0] < other.at[0] or better < 0 or one.at == other.at:
            return False
        speed = Heading(self.speedup, self.speedup, "")
        sides = ((speed, one.speedup, other.speedup), (self.heading, one.quality, other.quality))
        return any(told_apart(each, mine, {0: theirs}) for each, mine, theirs in sides)


def scatters(table: Table) -> list[Scatter]:
    """A plot for every metric that has a number beside a speedup, in the order of the columns."""
    found = []
    for column, each in enumerate(table.headings):
        if not each.better or not registry.known("metrics", each.metric):
            continue
        numbers = ((line, line.cells[column]) for line in table.lines)
        scored = [line for line, cell in numbers if cell.ours is not None and not cell.relative]
        cached = [line for line in scored if not line.reference]
        measured = all(_ours(table, line, "speedup", each.group) is not None for line in cached)
        key, series = "speedup" if measured else "ideal", dict[str, list[Point]]()
        for line in sorted(cached, key=lambda line: line.fewer):
            speedup = table.cell(line, key, each.group)
            if speedup and speedup.ours is not None:
                quality = line.cells[column]
                point = Point(speedup, quality, quality.point or line.point)
                series.setdefault(line.series, []).append(point)
        own = [line.cells[column].ours for line in scored if line.reference]
        baselines = () if _of_pairs(each) else tuple(score for score in own if score is not None)
        if series:
            to_beat = next((ln.series for ln in cached if ln.fewer and ln.series in series), "")
            found.append(Scatter(each, key, series, baselines, to_beat))
    return found


def draw(one: Scatter, look: Look, *, title: str) -> "Figure":
    """A plot as a figure; `look` has to be applied.

    One marker per point, joined in order of speedup for the points of one series; beside several
    series, one of a single marker has its label in the legend. The reference is a dashed line at
    its speedup and, of a metric that compares with nothing, another one at its score. The line to
    beat has hollow markers and no colour.
    """
    wide = look.characters(look.width - 0.5)
    labels = {
        name: textwrap.fill(_legend(name, points, alone=len(one.series) == 1), wide)
        for name, points in one.series.items()
    }
    height = look.width * HEIGHT
    made = figure(look, height + look.rows(labels.values()))
    axes = made.add_subplot()
    lines = [(axes.axvline, 1.0), *((axes.axhline, score) for score in one.baselines)]
    for line, at in lines:
        line(at, color=FAINT, linestyle=(0, (4, 3)), linewidth=0.7 * look.line, zorder=1)
    said = axes.annotate(
        UNCACHED,
        (1, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(look.small / 3, 0),
        textcoords="offset points",
        rotation=90,
        color=FAINT,
    )
    drawn = []
    for i, (name, points) in enumerate(one.series.items()):
        ordered = sorted(points, key=lambda point: point.at)
        x, y = zip(*(point.at for point in ordered), strict=True)
        across, up = zip(*(point.bars for point in ordered), strict=True)
        container = axes.errorbar(
            x,
            y,
            xerr=_lengths(x, across),
            yerr=_lengths(y, up),
            **(TO_BEAT if name == one.to_beat else _told_by(i)),
            elinewidth=0.6 * look.line,
            capsize=0.4 * look.marker,
        )
        container.lines[0].set_label(labels[name])
        drawn.append(container.lines[0])
    across_title, up_title = one.axes
    axes.set_xlabel(across_title)
    axes.set_ylabel(textwrap.fill(up_title, look.characters(height - 0.5)))
    if not look.paper:
        axes.set_title(textwrap.fill(title, look.characters(look.width)), loc="left")
    limits = one.extents
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
    axes.grid(color=GRID, linewidth=0.4 * look.line)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    look.legend(made, drawn)
    _label(one, made, axes, said=said, look=look)
    return made


def _told_by(index: int) -> dict[str, Any]:
    """What a series is told by."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": dashes(index),
    }


def _legend(series: str, points: Sequence[Point], *, alone: bool) -> str:
    return called(series, points[0].label) if len(points) == 1 and not alone else series


def _label(one: Scatter, made: "Figure", axes: "Axes", *, said: "Annotation", look: Look) -> None:
    """Put the labels of points beside their markers, as far as there is room."""
    from matplotlib.patheffects import withStroke

    made.draw_without_rendering()  # only then it is known where the axes are
    dot, reach = look.dpi / 72, 0.6 * look.marker * look.dpi / 72

    def pixels(at: tuple[float, float]) -> tuple[float, float]:
        x, y = axes.transData.transform(at)
        return float(x), -float(y)

    def box(text: "Text") -> Box:
        extents = text.get_window_extent()
        return extents.x0, -extents.y1, extents.x1, -extents.y0

    spots = [pixels(point.at) for point in one.points]
    inside = (axes.bbox.x0, -axes.bbox.y1, axes.bbox.x1, -axes.bbox.y0)
    taken = [box(said), *((x - reach, y - reach, x + reach, y + reach) for x, y in spots)]
    for points in one.series.values():
        for point in points if len(points) > 1 or len(one.series) == 1 else ():
            text = axes.annotate(
                point.label,
                point.at,
                xytext=(0, 0),
                textcoords="offset points",
                va="bottom",
                zorder=4,
                path_effects=[withStroke(linewidth=1.5 * look.line, foreground="white")],
            )
            text.set_in_layout(False)
            own, (x, y) = box(text), pixels(point.at)
            size = (own[2] - own[0], own[3] - own[1])
            found = room((x, y), size, gap=2 * reach, inside=inside, taken=taken)
            if found is None:
                text.remove()
                continue
            taken.append(found[1])
            text.xyann = ((found[1][0] - x) / dot, (y - found[1][3]) / dot)


def called(series: str, label: str) -> str:
    """What a point is called among others: its series too, once.

    >>> called("skip-cache", "n=2"), called("FORA, guidance 1.5", "FORA")
    ('skip-cache, n=2', 'FORA, guidance 1.5')
    """
    return series if label in series.split(", ") else f"{series}, {label}"


def extent(metric: str, values: Iterable[float]) -> Extent:
    """From where to where an axis goes: around its values, and no less than tells them from noise.

    >>> extent("psnr", [30.0, 40.0]), extent("psnr", [30.0, 30.1])
    ((28.8, 41.2), (29.55, 30.55))
    """
    values = [*values]
    low, high = min(values), max(values)
    share = SHARE * max(abs(low), abs(high))
    least = LEAST.get(metric, max(share, TINY) if share else 1.0)
    margin = max((high - low) * 0.12, (least - (high - low)) / 2)
    return round(low - margin, 9), round(high + margin, 9)


def _lengths(values: Sequence[float], bars: Sequence[Interval]) -> list[list[float]]:
    """How far bars reach below and above, as matplotlib takes them [2, n]."""
    pairs = [*zip(values, bars, strict=True)]
    below = [max(0.0, value - low) for value, (low, _) in pairs]
    return [below, [max(0.0, high - value) for value, (_, high) in pairs]]


def _of_pairs(column: Heading) -> bool:
    """Whether a metric compares with the uncached samples."""
    return bool(registry.load("metrics", column.metric).NEEDS == "pairs")


def _ours(table: Table, line: Line, metric: str, group: str) -> float | None:
    cell = table.cell(line, metric, group)
    return cell.ours if cell else None


def _number(cell: Cell) -> float:
    assert cell.ours is not None  # only lines that have both numbers are points
    return cell.ours
